from __future__ import annotations

from itertools import groupby

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.reading.order import epoch_order, part_of

runs = st.lists(st.integers(1, 30), max_size=12)


def bounds(sizes: list[int]) -> np.ndarray:
    return np.cumsum([0, *sizes]).astype(np.int64)


@settings(max_examples=80, deadline=None)
@given(
    sizes=runs,
    world=st.integers(1, 4),
    workers=st.integers(1, 5),
    buffer=st.sampled_from([1, 7, 1000]),
    epoch=st.integers(0, 3),
)
def test_ranks_and_workers_share_an_epoch_out_without_overlap(sizes, world, workers, buffer, epoch) -> None:
    groups = bounds(sizes)
    total = int(groups[-1])
    seen: list[int] = []
    for rank in range(world):
        mine: list[int] = []
        for worker in range(workers):
            part = part_of(total, rank, world, worker, workers)
            mine += epoch_order(groups, 5, epoch, part, buffer)
        assert len(mine) == total // world  # equal, or the ranks would wait for each other
        seen += mine
    assert len(seen) == len(set(seen)) >= total - world + 1
    assert set(seen) <= set(range(total))


def test_one_reader_sees_everything_in_another_order_each_epoch() -> None:
    groups = bounds([10] * 20)
    orders = [list(epoch_order(groups, 1, epoch)) for epoch in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == list(range(200))
    assert list(epoch_order(groups, 2, 0)) != orders[0]


def test_unmixed_it_stays_with_one_shard_until_it_is_done() -> None:
    groups = bounds([10] * 20)
    order = list(epoch_order(groups, 1, 0, buffer=1))
    visited = [shard for shard, _ in groupby(number // 10 for number in order)]
    assert len(visited) <= 2 * 20 - 1  # a buffer of one lets a single window lag behind
    assert visited != sorted(visited)


def test_a_buffer_opens_few_shards_at_a_time_and_mixes_them() -> None:
    groups = bounds([100] * 50)
    order = np.array(list(epoch_order(groups, 1, 0, buffer=300))) // 100
    open_at_once = [len(set(order[at : at + 64])) for at in range(0, 5000 - 64, 64)]
    assert 3 <= float(np.mean(open_at_once)) <= 20
    everything = np.random.default_rng(0).permutation(5000) // 100
    assert len(set(everything[:64])) > 30  # what full shuffling would open


def test_nothing_is_an_empty_epoch() -> None:
    assert list(epoch_order(bounds([]), 0, 0)) == []
    assert list(epoch_order(bounds([]), 0, 0, part_of(0, 0, 2))) == []
