"""Progress in coarse steps: honest, never falling, and nothing finer gets in."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.protocol import progress
from hdrs_hpc.protocol.progress import Phase, Progress, Stop

GOOD = Progress(
    phase=Phase.RUNNING,
    stop=Stop.NONE,
    elapsed_s=70,
    running_s=61,
    items_total=200,
    items_read=130,
    bytes_read=1 << 30,
    processes_alive=4,
    memory_bytes=1 << 31,
    alarms=0,
)


@pytest.mark.parametrize(
    ("items", "total", "told"),
    [
        (0, 200, 0),
        (9, 200, 0),
        (10, 200, 10),
        (139, 200, 130),
        (199, 200, 190),
        (200, 200, 200),
        (3, 4, 3),
        (1, 3, 1),
        (59, 60, 57),
        (0, 0, 0),
        (5, 0, 0),
    ],
)
def test_items_are_told_in_full_twentieths(items: int, total: int, told: int) -> None:
    assert progress.full_steps(items, total) == told


@given(total=st.integers(1, 10**6), data=st.data())
def test_items_never_fall_are_never_more_than_were_read_and_have_few_values(
    total: int, data: st.DataObject
) -> None:
    fewer, more = sorted(data.draw(st.tuples(st.integers(0, total), st.integers(0, total))))
    assert progress.full_steps(fewer, total) <= progress.full_steps(more, total) <= more
    assert len({progress.full_steps(step * total // 50, total) for step in range(51)}) <= 21
    assert more - progress.full_steps(more, total) <= total / 20
    assert progress.full_steps(total, total) == total


@pytest.mark.parametrize(
    ("number", "told"), [(0, 0), (1, 1), (2, 2), (3, 4), (1000, 1024), (1 << 40, 1 << 40)]
)
def test_bytes_are_told_as_the_next_power_of_two(number: int, told: int) -> None:
    assert progress.power_of_two(number) == told


@given(st.builds(lambda i, b, m, a: (i, b, m, a), *[st.integers(0, 10**9)] * 4))
def test_what_is_in_steps_stays_as_it_is(numbers: tuple[int, int, int, int]) -> None:
    items, size_bytes, memory, alarms = numbers
    once = progress.quantised(
        dataclasses.replace(
            GOOD,
            items_total=10**6,
            items_read=items,
            bytes_read=size_bytes,
            memory_bytes=memory,
            alarms=alarms,
        )
    )
    assert progress.quantised(once) == once
    assert progress.from_bytes(progress.to_bytes(once)) == once


@pytest.mark.parametrize(
    "finer",
    [{"items_read": 131}, {"items_read": 201}, {"bytes_read": 3}, {"memory_bytes": 1000}, {"alarms": 2}],
)
def test_a_report_in_finer_steps_is_none(finer: dict[str, int]) -> None:
    assert progress.from_bytes(progress.to_bytes(GOOD)) == GOOD
    with pytest.raises(BadDocumentError):
        progress.from_bytes(progress.to_bytes(dataclasses.replace(GOOD, **finer)))  # type: ignore[arg-type]
