"""``broker status``: which process lives, what waits, and whether the log is the one keyd signed."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdrs_hpc.broker import heartbeats, serve, states
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.keyd import client, messages
from hdrs_hpc.broker.store import alerts, copies, jobs, log, projects
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.core.errors import HdrsError


@dataclass(frozen=True)
class ProcessState:
    """One of the broker's processes; ``pid`` is None when it does not run."""

    name: str
    pid: int | None
    answers: bool
    said: str

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "pid": self.pid, "answers": self.answers, "said": self.said}


@dataclass(frozen=True)
class BrokerStatus:
    home: Path
    url: str
    audience: str
    processes: tuple[ProcessState, ...]
    trust_root: str | None
    projects: dict[str, int]
    jobs: dict[str, int]
    copies_under_way: int
    alerts: tuple[alerts.Alert, ...]
    log_size: int
    signed_size: int | None

    @property
    def ok(self) -> bool:
        """Everything lives, a trust root is there, and nothing waits for help."""
        return self.up and self.trust_root is not None

    @property
    def up(self) -> bool:
        return all(item.answers for item in self.processes)

    def as_dict(self) -> dict[str, Any]:
        return {
            "home": str(self.home),
            "url": self.url,
            "audience": self.audience,
            "up": self.up,
            "ok": self.ok,
            "processes": [item.as_dict() for item in self.processes],
            "trust-root": self.trust_root,
            "projects": self.projects,
            "jobs": self.jobs,
            "copies-under-way": self.copies_under_way,
            "alerts": [vars(item) for item in self.alerts],
            "log-size": self.log_size,
            "signed-size": self.signed_size,
        }


def wait(home: BrokerHome, seconds: float) -> BrokerStatus:
    """Look until everything is up, for at most so long; gives the last look."""
    deadline = time.monotonic() + seconds
    while True:
        found = look(home)
        if found.up or time.monotonic() >= deadline:
            return found
        time.sleep(0.2)


def look(home: BrokerHome) -> BrokerStatus:
    """Look at a broker from its own machine; starts and changes nothing."""
    settings = home.settings()
    pids = _pids(home)
    keyd, told = _keyd(home, pids.get("keyd"))
    web_lives = serve.answers(home) if "web" in pids else False
    db = Database(home.database)
    with db.read() as tx:
        status = BrokerStatus(
            home=home.root,
            url=settings.url,
            audience=settings.audience,
            processes=(
                keyd,
                _controller(home, pids.get("controller")),
                *map(cluster_loop, heartbeats.clusters(home)),
                ProcessState("web", pids.get("web"), web_lives, settings.url),
            ),
            trust_root=told.root if told else None,
            projects=_count(states.PROJECT, [item.state for item in projects.every(tx)]),
            jobs=_count(states.JOB, [item.state for item in jobs.active(tx)]),
            copies_under_way=len(copies.active(tx)),
            alerts=tuple(alerts.every(tx)),
            log_size=log.size(tx),
            signed_size=told.log_size if told else None,
        )
    db.close()
    return status


def _count(table: dict[str, states.State], found: list[str]) -> dict[str, int]:
    return {state: found.count(state) for state in table if state in found}


def _keyd(home: BrokerHome, pid: int | None) -> tuple[ProcessState, messages.KeydStatus | None]:
    if not home.keyd_socket.exists():
        return ProcessState("keyd", pid, False, ""), None
    beat = heartbeats.keyd(home)
    if pid is not None and beat is not None and beat.pid == pid and beat.stale:
        return ProcessState("keyd", pid, False, _heard(beat)), None
    try:
        told = client.ask(home.keyd_socket, messages.Status(), wait_s=1.0, answer_s=5.0)
    except HdrsError as error:
        return ProcessState("keyd", pid, False, error.message), None
    return ProcessState("keyd", pid, True, f"keystore {told.keystore_class}"), told


def _controller(home: BrokerHome, pid: int | None) -> ProcessState:
    """It answers by its heartbeat: a process that is stopped or hangs is there, and does nothing."""
    beat = heartbeats.controller(home)
    if pid is None or beat is None or beat.pid != pid:
        return ProcessState("controller", pid, False, "" if pid is None else "not heard of yet")
    return ProcessState("controller", pid, beat.well, _heard(beat))


def cluster_loop(beat: heartbeats.Heartbeat) -> ProcessState:
    """One cluster's loop, a thread of the controller."""
    return ProcessState(f"cluster {beat.cluster}", beat.pid, beat.well, _heard(beat))


def _heard(beat: heartbeats.Heartbeat) -> str:
    if beat.stale:
        doing = f", in {beat.step} of {beat.about}" if beat.step else ""
        return f"stuck? last heard of {beat.age_s:.0f} s ago{doing}"
    if beat.failures:
        return f"failed {beat.failures} times: {beat.failed_with}; it tries again"
    return f"heard of {beat.age_s:.0f} s ago"


def _pids(home: BrokerHome) -> dict[str, int]:
    """What ``serve`` noted, as far as those processes still are what they were."""
    try:
        noted = json.loads((home.root / "serve.json").read_text("ascii"))
    except FileNotFoundError:
        return {}
    return {
        name: pid for name, pid in noted.items() if name in serve.MODULES and _is(pid, serve.MODULES[name])
    }


def _is(pid: int, module: str) -> bool:
    """Pids are used again: the command line tells whether it is still the same process."""
    try:
        return module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
