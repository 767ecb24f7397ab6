"""One order for any number of ranks, and a place in it that can be taken up again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.reading.sampler import ResumableSampler


def steps(world: int, samples_a_step: int, size: int = 103, **more: int) -> list[list[int]]:
    """What all ranks together see in each step of an epoch, in the order of the ranks."""
    batch = samples_a_step // world
    ranks = [
        list(ResumableSampler(size, rank=rank, world_size=world, batch_size=batch, **more))
        for rank in range(world)
    ]
    assert len({len(rank) for rank in ranks}) == 1
    made = []
    for at in range(0, len(ranks[0]), batch):
        together = [rank[at : at + batch] for rank in ranks]
        made.append([number for column in zip(*together, strict=True) for number in column])
    return made


def test_one_two_and_four_ranks_see_one_order() -> None:
    alone = steps(1, 8)
    assert steps(2, 8) == alone
    assert steps(4, 8) == alone
    everything = [number for step in alone for number in step]
    assert len(set(everything)) == len(everything) == 96
    assert steps(1, 8, seed=1) != alone


def test_each_epoch_has_an_order_of_its_own() -> None:
    sampler = ResumableSampler(50, seed=4)
    first = list(sampler)
    assert list(sampler) == first  # nobody counted a batch
    sampler.set_epoch(1)
    assert sorted(sampler) == sorted(first) == list(range(50))
    assert list(sampler) != first


def test_a_sampler_goes_on_by_itself_to_the_next_epoch() -> None:
    sampler = ResumableSampler(10, batch_size=4)
    first = list(sampler)
    sampler.count_batch()
    sampler.count_batch()
    assert sampler.state_dict() == {"epoch": 0, "sample_in_epoch": 8, "seed": 0}
    assert len(list(sampler)) == 8
    assert sampler.state_dict() == {"epoch": 1, "sample_in_epoch": 0, "seed": 0}
    assert list(sampler) != first


@settings(max_examples=100, deadline=None)
@given(
    size=st.integers(16, 200),
    before=st.sampled_from([1, 2, 4]),
    after=st.sampled_from([1, 2, 4]),
    done=st.integers(0, 12),
    seed=st.integers(0, 5),
    grouped=st.booleans(),
)
def test_training_goes_on_in_mid_epoch_on_another_number_of_ranks(
    size: int, before: int, after: int, done: int, seed: int, grouped: bool
) -> None:
    groups = np.asarray([0, size // 3, size // 2, size]) if grouped else None
    whole = list(ResumableSampler(size, seed=seed, batch_size=16, groups=groups))
    first = ResumableSampler(size, seed=seed, world_size=before, batch_size=16 // before, groups=groups)
    for _ in range(min(done, len(whole) // 16 - 1)):
        first.count_batch()
    state = first.state_dict()
    resumed = []
    for rank in range(after):
        sampler = ResumableSampler(
            size, seed=99, rank=rank, world_size=after, batch_size=16 // after, groups=groups
        )
        sampler.load_state_dict(state)
        resumed.append(list(sampler))
    together = [number for column in zip(*resumed, strict=True) for number in column]
    assert together == whole[state["sample_in_epoch"] :]


def test_without_dropping_the_last_ones_every_sample_is_seen_and_ranks_stay_equal() -> None:
    ranks = [
        list(ResumableSampler(10, rank=rank, world_size=4, batch_size=2, drop_last=False))
        for rank in range(4)
    ]
    assert {len(rank) for rank in ranks} == {3}
    assert set().union(*ranks) == set(range(10))
    counted = ResumableSampler(10, world_size=4, batch_size=2, drop_last=False)
    for _ in range(2):
        counted.count_batch()
    assert counted.sample_in_epoch == 12
    assert counted.begin() == 1


def test_data_that_fill_no_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="fill no batch of 8 on 2 ranks"):
        ResumableSampler(15, batch_size=8, world_size=2)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        ResumableSampler(15, rank=2, world_size=2)


@pytest.mark.parametrize("state", [{"epoch": -1}, {"sample_in_epoch": -1}, {"sample_in_epoch": 11}])
def test_a_place_that_there_is_not_is_refused(state: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="no place"):
        ResumableSampler(10).load_state_dict({"epoch": 0, "sample_in_epoch": 0, "seed": 0} | state)
