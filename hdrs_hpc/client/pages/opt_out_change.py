"""A change of an opt-out list as one page: for how many patients, which copies and jobs it reaches, and how.

No patient's id is on it: it is shown on screens, and what is signed has none either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from hdrs_hpc.client.pages.layout import Block, NamedValues, Page, Section, Table, count
from hdrs_hpc.documents.models.opt_out import OptOutChange


@dataclass(frozen=True)
class ReachedCopy:
    copy: str
    project: str
    cluster: str
    state: str
    current: bool
    """Made under the list in force; another one is given to nobody."""


@dataclass(frozen=True)
class ReachedJob:
    job: str
    name: str
    project: str
    state: str


@dataclass(frozen=True)
class OptOutsInForce:
    """What was stated of a dataset before, and what a change reaches."""

    about: int | None
    """Length of the list, rounded up to a power of ten."""
    grace_s: float
    copies: Sequence[ReachedCopy]
    jobs: Sequence[ReachedJob]

    @classmethod
    def from_answer(cls, told: Mapping[str, Any]) -> Self:
        return cls(
            told["about"],
            float(told["grace-s"]),
            [
                ReachedCopy(item["copy"], item["project"], item["cluster"], item["state"], item["current"])
                for item in told["copies"]
            ],
            [ReachedJob(item["job"], item["name"], item["project"], item["state"]) for item in told["jobs"]],
        )


def page(change: OptOutChange, before: OptOutsInForce, patients: int) -> Page:
    """``patients``: how many are added or removed."""
    return Page(
        f"opt-out change of dataset {change.dataset}, statement {change.version}",
        (
            Section("What you state", [_stated(change, before, patients)]),
            Section("Which copies and jobs it reaches", reached(before)),
            Section(
                "What it leads to",
                [
                    "- Copies under the list as it was die, their keys first, and are made anew without those who "
                    "opted out.",
                    "- What was released before is out, and stays out."
                    if change.action == "add"
                    else "- A later statement can change the list again.",
                ],
            ),
        ),
    )


def _stated(change: OptOutChange, before: OptOutsInForce, patients: int) -> Block:
    said = {
        "add": f"{count(patients, 'patient')} more opted out of {change.dataset}",
        "remove": f"{count(patients, 'patient')} may be used again in {change.dataset}",
        "nobody": f"nobody opted out of {change.dataset}"
        + (f"; everybody comes off the list, up to {before.about:,} patients" if before.about else ""),
    }[change.action]
    return NamedValues(
        [
            ("statement", said),
            ("reason", change.reason),
            ("list of ids", change.ids),
            ("follows", change.supersedes),
            ("broker", change.audience),
        ]
    )


def reached(before: OptOutsInForce) -> list[Block]:
    """What a change does to the copies and jobs that there are."""
    blocks: list[Block] = []
    if before.copies:
        rows = [
            (
                item.copy,
                item.project,
                item.cluster,
                item.state,
                "is replaced after a change: its key at once, then its objects"
                if item.current
                else "made under an earlier list, given to nobody; being destroyed",
            )
            for item in before.copies
        ]
        blocks.append(Table(("copy", "project", "cluster", "now", "what becomes of it"), rows))
    if before.jobs:
        jobs = [
            (
                item.job,
                item.name,
                item.project,
                item.state,
                f"after a change it may run on for {before.grace_s:g} s if it has its keys, then is cancelled"
                if item.state == "RUNNING"
                else "after a change it waits for the new copy",
            )
            for item in before.jobs
        ]
        blocks.append(Table(("job", "name", "project", "now", "what becomes of it"), jobs))
    return blocks or ["None is there."]
