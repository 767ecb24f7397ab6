"""What documents may say and this version does not do: one table, asked before anything is signed.

A format is written once and whole, so that a later version needs no new one.  What is not built yet is refused by
name in a spec's check, when a grant is signed and by the broker: nobody signs what leads nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hdrs_hpc.catalogue import isolation, outputs, workloads
from hdrs_hpc.catalogue.outputs.output_class import WrittenDeclaration
from hdrs_hpc.core.errors import NotAllowedError
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpec, JobSpecDraft, KeptArtefact
from hdrs_hpc.policy.rules import Broken


class NotBuiltError(NotAllowedError):
    code = "not-built"
    meaning = "The document asks for something that its format knows and this version does not do yet."
    remedy = "Do as the message says; docs/not-built.md lists all of it."


@dataclass(frozen=True)
class Missing:
    """One thing that is not built: where a document asks for it, and what to do until it is."""

    what: str
    instead: str
    asked: Callable[[Any], Iterator[str]]
    """Places in a document that ask for it."""

    def broken(self, document: Any) -> Iterator[Broken]:
        for where in self.asked(document):
            yield Broken(NotBuiltError, f"this version has no {self.what}: {self.instead}", where)


def _where(place: str, asks: Callable[[Any], bool]) -> Callable[[Any], Iterator[str]]:
    def places(document: Any) -> Iterator[str]:
        if asks(document):
            yield place

    return places


def _files(spec: JobSpec | JobSpecDraft) -> Iterator[str]:
    for name, use in spec.inputs.items():
        if not isinstance(use, KeptArtefact):
            yield f"inputs.{name}"


def _kind(spec: JobSpec) -> Iterator[str]:
    if not workloads.KINDS[spec.workload.kind].built:
        yield "workload.kind"


def _nodes(spec: JobSpec) -> Iterator[str]:
    if workloads.KINDS[spec.workload.kind].one_node and spec.resources.nodes > 1:
        yield "resources.nodes"


def _classes(spec: JobSpec) -> Iterator[str]:
    for name, output in spec.outputs.items():
        if not outputs.BY_NAME[output.class_].built:
            yield f"outputs.{name}.class"


def _parts(spec: JobSpec) -> Iterator[str]:
    for name, output in spec.outputs.items():
        yield from (f"outputs.{name}.{where}" for where in output.not_built())


def _leaving(spec: JobSpec) -> Iterator[str]:
    for name, output in spec.outputs.items():
        if output.keep == "release" and not outputs.BY_NAME[output.class_].may_be_released:
            yield f"outputs.{name}.keep"


def _drawn(spec: JobSpec) -> Iterator[str]:
    """What the broker draws is not sealed on a node, and what stays sealed there nobody can draw from."""
    for name, output in spec.outputs.items():
        shown = spec.outputs.get(output.drawn_from() or "")
        if output.keep == "project" and not isinstance(output, WrittenDeclaration):
            yield f"outputs.{name}.keep"
        elif output.keep == "release" and shown is not None and shown.keep == "project":
            yield f"outputs.{name}.data"


def _granted_classes(grant: Grant) -> Iterator[str]:
    for name in grant.outputs.classes:
        if not outputs.BY_NAME[name].built:
            yield f"outputs.{name}"


def _granted_to_leave(grant: Grant) -> Iterator[str]:
    for name in grant.outputs.classes:
        rule, row = grant.outputs.rule(name), outputs.BY_NAME[name]
        if row.built and not row.may_be_released and rule is not None and rule.may_leave():
            yield f"outputs.{name}.keep"


def _sweep(spec: JobSpec) -> Iterator[str]:
    if spec.workload.sweep:
        yield "workload.sweep"


IN_SPECS: tuple[Missing, ...] = (
    Missing(
        "files from outside as inputs",
        "name what an earlier job of the project kept, by job and output",
        _files,
    ),
    Missing(
        "workloads of this kind", f"use {' or '.join(f'`kind: {name}`' for name in workloads.built())}", _kind
    ),
    Missing("workloads of this kind on several nodes", "set `nodes: 1`, and use all of its GPUs", _nodes),
    Missing(
        "check for outputs of this class",
        f"declare {' or '.join(row.name for row in outputs.BUILT)} instead",
        _classes,
    ),
    Missing(
        "derived columns and degrees of freedom",
        "leave the column out and compute it from the released table, or name the count that a measure rests on as `n`",
        _parts,
    ),
    Missing("way out for outputs of this class", "set `keep: project`", _leaving),
    Missing("drawings of what stays in the project", "release the table, or leave the drawing out", _drawn),
    Missing("sweeps", "submit one spec for each value", _sweep),
    Missing(
        "new attempts of a job",
        "leave `attempts` out, and submit again what a node's failure ended",
        _where("attempts", lambda spec: spec.attempts is not None),
    ),
    Missing(
        "checkpoints", "leave them out", _where("checkpoints", lambda spec: spec.checkpoints is not None)
    ),
    Missing(
        "curves while a job runs",
        "leave `progress` out; phase and time are told",
        _where("progress", lambda spec: bool(spec.progress)),
    ),
)
IN_GRANTS: tuple[Missing, ...] = (
    Missing(
        "isolation of this level",
        f"set {' or '.join(f'`isolation: {name}`' for name in isolation.GIVEN)}",
        _where("limits.isolation", lambda grant: not isolation.level(grant.limits.isolation).built),
    ),
    Missing(
        "network between sandboxed nodes",
        "leave `network` out; jobs in a sandbox run on one node",
        _where("limits.network", lambda grant: grant.limits.network != "none"),
    ),
    Missing(
        "count of the bits that releases carry",
        "leave `bits` out",
        _where("outputs.bits", lambda grant: grant.outputs.bits is not None),
    ),
    Missing("check for outputs of this class", "leave the class out", _granted_classes),
    Missing("way out for outputs of this class", "set `keep: project`", _granted_to_leave),
)


def in_spec(spec: JobSpec | JobSpecDraft) -> Iterator[Broken]:
    """Everything that a spec asks for and this version does not do."""
    for row in IN_SPECS:
        yield from row.broken(spec)


def in_grant(grant: Grant) -> Iterator[Broken]:
    """Everything that a grant gives and this version does not do."""
    for row in IN_GRANTS:
        yield from row.broken(grant)


def as_markdown() -> str:
    """The page of all of it, ``docs/not-built.md``."""
    lines = [
        "# Not built yet",
        "",
        "Made from `hdrs_hpc/policy/not_built.py` by `make docs`. Formats of documents are written once and whole;",
        "what they can say and this version does not do is refused by name (`not-built`): `spec check` tells it,",
        "`grant sign` does before anybody signs, and the broker refuses it whatever was signed.",
    ]
    for title, rows in (("In a job spec", IN_SPECS), ("In a grant", IN_GRANTS)):
        lines += ["", f"## {title}", "| there is no | until there is |", "| --- | --- |"]
        lines += [f"| {row.what} | {row.instead} |" for row in rows]
    return "\n".join(lines) + "\n"


def require_built(grant: Grant) -> None:
    """Raise NotBuiltError that names everything of a grant that leads nowhere."""
    found = list(in_grant(grant))
    if found:
        raise NotBuiltError(
            "; ".join(f"{item.where}: {item.message}" for item in found), where=found[0].where
        )
