"""When a loop looks again."""

from __future__ import annotations

import pytest

from hdrs_hpc.broker.controller.pace import Budget, Pace

BUDGET = Budget(at_once=60, then_s=2.0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def looks_in(pace: Pace, clock: Clock, seconds: float, *, moved: bool = False) -> list[float]:
    """When it looks, from now on, if nobody rings."""
    end, found = clock.now + seconds, []
    while True:
        clock.now += pace.pause_s()
        if clock.now >= end:
            return found
        pace.looked(moved=moved)
        found.append(clock.now)


@pytest.mark.parametrize("after_s", [3.0, 10.0, 40.0])
def test_what_happens_soon_after_a_change_is_seen_at_most_a_quarter_later(after_s: float) -> None:
    clock = Clock()
    pace = Pace(30.0, 0.5, BUDGET, clock)
    clock.now += 5000
    pace.looked(moved=True)
    begun = clock.now
    seen = next(at for at in looks_in(pace, clock, 300) if at >= begun + after_s)
    assert seen - begun <= after_s * 1.25 + 0.5


def test_where_nothing_happens_it_looks_once_a_tick() -> None:
    clock = Clock()
    pace = Pace(30.0, 0.5, BUDGET, clock)
    looks_in(pace, clock, 600)
    assert 80 <= len(looks_in(pace, clock, 3000)) <= 125


def test_a_site_where_something_always_happens_is_asked_no_more_often_than_the_budget_says() -> None:
    clock = Clock()
    pace = Pace(30.0, 0.5, BUDGET, clock)
    assert len(looks_in(pace, clock, 60, moved=True)) <= 60 + 30
    assert len(looks_in(pace, clock, 600, moved=True)) <= 30 * 10 + 1


def test_ringing_does_not_exceed_the_budget_either() -> None:
    clock = Clock()
    pace = Pace(30.0, 0.5, BUDGET, clock)
    begun, looks = clock.now, 0
    while clock.now - begun < 600:
        clock.now += pace.least_s()
        pace.looked(moved=False)
        looks += 1
    assert looks <= 60 + 30 * 10 + 1
    assert looks >= 30 * 9, "it is slowed down, not stopped"


def test_a_budget_never_makes_a_loop_slower_than_its_tick() -> None:
    clock = Clock()
    pace = Pace(0.1, 0.5, BUDGET, clock)
    assert len(looks_in(pace, clock, 60, moved=True)) >= 400
