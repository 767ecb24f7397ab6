"""Time per item as a copy grows, and opening a copy of many objects."""

from __future__ import annotations

from collections.abc import Generator

from benchmarks.bench import Bench, contender
from benchmarks.cases import ASKED
from benchmarks.cases.staging import secret_of
from benchmarks.comparing import Comparison, Contender, Goal, Skipped
from benchmarks.data import series

FLAT = 1.25
"""What still counts as flat: 25 % more time an item."""


def comparisons(bench: Bench) -> Generator[Comparison | Skipped, None, None]:
    size = bench.size
    counts = sorted(size.series, reverse=True)
    yield _growing(
        "staged-series",
        "series of two small instances, staged into one copy",
        "ms/series",
        tuple(
            Contender(
                f"{count:,} series",
                contender(
                    "stage_timed", series.small_series(bench, count), bench.out("grown"), secret_of(bench)
                ),
                outputs=bench.out("grown"),
            )
            for count in counts
        ),
    )
    counts = sorted(size.items, reverse=True)
    yield _growing(
        "copy-items",
        "items put, finished and sealed",
        "ms/item",
        tuple(
            Contender(
                f"{count:,} items",
                contender("copy_growth", count, bench.out("grown"), secret_of(bench)),
                outputs=bench.out("grown"),
            )
            for count in counts
        ),
    )
    for items, objects in size.opened:
        yield Comparison(
            f"open-{items}x{objects}",
            f"open a copy of {items * objects:,} objects ({items:,} items of {objects}) and read one",
            "s",
            (
                Contender(
                    "hdrs-hpc",
                    contender("opening", items, objects, bench.out("opened")),
                    outputs=bench.out("opened"),
                ),
            ),
            (Goal("< 1 s", ASKED, limit=1.0),),
            figure="seconds",
        )


def _growing(name: str, title: str, unit: str, contenders: tuple[Contender, ...]) -> Comparison:
    """The largest is held against the one before the smallest: the smallest is mostly start-up."""
    middle = contenders[-2].name if len(contenders) > 2 else contenders[-1].name
    goal = Goal(
        f"flat: the largest takes at most {FLAT} × the time an item of {middle}",
        ASKED,
        peers=(middle,),
        least=1 / FLAT,
    )
    return Comparison(name, title, unit, contenders, (goal,), figure="ms-per-item")
