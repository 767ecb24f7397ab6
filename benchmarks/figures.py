"""Two pictures of results: how far each goal was reached, and where the time of staging goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench import LIMIT
from benchmarks.comparing import WALL
from benchmarks.results import ComparisonResult, ContenderResult, GoalResult, Results

GOALS, BREAKDOWN = "bench-goals", "bench-breakdown"
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 10, 25, 50, 100)
_MET, _MISSED = "#2a7f62", "#c1584c"
_PHASES = (
    ("start-s", "start, scan, manifest", "#8da0cb"),
    ("headers-s", "headers", "#66c2a5"),
    ("pixels-s", "pixels, coding, sealing", "#fc8d62"),
    ("sync-s", "final sync", "#b3b3b3"),
)


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Median seconds of each phase of one staging; ``limit_s``: of reading and writing the bytes, where timed."""

    title: str
    phases: dict[str, float]
    cpu_s: float
    limit_s: float | None


def draw(results: Results, folder: Path, kind: str = "svg") -> list[Path]:
    """Write the pictures, ``bench-goals`` and ``bench-breakdown``, and give their paths; those with nothing to show
    are left out."""
    import matplotlib

    matplotlib.use("Agg")
    # The same results give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "hdrs-hpc", "font.size": 9, "svg.fonttype": "none"})
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    drawn = ((GOALS, _goals_figure(_shares(results))), (BREAKDOWN, _breakdown_figure(breakdowns(results))))
    for name, figure in drawn:
        if figure is not None:
            path = folder / f"{name}.{kind}"
            metadata = {"Date": None} if kind == "svg" else None
            figure.savefig(path, bbox_inches="tight", metadata=metadata)
            made.append(path)
    return made


def judged(results: Results) -> Iterator[tuple[ComparisonResult, GoalResult]]:
    """All goals, in order."""
    for case in results.cases:
        for comparison in case.comparisons:
            for goal in comparison.goals:
                yield comparison, goal


def share(goal: GoalResult, lower: bool) -> float | None:
    """How far a goal was reached: 1 is just met."""
    if goal.reached is None or not goal.reached or not goal.wanted:
        return None
    return goal.wanted / goal.reached if not goal.peers and lower else goal.reached / goal.wanted


def breakdowns(results: Results) -> list[Breakdown]:
    """Of every comparison in which our staging told its phases."""
    found = []
    for case in results.cases:
        for comparison in case.comparisons:
            for contender in comparison.contenders[:1]:
                one = _breakdown(comparison, contender)
                if one is not None:
                    found.append(one)
    return found


def _breakdown(comparison: ComparisonResult, contender: ContenderResult) -> Breakdown | None:
    median = contender.median_of
    wall, stage, headers, sync = median(WALL), median("stage-s"), median("headers-s"), median("sync-s")
    user, system = median("user-s"), median("system-s")
    if wall is None or stage is None or headers is None or sync is None or user is None or system is None:
        return None
    limits = [one.median for one in comparison.contenders if one.name == LIMIT]
    phases = {
        "start-s": max(0.0, wall - stage - sync),
        "headers-s": headers,
        "pixels-s": max(0.0, stage - headers),
        "sync-s": sync,
    }
    return Breakdown(comparison.title, phases, user + system, limits[0] if limits else None)


def _shares(results: Results) -> list[tuple[str, float]]:
    """Label of each goal, and how far it was reached."""
    return [
        (f"{comparison.title}\n{goal.text}", part)
        for comparison, goal in judged(results)
        if (part := share(goal, lower=True)) is not None
    ]


def _goals_figure(shares: list[tuple[str, float]]) -> Any:
    """A logarithmic axis has no zero for a bar to begin at: bars begin at the goal, and go right where it is met."""
    from matplotlib.figure import Figure

    if not shares:
        return None
    rows = shares[::-1]
    figure = Figure(figsize=(8, 0.8 + 0.46 * len(rows)))
    axes = figure.add_subplot()
    values = [value for _, value in rows]
    axes.barh(
        range(len(rows)),
        [value - 1 for value in values],
        left=1,
        color=[_MET if value >= 1 else _MISSED for value in values],
        height=0.6,
    )
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=7)
    axes.set_xscale("log")
    low, high = min(0.5, *values) / 1.5, max(4.0, *values) * 1.5
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(low, high)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    for place, value in enumerate(values):
        beyond, side = (value * 1.03, "left") if value >= 1 else (value / 1.03, "right")
        axes.text(beyond, place, f"{value:.2f}", va="center", ha=side, fontsize=7)
    axes.set_title(
        f"Goals of speed and size: {sum(value >= 1 for value in values)} of {len(rows)} met", loc="left"
    )
    axes.set_xlabel("times the goal, logarithmic (1: just met; right of it: better than wanted)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _breakdown_figure(found: list[Breakdown]) -> Any:
    from matplotlib.figure import Figure

    rows = found[::-1]
    if not rows:
        return None
    figure = Figure(figsize=(8, 1.2 + 0.42 * len(rows)))
    axes = figure.add_subplot()
    left = [0.0] * len(rows)
    for name, label, color in _PHASES:
        widths = [row.phases[name] for row in rows]
        axes.barh(range(len(rows)), widths, left=left, color=color, label=label, height=0.6)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    marked = [(row.limit_s, place) for place, row in enumerate(rows) if row.limit_s is not None]
    if marked:
        axes.scatter(
            [at for at, _ in marked],
            [place for _, place in marked],
            marker="|",
            s=180,
            color="black",
            label="reading and writing the bytes",
        )
    axes.set_yticks(range(len(rows)), [row.title for row in rows], fontsize=7)
    axes.set_xlim(left=0)
    axes.set_title("Where the time of staging goes", loc="left")
    axes.set_xlabel("seconds from start to end of the process, median of the runs")
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.4, -0.18), ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
