from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.reading.windows import PatchImage, PatchPlan


def image(
    shape: tuple[int, ...],
    size: tuple[int, int, int],
    shard: tuple[int, ...],
    axes: str = "zyx",
    **more: object,
) -> PatchImage:
    return PatchImage("series/a", "p", 0, axes, shape, shard, size, **more)  # type: ignore[arg-type]


sizes = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(sizes, sizes, sizes),
    size=st.tuples(*[st.integers(1, 17)] * 3),
    shard=st.tuples(*[st.integers(1, 20)] * 3),
    moved=st.booleans(),
    epoch=st.integers(0, 5),
)
def test_windows_lie_inside_and_on_the_grid_cover_every_voxel(shape, size, shard, moved, epoch) -> None:
    plan = PatchPlan([image(shape, size, shard)], moved=moved)
    seen = np.zeros(shape, dtype=bool)
    for number in range(len(plan)):
        window = plan.window(number, epoch)
        start = (window.z, window.y, window.x)
        for first, extent, whole in zip(start, size, shape, strict=True):
            assert 0 <= first <= max(0, whole - extent)
        seen[tuple(slice(first, first + extent) for first, extent in zip(start, size, strict=True))] = True
    assert len(plan) == math.prod(-(-whole // extent) for whole, extent in zip(shape, size, strict=True))
    assert moved or seen.all()


@settings(max_examples=40, deadline=None)
@given(shape=st.tuples(sizes, sizes, sizes), shard=st.tuples(*[st.integers(1, 20)] * 3))
def test_a_run_of_windows_is_one_shard_and_every_shard_one_run(shape, shard) -> None:
    plan = PatchPlan([image(shape, (4, 4, 4), shard), image((9, 9, 9), (4, 4, 4), (5, 5, 5))])
    assert (plan.groups[0], plan.groups[-1]) == (0, len(plan))
    shards = []
    for first, stop in zip(plan.groups, plan.groups[1:], strict=False):
        windows = [plan.window(number) for number in range(first, stop)]
        held = {
            (
                one.image,
                *(a // b for a, b in zip((one.z, one.y, one.x), (shard, (5, 5, 5))[one.image], strict=True)),
            )
            for one in windows
        }
        assert len(held) == 1
        shards += held
    assert len(shards) == len(set(shards))


def test_each_time_point_has_its_windows() -> None:
    plan = PatchPlan([image((3, 8, 8, 8), (8, 8, 8), (1, 8, 8, 8), axes="tzyx")])
    assert [plan.window(number).t for number in range(len(plan))] == [0, 1, 2]


def test_channels_make_no_windows_and_a_plane_holds_them() -> None:
    plan = PatchPlan([image((3, 7, 16, 16), (1, 8, 8), (3, 1, 16, 16), axes="czyx", plane=3)])
    windows = [plan.window(number) for number in range(len(plan))]
    assert [(one.z, one.y, one.x) for one in windows] == [(3, 0, 0), (3, 0, 8), (3, 8, 0), (3, 8, 8)]


def test_moved_windows_move_each_epoch_and_are_the_same_for_everyone() -> None:
    def plan() -> PatchPlan:
        return PatchPlan([image((64, 64, 64), (8, 8, 8), (64, 64, 64))], moved=True, seed=3)

    first = [plan().window(number, 1) for number in range(20)]
    assert first == [plan().window(number, 1) for number in range(20)]
    assert first != [plan().window(number, 2) for number in range(20)]
    starts = np.array(
        [[one.z, one.y, one.x] for one in (plan().window(n, e) for n in range(512) for e in range(4))]
    )
    assert len(np.unique(starts[:, 2])) > 50  # any place, not only those of the grid


def test_only_windows_that_are_kept_are_there() -> None:
    mask = np.zeros((1, 1, 4, 4), dtype=bool)
    mask[0, 0, 1, 2] = mask[0, 0, 3, 0] = True
    plan = PatchPlan([image((1, 32, 32), (1, 8, 8), (1, 16, 16))], [mask])
    assert {(plan.window(n).y, plan.window(n).x) for n in range(len(plan))} == {(8, 16), (24, 0)}
    empty = PatchPlan([image((1, 32, 32), (1, 8, 8), (1, 16, 16))], [np.zeros((1, 1, 4, 4), dtype=bool)])
    assert (len(empty), list(empty.groups)) == (0, [0])


def test_a_window_that_there_is_not_is_an_index_error() -> None:
    plan = PatchPlan([image((8, 8, 8), (8, 8, 8), (8, 8, 8))])
    for number in (-1, 1):
        with pytest.raises(IndexError):
            plan.window(number)
