"""What an attempt is served of its inputs: a fact of the broker, whatever a workload says of it.

Kept beside the attempt as JSON: ``{inputs: {name: …}, people, items, instances, seqs}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from hdrs_hpc.broker.store import jobs
from hdrs_hpc.broker.store.copies import Copy


@dataclass(frozen=True)
class ServedInput:
    """One input.  ``manifest`` names all that is served of ``copy``; ``narrowed``: it is not the copy's own."""

    copy: str
    manifest: str
    narrowed: bool
    items: int
    """Volumes, slides and rows of tables."""


@dataclass(frozen=True)
class Served:
    """All inputs of one attempt together.

    ``people``: different patients; an item of which no patient is known counts as one more.  ``items``: volumes,
    slides and rows of tables.  ``instances``: the archive's items (files, frames' objects, rows) they are made of.
    ``seqs``: the entries of the log that tell of the choice, input by input.
    """

    inputs: Mapping[str, ServedInput]
    people: int
    items: int
    instances: int
    seqs: tuple[int, ...]

    def fits(self, uses: Mapping[str, Copy]) -> bool:
        """Whether it was chosen from these copies (input → copy)."""
        return {name: one.copy for name, one in self.inputs.items()} == {
            name: copy.id for name, copy in uses.items()
        }

    def as_dict(self) -> dict[str, Any]:
        inputs = {name: vars(one) for name, one in self.inputs.items()}
        return {**vars(self), "inputs": inputs, "seqs": list(self.seqs)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Served:
        inputs = {name: ServedInput(**one) for name, one in value["inputs"].items()}
        return cls(**{**value, "inputs": inputs, "seqs": tuple(value["seqs"])})


def of_attempt(attempt: jobs.Attempt) -> Served | None:
    """None before it was chosen."""
    return None if attempt.served is None else Served.from_dict(attempt.served)


def of_job(tx: Connection, job: str) -> Served | None:
    """Of the job's newest attempt: what its outputs can count."""
    attempts = jobs.attempts_of(tx, job)
    return of_attempt(attempts[-1]) if attempts else None


def note(tx: Connection, attempt: str, served: Served) -> None:
    jobs.note_attempt(tx, attempt, served=served.as_dict())
