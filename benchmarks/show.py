"""Results as a table for people, in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.results import ComparisonResult, ContenderResult, GoalResult, Results, ratio

if TYPE_CHECKING:
    from rich.console import Console


def number(value: float | None, unit: str) -> str:
    """A figure with as many digits as it deserves, in its unit."""
    if value is None:
        return "–"
    if unit == "bytes":
        return f"{value / 2**20:,.0f} MiB"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f} {unit}"


def verdict(goal: GoalResult) -> str:
    """``3.2 (wanted 3) met``."""
    if goal.reached is None:
        return f"{goal.text}: not measured"
    said = "met" if goal.met else "missed"
    against = f" against {goal.against}" if goal.against and len(goal.peers) > 1 else ""
    return f"{goal.text}: {goal.reached:.3g}{against}, {said}"


def compared(result: ComparisonResult, contender: ContenderResult) -> str:
    """How many times as good the first contender is as this one."""
    ours = result.contenders[0].median
    if ours is None or contender.median is None or contender is result.contenders[0]:
        return ""
    return f"{ratio(ours, contender.median, result.better):.2f} ×"


def spread(result: ComparisonResult, contender: ContenderResult) -> str:
    """Lowest and highest of the counted runs, and how many."""
    values = contender.values(result.figure)
    if not values:
        return ""
    low, high = (number(value, result.unit).rpartition(" ")[0] for value in (min(values), max(values)))
    return f"{low} – {high} ({len(values)})"


def processor_seconds(contender: ContenderResult) -> str:
    """User and system seconds of the whole process tree, median."""
    user, system = contender.median_of("user-s"), contender.median_of("system-s")
    return "" if user is None or system is None else f"{user + system:.1f}"


def table(results: Results, console: Console) -> None:
    """One table a case."""
    from rich.table import Table
    from rich.text import Text

    for case in results.cases:
        console.print(f"\n[bold]{case.title}[/bold] ({case.name}, {case.seconds:.0f} s)")
        if case.error is not None:
            console.print(Text(f"  could not go on: {case.error}", style="red"))
        for result in case.comparisons:
            if result.skipped is not None:
                console.print(Text(f"  {result.title}: SKIPPED, {result.skipped}", style="yellow"))
                continue
            made = Table(
                title=f"{result.title}  [{result.cache}]", title_justify="left", box=None, pad_edge=False
            )
            made.add_column("contender")
            for heading in ("median", "ours is", "lowest – highest (runs)", "CPU s"):
                made.add_column(heading, justify="right")
            made.add_column("remark")
            for contender in result.contenders:
                remark = contender.error if contender.error is not None else contender.remark
                style = "red" if contender.median is None else ""
                made.add_row(
                    Text(contender.name, style=style),
                    number(contender.median, result.unit),
                    compared(result, contender),
                    spread(result, contender),
                    processor_seconds(contender),
                    Text(remark, style="red" if contender.error is not None else "dim"),
                )
            for other in result.published:
                low, high = number(other.low, result.unit), number(other.high, result.unit)
                made.add_row(
                    Text(other.name), f"{low} – {high}", "", "published", "", Text(other.remark, style="dim")
                )
            console.print(made)
            for goal in result.goals:
                style = {True: "green", False: "red", None: "yellow"}[goal.met]
                console.print(Text(f"  goal {verdict(goal)}", style=style))
