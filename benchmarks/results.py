"""What a run of the benchmark leaves: schema ``hdrs-hpc/benchmark/1``, medians, ratios, goals met or not."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from benchmarks.comparing import SYNC, WALL, WORK, Better, Cache, Comparison, Goal
from hdrs_hpc.core.errors import BadDocumentError, ConflictError

SCHEMA: Literal["hdrs-hpc/benchmark/1"] = "hdrs-hpc/benchmark/1"


class BadResultsError(BadDocumentError):
    code = "benchmark-results-malformed"
    meaning = "The file is not one that `hdrs-hpc bench` wrote."
    remedy = "Give the file that was named by --out."


class OtherMachineError(ConflictError):
    code = "benchmark-results-of-another-machine"
    meaning = "The results file is of another machine, of other versions or of another size of data."
    remedy = "Write to another file, or without --add."


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=_kebab, populate_by_name=True)


class Run(_Part):
    """One run of one contender: its figures as measured, or why there are none."""

    round: int
    """0 is the warm-up."""
    figures: dict[str, float] = Field(default_factory=dict)
    error: str | None = None
    counted: bool = True


class ContenderResult(_Part):
    """``median`` is of the comparison's figure over the counted runs, for the whole work where a contender did a part
    (``scale``); ``runs`` are as measured."""

    name: str
    runs: list[Run] = Field(default_factory=list)
    scale: float = 1.0
    remark: str = ""
    median: float | None = None
    error: str | None = None

    def values(self, figure: str) -> list[float]:
        """Of the counted runs that gave it, for the whole work."""
        return [
            self._whole(run.figures, figure)
            for run in self.runs
            if run.counted and run.error is None and figure in run.figures
        ]

    def median_of(self, figure: str) -> float | None:
        """None where no run gave it."""
        values = self.values(figure)
        return statistics.median(values) if values else None

    def _whole(self, figures: dict[str, float], figure: str) -> float:
        if figure == WALL and WORK in figures:
            # Starting up does not take longer for more pixels.
            return figures[WALL] + (self.scale - 1) * (figures[WORK] + figures[SYNC])
        return figures[figure] * (self.scale if figure == WALL else 1)


class PublishedFigure(_Part):
    name: str
    low: float
    high: float
    remark: str


class GoalResult(_Part):
    """``reached`` is a ratio (how many times as good as the best of ``peers``), or our figure where there are none.
    ``met`` is None where it could not be told."""

    text: str
    source: str
    peers: list[str]
    wanted: float
    reached: float | None = None
    against: str | None = None
    met: bool | None = None


class ComparisonResult(_Part):
    name: str
    title: str
    figure: str
    unit: str
    better: Better
    cache: Cache
    contenders: list[ContenderResult] = Field(default_factory=list)
    goals: list[GoalResult] = Field(default_factory=list)
    published: list[PublishedFigure] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    skipped: str | None = None


class CaseResult(_Part):
    name: str
    title: str
    comparisons: list[ComparisonResult] = Field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None


class Machine(_Part):
    processor: str
    cores: int
    """Those that this process may use."""
    memory_bytes: int
    kernel: str
    filesystem: str
    """Of the working folder."""
    accelerator: str | None
    python: str
    versions: dict[str, str | None]


class Results(_Part):
    schema_: Literal["hdrs-hpc/benchmark/1"] = Field(default=SCHEMA, alias="schema")
    begun: str
    size: str
    rounds: int
    machine: Machine
    cases: list[CaseResult] = Field(default_factory=list)
    complete: bool = False
    """False where it was stopped before all cases had run."""

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, indent=1) + "\n"

    def as_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


def load(path: Path) -> Results:
    """Raises :class:`BadResultsError`."""
    try:
        return Results.model_validate_json(path.read_bytes())
    except (ValueError, OSError) as error:
        raise BadResultsError(f"{type(error).__name__}", where=path.name) from None


def merged(old: Results, new: Results, order: Sequence[str]) -> Results:
    """``new``, and of ``old`` the cases that ``new`` did not run, in this ``order`` of names.

    Raises :class:`OtherMachineError` where they can't stand in one table.
    """
    if (old.size, old.machine) != (new.size, new.machine):
        raise OtherMachineError()
    ran = {case.name for case in new.cases}
    cases = [*new.cases, *(case for case in old.cases if case.name not in ran)]
    cases.sort(key=lambda case: order.index(case.name) if case.name in order else len(order))
    return new.model_copy(update={"cases": cases, "rounds": min(old.rounds, new.rounds)})


def begin(comparison: Comparison) -> ComparisonResult:
    """A result without runs."""
    return ComparisonResult(
        name=comparison.name,
        title=comparison.title,
        figure=comparison.figure,
        unit=comparison.unit,
        better=comparison.better,
        cache=comparison.cache,
        contenders=[
            ContenderResult(name=one.name, scale=one.scale, remark=one.remark)
            for one in comparison.contenders
        ],
        published=[
            PublishedFigure(name=one.name, low=one.low, high=one.high, remark=one.remark)
            for one in comparison.published
        ],
        notes=list(comparison.notes),
    )


def conclude(comparison: Comparison, result: ComparisonResult) -> None:
    """Fill in medians and what became of the goals."""
    for contender in result.contenders:
        contender.median = contender.median_of(result.figure)
        errors = [run.error for run in contender.runs if run.error is not None]
        contender.error = errors[-1] if errors else None
        if contender.median is None and contender.error is None and contender.runs:
            contender.error = "told no such figure"
    result.goals = [_judged(goal, result) for goal in comparison.goals]


def ratio(ours: float, theirs: float, better: Better) -> float:
    """How many times as good ours is."""
    good, other = (ours, theirs) if better == "higher" else (theirs, ours)
    return good / other if other else float("inf")


def _judged(goal: Goal, result: ComparisonResult) -> GoalResult:
    better = goal.better or result.better
    figure = goal.figure or result.figure

    wanted = goal.least if goal.limit is None else goal.limit
    judged = GoalResult(text=goal.text, source=goal.source, peers=list(goal.peers), wanted=wanted)
    ours = result.contenders[0].median_of(figure) if result.contenders else None
    if ours is None:
        return judged
    if goal.limit is not None:
        judged.reached = ours
        judged.met = ours <= goal.limit if better == "lower" else ours >= goal.limit
        return judged
    ratios = [
        (ratio(ours, theirs, better), contender.name)
        for contender in result.contenders[1:]
        if contender.name in goal.peers and (theirs := contender.median_of(figure)) is not None
    ]
    if ratios:
        judged.reached, judged.against = min(ratios)
        judged.met = judged.reached >= goal.least
    return judged
