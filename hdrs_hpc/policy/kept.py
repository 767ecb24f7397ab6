"""Outputs that stay in their project for its later jobs: what became of each, and whether a spec may name it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

KeptState = Literal["unfinished", "kept", "destroyed"]
BETTER: tuple[KeptState, ...] = ("destroyed", "unfinished", "kept")
"""Of several attempts of a job the best counts."""


@dataclass(frozen=True)
class KeptFact:
    """One output that a job of the project was to keep."""

    job: str
    output: str
    state: KeptState
    size: int = 0
    """Bytes, once it is kept."""
    cluster: str | None = None
    """Where it lies; None where that is not told."""


def best(facts: Iterable[KeptFact]) -> dict[tuple[str, str], KeptFact]:
    """(job, output) → what counts of its attempts."""
    found: dict[tuple[str, str], KeptFact] = {}
    for fact in facts:
        before = found.get((fact.job, fact.output))
        if before is None or BETTER.index(fact.state) > BETTER.index(before.state):
            found[(fact.job, fact.output)] = fact
    return found


def kept_bytes(facts: Iterable[KeptFact]) -> int:
    """Bytes of all that is kept now."""
    return sum(fact.size for fact in facts if fact.state == "kept")
