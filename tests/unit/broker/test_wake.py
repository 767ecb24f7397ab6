from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hdrs_hpc.broker import wake
from hdrs_hpc.broker.home import BrokerHome


@pytest.fixture
def home(tmp_path: Path) -> BrokerHome:
    return BrokerHome(tmp_path)


@pytest.fixture
def bell(home: BrokerHome) -> Iterator[wake.Bell]:
    made = wake.Bell(home)
    yield made
    made.close()


def test_a_ring_ends_the_wait_at_once(home: BrokerHome, bell: wake.Bell) -> None:
    threading.Timer(0.2, wake.ring, [home]).start()
    began = time.monotonic()
    assert bell.wait(30)
    assert time.monotonic() - began < 10


def test_many_rings_are_one(home: BrokerHome, bell: wake.Bell) -> None:
    for _ in range(5000):
        wake.ring(home)  # more than the socket holds: what is too much is dropped, and nobody waits
    assert bell.wait(5)
    assert not bell.wait(0.05)


def test_without_a_controller_nobody_notices(home: BrokerHome) -> None:
    wake.ring(home)
    made = wake.Bell(home)
    made.close()
    wake.ring(home)
    assert not home.wake_socket.exists()


def test_the_socket_of_a_killed_controller_is_taken_over(home: BrokerHome, bell: wake.Bell) -> None:
    again = wake.Bell(home)
    wake.ring(home)
    assert again.wait(5)
    again.close()


def test_only_the_broker_may_ring(home: BrokerHome, bell: wake.Bell) -> None:
    assert home.wake_socket.stat().st_mode & 0o777 == 0o600
