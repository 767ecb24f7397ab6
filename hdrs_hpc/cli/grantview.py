"""A grant as one page, and the difference between two."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import click

from hdrs_hpc.catalogue import isolation, outputs
from hdrs_hpc.cli import show
from hdrs_hpc.documents.models.data_use import DUO_TERMS
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.words import size_text, walltime_text

_MISSING = object()


@dataclass(frozen=True)
class Change:
    """One place where two grants differ; ``before`` or ``after`` is None where the place is not there."""

    where: str
    before: Any
    after: Any

    def as_dict(self) -> dict[str, Any]:
        return {"where": self.where, "before": self.before, "after": self.after}


def standing(project: dict[str, Any]) -> str:
    """Whether anything may run under the grant in force of a project, as the broker shows it."""
    name, state = project["name"], project["state"]
    if state in ("CLOSING", "CLOSED"):
        return f"The project is {state.lower()}: nothing runs under its grant any more."
    if project["frozen"]:
        return (
            f"The project is frozen: nothing runs under its grant until `hdrs-hpc project unfreeze {name}`."
        )
    return "It is in force."


def page(grant: Grant, *, err: bool = False) -> None:
    """Who, what, with which data, until when, and what may leave."""
    limits, rules = grant.limits, grant.outputs
    last_day = grant.valid.run_until - timedelta(seconds=1)
    show.facts(
        [
            ("project", f"{grant.project}, version {grant.version}: {grant.title}"),
            ("for anybody", grant.lay_summary),
            ("approved by", f"{grant.approval.body}, {grant.approval.reference}; {grant.contact}"),
            ("lawful by", f"UK GDPR {grant.legal_basis.article6} and {grant.legal_basis.article9}"),
            ("used for", "; ".join(f"{DUO_TERMS[term]} ({term})" for term in grant.use)),
            ("people", f"{', '.join(grant.people.researchers)}; lead {grant.people.lead}"),
            ("runs", f"{grant.valid.from_:%Y-%m-%d} to {last_day:%Y-%m-%d %H:%M} UTC"),
            ("then", f"reviews may end within {_days(grant.valid.review_grace)}"),
            ("destroyed by", f"{grant.valid.destroy_by:%Y-%m-%d %H:%M} UTC, with certificate"),
            ("data", "\n".join(_data(grant))),
            ("workloads", _workloads(grant)),
            ("clusters", f"{', '.join(limits.clusters)}, at least {limits.isolation}"),
            (
                "limits",
                f"{show.count(limits.nodes, 'node')} and {walltime_text(limits.time)} a job, "
                f"{limits.gpu_hours} GPU-hours in all",
            ),
            ("also", "; ".join(_limits(grant))),
            ("may leave", "\n".join(_outputs(grant))),
            ("after", f"{show.count(rules.reviewers, 'reviewer')} from outside the project must all agree"),
        ],
        err=err,
    )


def changes(old: Grant, new: Grant) -> list[Change]:
    """Every place where the two differ, in the order of the document."""
    before, after = (dict(_flat(item.model_dump(mode="json", exclude_none=True), "")) for item in (old, new))
    places = [*before, *(place for place in after if place not in before)]
    return [
        Change(place, before.get(place), after.get(place))
        for place in places
        if before.get(place, _MISSING) != after.get(place, _MISSING)
    ]


def show_changes(old: Grant, new: Grant, found: list[Change]) -> None:
    click.echo(
        click.style(f"{old.project} version {old.version} → {new.project} version {new.version}", bold=True)
    )
    if not found:
        click.echo("no difference")
    for change in found:
        if change.before is not None:
            click.echo(click.style(f"- {change.where}: {_text(change.before)}", fg="red"))
        if change.after is not None:
            click.echo(click.style(f"+ {change.where}: {_text(change.after)}", fg="green"))


def _flat(value: Any, where: str) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [
            pair
            for name, item in value.items()
            for pair in _flat(item, f"{where}.{name}" if where else str(name))
        ]
    return [(where, value)]


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _data(grant: Grant) -> list[str]:
    lines = []
    for name, data in grant.model_dump(mode="json")["data"].items():
        chosen = "; ".join(f"{key} {_text(value)}" for key, value in data["select"].items()) or "all of it"
        lines.append(f"{name} ({chosen}), {data['profile']}, {show.short(data['version'])}")
        if data["cohort"]:
            lines.append(f"  only patients of the list {show.short(data['cohort'])}")
        lines += [f"  column {column}: {_column(said)}" for column, said in data["columns"].items()]
        lines.append(f"  up to {data['max-failed']} items may fail")
        lines += [f"  {line}" for line in _pixels(data["pixels"])]
    return lines


def _column(said: dict[str, Any]) -> str:
    words = [f"{said['rule']} of {said['issuer']}" if said["issuer"] else said["rule"]]
    if said["values"]:
        words.append(f"{', '.join(said['values'][:6])}{' …' if len(said['values']) > 6 else ''}")
    if said["only"] or said["within"]:
        words.append(f"only rows of {said['within'] or 'these values'}")
    return "; ".join(words)


def _pixels(rules: dict[str, Any]) -> list[str]:
    """What is done about identity in the pixels, where it is more than the least."""
    burned_in = {
        "refuse": [],
        "hold": ["images that may carry burned-in text are held for a person"],
        "blank": ["burned-in text is blanked"],
    }[rules["burned-in"]]
    found = ["every image is searched for text"] if rules["find-text"] else []
    return burned_in + found + (["faces are removed from head scans"] if rules["deface"] else [])


def _workloads(grant: Grant) -> str:
    own = {
        "none": "no code of their own",
        "reviewed": "own code once a reviewer has approved its digest",
        "project": "any code of their own, sandboxed",
    }[grant.workloads.own_code]
    return ", ".join((*grant.workloads.builtin, own))


def _limits(grant: Grant) -> list[str]:
    limits = grant.limits
    code = f"bundles of up to {size_text(limits.bundle_size)}" if limits.bundle_size else "no bundles"
    talk = "nodes of a job may talk to each other" if limits.network == "job" else "no network between nodes"
    kept = f"up to {size_text(limits.kept_size)} kept" if limits.kept_size else "nothing kept for later jobs"
    return [code, talk if isolation.is_contained(limits.isolation) else "no sandbox", kept]


def _outputs(grant: Grant) -> list[str]:
    said = [] if grant.outputs.bits is None else [f"{grant.outputs.bits} bits in all releases together"]
    rules = (grant.outputs.rule(row.name) for row in outputs.CLASSES)
    return said + ([rule.sentence() for rule in rules if rule is not None] or ["nothing"])


def _days(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    if hours >= 24 and hours % 24 == 0:
        return show.count(int(hours // 24), "day")
    return f"{hours:g} hours"
