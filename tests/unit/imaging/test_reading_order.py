from __future__ import annotations

from itertools import groupby

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.reading.order import mixed_order, part_of, run_order

runs = st.lists(st.integers(1, 30), max_size=12)


def bounds(sizes: list[int]) -> np.ndarray:
    return np.cumsum([0, *sizes]).astype(np.int64)


@settings(max_examples=80, deadline=None)
@given(sizes=runs, world=st.integers(1, 4), workers=st.integers(1, 5), epoch=st.integers(0, 3))
def test_ranks_and_workers_share_an_epoch_out_without_overlap(sizes, world, workers, epoch) -> None:
    groups = bounds(sizes)
    total = int(groups[-1])
    seen: list[int] = []
    for rank in range(world):
        mine: list[int] = []
        for worker in range(workers):
            mine += run_order(groups, 5, epoch, part_of(total, rank, world, worker, workers))
        assert len(mine) == total // world  # equal, or the ranks would wait for each other
        seen += mine
    assert len(seen) == len(set(seen)) >= total - world + 1
    assert set(seen) <= set(range(total))


def test_runs_stay_together_and_come_in_another_order_each_epoch() -> None:
    groups = bounds([10] * 20)
    orders = [list(run_order(groups, 1, epoch)) for epoch in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == list(range(200))
    assert list(run_order(groups, 2, 0)) != orders[0]
    visited = [shard for shard, _ in groupby(number // 10 for number in orders[0])]
    assert sorted(visited) == list(range(20)) != visited


@settings(max_examples=80, deadline=None)
@given(sizes=runs, mixed=st.sampled_from([1, 7, 1000]), epoch=st.integers(0, 3))
def test_a_mixed_order_is_a_permutation_of_all_runs(sizes, mixed, epoch) -> None:
    groups = bounds(sizes)
    total = int(groups[-1])
    order = mixed_order(total, 3, epoch, groups, mixed)
    assert sorted(order.tolist()) == list(range(total))
    assert sorted(mixed_order(total, 3, epoch).tolist()) == list(range(total))


def test_mixing_opens_few_shards_at_a_time() -> None:
    order = mixed_order(5000, 1, 0, bounds([100] * 50), 300) // 100
    open_at_once = [len(set(order[at : at + 64].tolist())) for at in range(0, 5000 - 64, 64)]
    assert 3 <= float(np.mean(open_at_once)) <= 20
    everything = mixed_order(5000, 1, 0) // 100
    assert len(set(everything[:64].tolist())) > 30  # what full shuffling opens


def test_nothing_is_an_empty_epoch() -> None:
    assert list(run_order(bounds([]), 0, 0)) == []
    assert list(run_order(bounds([]), 0, 0, part_of(0, 0, 2))) == []
