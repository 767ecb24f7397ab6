"""Runs cases: contenders in turn (A B A B …), results kept after each comparison."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine, measure, results
from benchmarks.bench import Bench
from benchmarks.comparing import WALL, Comparison, Skipped
from benchmarks.results import CaseResult, ComparisonResult, Results
from benchmarks.table import Case
from hdrs_hpc.core.errors import HdrsError

LONG_WARM_UP_S = 5.0
"""A warm-up that took longer counts as the first round: what start-up leaves in caches is lost in it."""
PATIENCE_S = 45.0
"""A contender whose runs took longer together sits out the rounds that are left."""


def run(cases: Sequence[Case], bench: Bench, rounds: int, save: Callable[[Results], None]) -> Results:
    """All ``cases``; ``save`` is called after each comparison.  Ctrl-C passes through, with what ended saved.

    A case that fails says so in its result and the next one goes on.
    """
    made = Results(
        begun=datetime.now(UTC).isoformat(timespec="seconds"),
        size=bench.size.name,
        rounds=rounds,
        machine=machine.describe(bench.scratch.parent),
    )
    for case in cases:
        result = CaseResult(name=case.name, title=case.title)
        made.cases.append(result)
        started = time.monotonic()
        try:
            # Closed at once when it is stopped: a case may have started a server.
            with contextlib.closing(case.comparisons(bench)) as comparisons:
                for comparison in comparisons:
                    result.comparisons.append(_one(comparison, bench, rounds))
                    save(made)
        except (HdrsError, OSError, ValueError, ImportError, RuntimeError) as error:
            # A case that can't be prepared here must not cost the others.
            result.error = f"{type(error).__name__}: {error}"
        result.seconds = time.monotonic() - started
        _empty(bench.scratch)
        save(made)
    made.complete = True
    save(made)
    return made


def _one(comparison: Comparison | Skipped, bench: Bench, rounds: int) -> ComparisonResult:
    if isinstance(comparison, Skipped):
        return ComparisonResult(
            name=comparison.name,
            title=comparison.title,
            figure=WALL,
            unit="s",
            better="lower",
            cache="warm",
            skipped=comparison.reason,
        )
    result = results.begin(comparison)
    compare(comparison, result, bench, comparison.rounds or rounds)
    results.conclude(comparison, result)
    for contender in comparison.contenders:
        if contender.outputs is not None:
            shutil.rmtree(contender.outputs, ignore_errors=True)
    return result


def compare(comparison: Comparison, result: ComparisonResult, bench: Bench, rounds: int) -> None:
    """A warm-up of each, then ``rounds`` rounds in turn; one that failed is tried once more.

    No warm-up of those that warm up inside, since they report a rate, nor where there is but a single round.
    """
    warm_up = rounds > 1 and comparison.figure == WALL
    spent = dict.fromkeys((one.name for one in comparison.contenders), 0.0)
    for number in range(0 if warm_up else 1, rounds + 1):
        for contender, runs in zip(comparison.contenders, result.contenders, strict=True):
            counted = sum(one.counted and one.error is None for one in runs.runs)
            failed = sum(one.error is not None for one in runs.runs)
            if failed > 1 or counted >= rounds or (counted and spent[contender.name] > PATIENCE_S):
                continue
            bench.watcher.running(comparison.name, contender.name, number, rounds)
            started = time.monotonic()
            run = measure.run(contender, number, comparison.cache)
            took = time.monotonic() - started
            run.counted = number > 0 or took > LONG_WARM_UP_S
            spent[contender.name] += took
            runs.runs.append(run)
            if run.error is not None and run.error.startswith("not installed"):
                runs.runs.append(run)
            # What a large output leaves dirty or cached is not for the next one to bear.
            if contender.outputs is not None and contender is not comparison.contenders[0]:
                shutil.rmtree(contender.outputs, ignore_errors=True)


def _empty(folder: Path) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def working_folder() -> Path:
    """Where data and output lie unless said otherwise: the user's cache folder (XDG)."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache.startswith("/") else Path.home() / ".cache") / "hdrs-hpc" / "bench"
