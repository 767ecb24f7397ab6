"""The controller asks a cluster what its nodes have: now and then, and no site's silence takes away what is known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.clusters import ClusterUnreachableError
from hdrs_hpc.broker.controller.steps.ask_capacity import (
    AFTER_NO_ANSWER_S,
    EVERY_S,
    AskCapacity,
    AskCapacityStep,
    CapacityFacts,
)
from hdrs_hpc.broker.store import capacity
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.core.capacity import Capacity, NodeKind

HAS = Capacity((NodeKind(2, 64, 262_144, ("gpu:4",)),), max_time_s=86_400)


class Site:
    """A cluster that tells of its nodes, or is down."""

    def __init__(self) -> None:
        self.up = True

    def capacity(self) -> Capacity:
        if not self.up:
            raise ClusterUnreachableError("no answer")
        return HAS


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    db = Database(tmp_path / "broker.db")
    db.migrate()
    site = Site()
    settings = SimpleNamespace(beside_walltime_s=1200)
    yield SimpleNamespace(db=db, settings=settings, site=site, cluster=lambda name, project: site)
    db.close()


def known(broker: Any) -> capacity.Told | None:
    with broker.db.read() as tx:
        return capacity.of(tx, "here")


def test_what_it_tells_is_kept_with_the_time_that_is_left_for_a_workload(broker: Any) -> None:
    assert known(broker) is None
    AskCapacity("here", ("lung-fm",)).act(broker)
    told = known(broker)
    assert told is not None and told.capacity is not None and told.told_at is not None
    assert (told.capacity.kinds, told.capacity.max_time_s) == (HAS.kinds, 86_400 - 1200)


def test_a_site_that_does_not_answer_keeps_what_it_told_before(broker: Any) -> None:
    AskCapacity("here", ("lung-fm",)).act(broker)
    before = known(broker)
    broker.site.up = False
    AskCapacity("here", ("lung-fm",)).act(broker)
    after = known(broker)
    assert before is not None and after is not None
    assert (after.capacity, after.told_at) == (before.capacity, before.told_at)


def test_a_site_that_never_answered_is_not_known(broker: Any) -> None:
    broker.site.up = False
    AskCapacity("here", ("lung-fm",)).act(broker)
    told = known(broker)
    assert told is not None and told.capacity is None and told.told_at is None


@pytest.mark.parametrize(
    ("projects", "asked_s", "is_known", "asks"),
    [
        ((), None, False, False),
        (("lung-fm",), None, False, True),
        (("lung-fm",), AFTER_NO_ANSWER_S - 1, False, False),
        (("lung-fm",), AFTER_NO_ANSWER_S, False, True),
        (("lung-fm",), AFTER_NO_ANSWER_S, True, False),
        (("lung-fm",), EVERY_S, True, True),
    ],
)
def test_it_is_asked_now_and_then(
    projects: tuple[str, ...], asked_s: float | None, is_known: bool, asks: bool
) -> None:
    action = AskCapacityStep().decide(CapacityFacts("here", projects, asked_s, is_known))
    assert (action is not None) is asks
