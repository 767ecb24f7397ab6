"""The meter and its file: coarse numbers, and at times that a workload can hardly choose."""

from __future__ import annotations

from pathlib import Path

import pytest

from hdrs_hpc.node import meter
from hdrs_hpc.node.meter import Meter, ProgressFile
from hdrs_hpc.protocol import progress
from hdrs_hpc.protocol.progress import Phase


def test_what_leaves_is_coarser_than_what_is_counted() -> None:
    counting = Meter()
    counting.items_total = 100
    counting.processes_planned = 2
    counting.pids = lambda: [10**7, 10**7 + 1, 10**7 + 2]  # none of them lives
    for number in range(13):
        counting.served("ct", {f"S{number}"}, 77)
    counting.alarm()
    counting.alarm()
    told = counting.snapshot(alarms=3)
    assert counting.exact == (13, 1001, 13, 2)
    assert counting.totals == (10, 1024)
    assert (told.items_read, told.bytes_read, told.alarms, told.processes_alive) == (10, 1024, 1, 2)


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(meter, "time", made)
    monkeypatch.setattr(meter, "LOOK_S", 3600.0)
    return made


def test_reports_come_with_a_phase_or_every_fifteen_seconds_where_a_number_changed(
    tmp_path: Path, clock: Clock
) -> None:
    counting = Meter()
    counting.items_total = 10
    path = tmp_path / "attempts/progress.json"
    file = ProgressFile(path, counting.snapshot)

    def told() -> progress.Progress:
        file.look()
        return progress.from_bytes(path.read_bytes())

    assert told().phase == Phase.WAITING
    counting.phase = Phase.RUNNING
    clock.at += 1
    assert (told().phase, told().elapsed_s) == (Phase.RUNNING, 1)
    counting.served("ct", {"S1"}, 100)
    clock.at += 14
    assert told().items_read == 0
    clock.at += 2
    assert (told().items_read, told().elapsed_s) == (1, 17)
    counting.served("ct", {"S1"}, 20)  # 120 bytes: the same power of two
    clock.at += 600
    assert told().elapsed_s == 17  # the time of a report tells nothing either
    counting.served("ct", {"S1"}, 20)
    assert (told().bytes_read, told().elapsed_s) == (256, 617)
    counting.phase = Phase.DONE
    file.close()
    assert told().phase == Phase.DONE
