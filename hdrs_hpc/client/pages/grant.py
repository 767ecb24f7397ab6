"""A grant as one page: who may do what with which data until when, what ends then, what changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hdrs_hpc.catalogue import isolation, outputs
from hdrs_hpc.client.pages.declared_outputs import output_rule
from hdrs_hpc.client.pages.job_spec import selection
from hdrs_hpc.client.pages.layout import (
    Block,
    NamedValues,
    Page,
    Section,
    Table,
    count,
    last_moment,
    listed,
    moment,
    span,
)
from hdrs_hpc.core import clock
from hdrs_hpc.documents.models.data_use import DUO_TERMS
from hdrs_hpc.documents.models.grant import Grant, GrantedDataset, PixelRules
from hdrs_hpc.documents.models.linked_columns import ColumnRule
from hdrs_hpc.forms.words import size_text, walltime_text

_MISSING = object()


@dataclass(frozen=True)
class Change:
    """One place where two grants differ; ``before`` or ``after`` is None where the place is not there."""

    where: str
    before: Any
    after: Any

    def as_dict(self) -> dict[str, Any]:
        return {"where": self.where, "before": self.before, "after": self.after}

    def texts(self) -> tuple[str, str]:
        return _text(self.before), _text(self.after)


def page(grant: Grant, before: Grant | None = None) -> Page:
    """``before``: the version that it takes the place of, where that is known."""
    return Page(
        f"grant for project {grant.project}, version {grant.version}",
        (
            Section(grant.title, [_about(grant)]),
            Section("With which data", _data(grant)),
            Section("What may run", [_limits(grant)]),
            Section("What may leave", _outputs(grant)),
            Section("What it leads to", _consequences(grant)),
            Section(*_changes(grant, before)),
        ),
    )


def changes(old: Grant, new: Grant) -> list[Change]:
    """Every place where the two differ, in the order of the document."""
    before, after = (dict(_flat(_as_written(item), "")) for item in (old, new))
    places, last = list(after), -1
    for place in before:  # what is not there any more stands where it stood
        if place not in after:
            places.insert(last + 1, place)
        last = places.index(place)
    return [
        Change(place, before.get(place), after.get(place))
        for place in places
        if before.get(place, _MISSING) != after.get(place, _MISSING)
    ]


def _about(grant: Grant) -> Block:
    return NamedValues(
        [
            ("for anybody", grant.lay_summary),
            ("approved by", f"{grant.approval.body}, {grant.approval.reference}; {grant.contact}"),
            ("lawful by", f"UK GDPR {grant.legal_basis.article6} and {grant.legal_basis.article9}"),
            ("used for", "; ".join(f"{DUO_TERMS[term]} ({term})" for term in grant.use)),
            ("broker", grant.audience or "any broker under this trust root"),
            ("people", f"{listed(grant.people.researchers)}; lead {grant.people.lead}"),
        ]
    )


def _data(grant: Grant) -> list[Block]:
    found: list[Block] = []
    for name, data in grant.data.items():
        lines = [f"{selection(data.select)}; de-identified by {data.profile}"]
        if data.cohort:
            lines.append(f"only patients of the list {data.cohort}")
        lines += [f"column {column}: {_column(rule)}" for column, rule in data.columns.items()]
        lines.append(f"up to {count(data.max_failed, 'item')} may fail")
        lines += _pixels(data)
        lines.append(f"version {data.version}")
        found += [f"{name}:", *(f"- {line}" for line in lines)]
    return found


def _column(rule: ColumnRule) -> str:
    words = [f"{rule.rule} of {rule.issuer}" if rule.issuer else rule.rule]
    if rule.values:
        words.append(", ".join(rule.values))
    if rule.within:
        words.append(f"only rows of {rule.within[0]}/{rule.within[1]}")
    elif rule.only:
        words.append("only rows of these values")
    return "; ".join(words)


def _pixels(data: GrantedDataset) -> list[str]:
    """What is done about identity in the pixels, and what is not."""
    rules = data.pixels
    if data.columns and rules == PixelRules():
        return []  # a table
    held = "held for a person; this version can not release them through a broker"
    burned_in = {
        "refuse": "images that may carry burned-in text are refused",
        "hold": f"images that may carry burned-in text are {held}",
        "blank": "burned-in text is blanked where a rule knows its place",
    }[rules.burned_in]
    told = [
        burned_in,
        "every image is searched for text" if rules.find_text else "no image is searched for further text",
        f"faces are removed from head scans; scans in which that is not certain are {held}"
        if rules.deface
        else "faces in head scans stay as they are",
    ]
    return [f"pixels: {'; '.join(told)}"]


def _limits(grant: Grant) -> Block:
    limits = grant.limits
    own_code = {
        "none": "no code of their own",
        "reviewed": "own code, once a code reviewer has approved its digest",
        "project": "any code of their own, unread, in a sandbox",
    }[grant.workloads.own_code]
    talk = "nodes of a job may talk to each other" if limits.network == "job" else "no network between nodes"
    return NamedValues(
        [
            ("workloads", ", ".join((*grant.workloads.builtin, own_code))),
            ("bundles", f"up to {size_text(limits.bundle_size)}" if limits.bundle_size else None),
            ("clusters", f"{', '.join(limits.clusters)}, at least {limits.isolation}"),
            ("a job", f"up to {count(limits.nodes, 'node')} for {walltime_text(limits.time)}"),
            ("in all", f"{limits.gpu_hours:,} GPU hours"),
            ("network", talk if isolation.is_contained(limits.isolation) else "no sandbox"),
            (
                "kept",
                f"up to {size_text(limits.kept_size)} for later jobs"
                if limits.kept_size
                else "nothing for later jobs",
            ),
        ]
    )


def _outputs(grant: Grant) -> list[Block]:
    rules = (grant.outputs.rule(row.name) for row in outputs.CLASSES)
    said = [f"- {output_rule(rule)}" for rule in rules if rule is not None] or ["- nothing"]
    if grant.outputs.bits is not None:
        said.append(f"- {grant.outputs.bits:,} bits in all releases together")
    reviewers = count(grant.outputs.reviewers, "reviewer")
    return [*said, f"Of each artefact {reviewers} from outside the project must all agree."]


def _consequences(grant: Grant) -> list[Block]:
    valid = grant.valid
    return [
        f"- From {moment(valid.from_)} until {last_moment(valid.run_until)} {listed(grant.people.researchers)} may run "
        "jobs on these data, each without a custodian being asked again.",
        f"- Then nothing of the project runs any more, and the keys of all staged copies are destroyed at once. "
        f"Reviews may go on for {span(valid.review_grace)}.",
        f"- By {last_moment(valid.destroy_by)} all that the project holds is destroyed, artefacts that were kept or "
        "not released too; a certificate says what is proven of it. What was released stays out.",
        "- Sooner ends it `hdrs-hpc project freeze` (can be lifted), `project close` or `grant revoke` (can not).",
    ]


def _changes(grant: Grant, before: Grant | None) -> tuple[str, Sequence[Block]]:
    if grant.version == 1:
        return "Which version it replaces", ["None: it makes the project."]
    if before is None:
        return "Which version it replaces", [
            f"{grant.supersedes}, which is not at hand here: compare them with `hdrs-hpc grant diff` before you sign."
        ]
    numbers = {"version", "supersedes"}
    rows = [
        (change.where, *change.texts()) for change in changes(before, grant) if change.where not in numbers
    ]
    heading = f"What changes against version {before.version}, which is in force"
    return heading, [Table(("where", "before", "after"), rows)] if rows else ["Nothing."]


def _as_written(grant: Grant) -> dict[str, Any]:
    """As in its file: a whole day as that day, and no field that is not there."""
    value = grant.model_dump(mode="json", exclude_none=True)
    ends = {"from": timedelta(0), "run-until": timedelta(days=1), "destroy-by": timedelta(days=1)}
    for name, more in ends.items():
        at = clock.from_text(value["valid"][name])
        if (at.hour, at.minute, at.second) == (0, 0, 0):
            value["valid"][name] = (at - more).date().isoformat()
    return value


def _flat(value: Any, where: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [
            pair
            for name, item in value.items()
            for pair in _flat(item, f"{where}.{name}" if where else str(name))
        ]
    return [(where, value)]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
