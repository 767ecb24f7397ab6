"""Each case of the benchmark end to end at a tiny size: every program runs, all read the same, results are whole.

Nothing here looks at how long anything took.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import running, table
from benchmarks.bench import Bench
from benchmarks.cases.feed import torch_environment
from benchmarks.comparing import Comparison, Skipped
from benchmarks.measure import program
from benchmarks.results import ComparisonResult, Results
from benchmarks.sizes import SIZES
from benchmarks.table import CASES, Case
from tests.conftest import IN_CI

TINY = replace(
    SIZES["small"],
    ct_slices=12,
    ct_pixels=96,
    mr_times=2,
    mr_slices=4,
    slide_tiles=18,
    crop_tiles=5,
    zstd_pixels=1024,
    object_bytes=256 << 10,
    objects=3,
    memory_steps=(200_000, 400_000),
    series=(4, 8),
    items=(5, 20),
    opened=((20, 5),),
    seconds=0.05,
)
PARTS = {
    "sealed-store": ("write-blosc", "read-blosc"),
    "ct-series": ("ct-native-warm",),
    "slide": ("pyramid-svs",),
    "patches": ("jpeg-224-anywhere-levels-0-x2", "zstd-224-inside-x1"),
    "volumes": ("volume-box",),
    "push": ("push-large",),
    "memory": ("staging-peak",),
    "growth": ("copy-items", "open-20x5"),
    "feed": ("feed",),
    "training-step": ("training-step-slides",) if torch_environment() else ("training-step",),
}
"""One comparison of each shape: together they run every program there is."""


class Quiet:
    def making(self, name: str, done: int, total: int) -> None: ...

    def running(self, comparison: str, contender: str, number: int, rounds: int) -> None: ...


class Part(Case):
    """Some comparisons of a case; the others are only put together."""

    def comparisons(self, bench: Bench) -> Generator[Comparison | Skipped, None, None]:
        for one in super().comparisons(bench):
            if one.name in PARTS[self.name]:
                yield one


def run(name: str, root: Path) -> list[ComparisonResult]:
    (root / "scratch").mkdir()
    bench = Bench(TINY, root / "data", root / "scratch", Quiet())
    case = CASES[name]
    kept: list[Results] = []
    made = running.run([Part(case.name, case.title, case.module)], bench, 1, kept.append)
    assert made.cases[0].error is None
    assert Results.model_validate_json(made.to_json()) == made
    found = made.cases[0].comparisons
    assert {one.name for one in found} == set(PARTS[name])
    assert list((root / "scratch").iterdir()) == []
    return found


def test_every_case_is_tried_here() -> None:
    assert set(PARTS) == set(table.CASES)


@pytest.mark.parametrize("name", [name for name in PARTS if name not in ("feed", "push")])
def test_every_contender_runs_and_all_read_the_same(name: str, tmp_path: Path) -> None:
    for comparison in run(name, tmp_path):
        if comparison.skipped:
            pytest.skip(f"torch is not here: {comparison.skipped}")
        for contender in comparison.contenders:
            if contender.error is not None and contender.error.startswith("not installed"):
                assert not IN_CI, (comparison.name, contender.name, contender.error)
                continue
            assert contender.error is None, (comparison.name, contender.name)
            assert contender.median is not None
            assert contender.median > 0
        sums = {one.median_of("checksum") for one in comparison.contenders} - {None}
        assert len(sums) <= 1, (comparison.name, sums)
        for goal in comparison.goals:
            assert goal.met in (True, False), comparison.name


def test_a_push_ends_with_the_same_objects(tmp_path: Path) -> None:
    lacking = [name for name in ("sshd", "ssh", "ssh-keygen", "rsync") if program(name) is None]
    if lacking:
        pytest.skip(f"not installed: {', '.join(lacking)}")
    (comparison,) = run("push", tmp_path)
    assert [one.error for one in comparison.contenders] == [None, None, None]
    assert {one.median_of("output-bytes") for one in comparison.contenders} == {3 * 256 * 1024}


def test_feeding_a_model_is_skipped_loudly_without_an_accelerator(tmp_path: Path) -> None:
    (comparison,) = run("feed", tmp_path)
    if comparison.skipped is None:
        pytest.skip("not applicable: there is an accelerator")
    assert "PyTorch" in comparison.skipped
