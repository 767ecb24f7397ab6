"""A closure as one page: what stops, what is destroyed, what stays, and whether it can be undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from hdrs_hpc.client.pages.layout import Block, NamedValues, Page, Section, Table, count, span
from hdrs_hpc.documents.models.closure import Closure


@dataclass(frozen=True)
class DoomedCopy:
    copy: str
    dataset: str
    cluster: str
    state: str
    objects: int | None
    """Sealed objects; None while it is being made."""
    sealed_bytes: int | None


@dataclass(frozen=True)
class DoomedKept:
    job: str
    output: str
    class_: str
    size: int


@dataclass(frozen=True)
class DoomedJob:
    job: str
    name: str
    state: str


@dataclass(frozen=True)
class ClosingPlan:
    """What the end of a project destroys and leaves, as its broker sees it now."""

    project: str
    copies: Sequence[DoomedCopy]
    kept: Sequence[DoomedKept]
    jobs: Sequence[DoomedJob]
    in_review: int
    released: int
    review_grace: timedelta

    @classmethod
    def from_answer(cls, told: Mapping[str, Any]) -> Self:
        return cls(
            str(told["project"]),
            [
                DoomedCopy(
                    item["copy"],
                    item["dataset"],
                    item["cluster"],
                    item["state"],
                    item["objects"],
                    item["sealed-bytes"],
                )
                for item in told["copies"]
            ],
            [DoomedKept(item["job"], item["output"], item["class"], item["size"]) for item in told["kept"]],
            [DoomedJob(item["job"], item["name"], item["state"]) for item in told["jobs"]],
            int(told["artefacts-in-review"]),
            int(told["released-artefacts"]),
            timedelta(seconds=told["review-grace-s"]),
        )


_TITLES = {
    "freeze": "freezing of project {}",
    "unfreeze": "lifting of a freeze of project {}",
    "close": "closing of project {}, for ever",
    "revoke": "revocation of the grant of project {}, for ever",
}
_FROZEN = (
    "- At once: no new job is taken, no key is given, running jobs are cancelled.",
    "- Staged data and their keys stay until the project's own end; what is in review may still be decided.",
    "- It can be undone: `hdrs-hpc project unfreeze`, with as many signatures as a grant takes.",
)
_UNFROZEN = (
    "- Once as many have signed as sign a grant, every owner of the data among them, this one freeze is lifted. If no "
    "other is in force, jobs may run and get keys again.",
    "- Jobs that were cancelled stay cancelled.",
)
_ENDED = (
    "- This can not be undone by anybody: without their keys the sealed data are noise. To go on takes a new project "
    "with a grant of its own, and its data are staged anew.",
    "- When all of it is verified, the broker signs a certificate of destruction "
    "(`hdrs-hpc project certificate {}`).",
)


def page(closure: Closure, plan: ClosingPlan | None = None) -> Page:
    """``plan``: with ``close`` and ``revoke``, what they destroy."""
    named = [("reason", closure.reason), ("lifts", closure.freeze)]
    head = Section("Why", [NamedValues(named)])
    title = _TITLES[closure.action].format(closure.project)
    if closure.action in ("freeze", "unfreeze"):
        said = _FROZEN if closure.action == "freeze" else _UNFROZEN
        return Page(title, (head, Section("What it leads to", said)))
    planned = destroyed(plan, at_once=closure.action == "revoke") if plan else ()
    ended = Section("What it leads to", [line.format(closure.project) for line in _ENDED])
    return Page(title, (head, *planned, ended))


def destroyed(plan: ClosingPlan, *, at_once: bool = False) -> tuple[Section, ...]:
    """What ending the project destroys, and what it leaves.  ``at_once``: reviews get no grace."""
    blocks: list[Block] = []
    if plan.copies:
        rows = [
            (item.copy, item.dataset, item.cluster, item.objects or "unfinished", _bytes(item.sealed_bytes))
            for item in plan.copies
        ]
        blocks.append(Table(("staged copy", "dataset", "cluster", "sealed objects", "bytes"), rows))
    if plan.kept:
        stayed = [(item.output, item.job, item.class_, _bytes(item.size)) for item in plan.kept]
        blocks.append(Table(("output kept", "of job", "class", "bytes"), stayed))
    if plan.jobs:
        blocks.append(
            Table(("job", "name", "now"), [(item.job, item.name, item.state) for item in plan.jobs])
        )
    blocks.append(
        "- The keys of all staged copies die at once, then the objects are removed."
        if plan.copies
        else "- No staged copy is there."
    )
    if plan.kept:
        blocks.append("- So do the keys of what jobs kept for later ones, which can be had nowhere else.")
    blocks.append(
        "- Jobs are stopped and all that they hold is purged." if plan.jobs else "- No job is there."
    )
    if plan.in_review:
        grace = "at once" if at_once else f"unless decided within {span(plan.review_grace)}"
        blocks.append(f"- {count(plan.in_review, 'artefact')} in review, {grace}.")
    blocks.append("- The key that de-identified the project's data, and the key over all its keys.")
    stays = f"{count(plan.released, 'released artefact')}, the signed documents, the log, the certificate."
    return (Section("What it destroys", blocks), Section("What stays", [stays]))


def _bytes(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
