"""Signs of life: each loop of the controller, and keyd, says that it goes on, and others read how long ago.

A loop that hangs or is stopped says nothing any more; that it runs as a process proves nothing.  Each heartbeat
carries after how long a silence it counts as stale, which its writer knows best, what the loop went about, and how
often its turns failed.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.core import clock

CONTROLLER = "controller"
"""The loop of projects, copies and reviews."""
KEYD = "keyd"
_CLUSTER = "cluster-"


@dataclass(frozen=True)
class Heartbeat:
    """The last sign of life of one loop.  ``cluster`` is None for the controller's own."""

    cluster: str | None
    pid: int
    age_s: float
    stale_after_s: float
    step: str = ""
    """What it went about: a step, or nothing between two ticks."""
    about: str = ""
    """The job, copy or project that it did so for."""
    failures: int = 0
    """How many of its ticks failed one after the other, the last one included."""
    failed_with: str = ""

    @property
    def stale(self) -> bool:
        return self.age_s > self.stale_after_s

    @property
    def well(self) -> bool:
        return not self.stale and not self.failures


class Pulse:
    """The writing end of one loop's heartbeat."""

    def __init__(self, home: BrokerHome, name: str, stale_after_s: float) -> None:
        self.name, self._path = name, home.heartbeats_dir / f"{name}.json"
        self._stale_after_s = stale_after_s
        self._last = time.monotonic()
        self.doing = ""
        self.failures, self._failed_with = 0, ""

    @classmethod
    def of_controller(cls, home: BrokerHome, stale_after_s: float) -> Pulse:
        return cls(home, CONTROLLER, stale_after_s)

    @classmethod
    def of_keyd(cls, home: BrokerHome, stale_after_s: float) -> Pulse:
        home.heartbeats_dir.mkdir(mode=0o700, exist_ok=True)
        return cls(home, KEYD, stale_after_s)

    @classmethod
    def of_cluster(cls, home: BrokerHome, cluster: str, stale_after_s: float) -> Pulse:
        return cls(home, f"{_CLUSTER}{cluster}", stale_after_s)

    def beat(self, step: str = "", about: str = "") -> None:
        """Say that it goes on.  Replaced whole, so that a reader never sees half of one; a crash may lose it."""
        self._last, self.doing = time.monotonic(), f"{step} of {about}" if step else "nothing"
        told = {
            "at": clock.now().timestamp(),
            "pid": os.getpid(),
            "stale-after-s": self._stale_after_s,
            "step": step,
            "about": about,
            "failures": self.failures,
            "failed-with": self._failed_with,
        }
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps(told), "ascii")
        draft.replace(self._path)

    def failed(self, why: str) -> None:
        """Say that a tick failed; it is said until one went well."""
        self.failures, self._failed_with = self.failures + 1, why
        self.beat()

    def went_well(self) -> None:
        """Say that a tick is over."""
        self.failures, self._failed_with = 0, ""
        self.beat()

    @property
    def silent_s(self) -> float:
        """How long the loop has said nothing, by this process's own clock, which no change of time moves."""
        return time.monotonic() - self._last


def begin(home: BrokerHome) -> None:
    """Forget the heartbeats of an earlier controller, some of clusters that are no more."""
    home.heartbeats_dir.mkdir(mode=0o700, exist_ok=True)
    for path in home.heartbeats_dir.iterdir():
        if path.stem != KEYD:
            path.unlink(missing_ok=True)


def controller(home: BrokerHome, now: datetime | None = None) -> Heartbeat | None:
    """The controller's own; None where none was ever heard of."""
    return _read(home.heartbeats_dir / f"{CONTROLLER}.json", now or clock.now())


def keyd(home: BrokerHome, now: datetime | None = None) -> Heartbeat | None:
    """keyd's; None where none was ever heard of."""
    return _read(home.heartbeats_dir / f"{KEYD}.json", now or clock.now())


def clusters(home: BrokerHome, now: datetime | None = None) -> list[Heartbeat]:
    """Those of the clusters' workers, by the cluster's name."""
    if not home.heartbeats_dir.is_dir():
        return []
    paths = sorted(home.heartbeats_dir.glob(f"{_CLUSTER}*.json"))
    found = (_read(path, now or clock.now()) for path in paths)
    return [item for item in found if item is not None]


def _read(path: Path, now: datetime) -> Heartbeat | None:
    try:
        told = json.loads(path.read_text("ascii"))
    except FileNotFoundError:
        return None
    return Heartbeat(
        cluster=path.stem.removeprefix(_CLUSTER) if path.stem.startswith(_CLUSTER) else None,
        pid=told["pid"],
        age_s=max(0.0, now.timestamp() - told["at"]),
        stale_after_s=told["stale-after-s"],
        step=told["step"],
        about=told["about"],
        failures=told["failures"],
        failed_with=told["failed-with"],
    )
