"""The loops of the controller: errands beside them, bells, and what a slow site may hold up."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hdrs_hpc.broker import heartbeats
from hdrs_hpc.broker.controller import loops as loops_module
from hdrs_hpc.broker.controller.errands import Errands
from hdrs_hpc.broker.controller.loops import ClusterLoops, Loop
from hdrs_hpc.broker.controller.steps.ask_capacity import AskCapacity
from hdrs_hpc.broker.controller.steps.close import Certify
from hdrs_hpc.broker.controller.steps.hand_over import Bind, Deliver
from hdrs_hpc.broker.controller.steps.retire import UnlinkCopy
from hdrs_hpc.broker.controller.turns import turn
from hdrs_hpc.broker.home import BrokerHome, BrokerSettings
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.reading import status
from hdrs_hpc.broker.store import alerts
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.core.errors import SiteError

TICK_S = 0.1


@pytest.fixture
def broker(tmp_path: Path) -> OpenBroker:
    home = BrokerHome(tmp_path)
    home.make_folders()
    db = Database(home.database)
    db.migrate()
    return OpenBroker(home, BrokerSettings("here", "127.0.0.1", 1, TICK_S, 60.0), db)


def eventually(holds: Any, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@dataclass
class Courier:
    """An action that waits for a site until it is let go."""

    waits_for: str = "isambard-ai"
    let_go: threading.Event = field(default_factory=threading.Event)
    begun: int = 0
    fails: bool = False

    def act(self, broker: OpenBroker) -> None:
        self.begun += 1
        assert self.let_go.wait(20)
        if self.fails:
            raise SiteError("the site went away")


@dataclass
class Row:
    state: str = "RUNNING"


@dataclass
class Sends:
    """A step that sends its courier at every turn."""

    courier: Courier

    def observe(self, broker: OpenBroker, row: Row) -> None:
        return None

    def decide(self, facts: None) -> Courier:
        return self.courier


def test_an_errand_lets_the_loop_go_on_and_its_job_waits_for_it(broker: OpenBroker) -> None:
    courier, back = Courier(), threading.Event()
    errands = Errands(lambda moved: back.set())
    table = {"RUNNING": Sends(courier)}
    for _ in range(3):
        errands.begin_tick()
        assert turn(broker, table, Row(), "job/A", errands) == 0
    assert courier.begun == 1
    courier.let_go.set()
    assert back.wait(20)
    turn(broker, table, Row(), "job/A", errands)
    assert courier.begun == 1, "in the tick in which it came back it gets no turn: look-ups may be older"
    errands.begin_tick()
    turn(broker, table, Row(), "job/A", errands)
    assert errands.join(20)
    assert courier.begun == 2


def test_no_more_errands_at_once_than_a_connection_bears(broker: OpenBroker) -> None:
    couriers = [Courier() for _ in range(12)]
    errands = Errands(lambda moved: None)
    errands.begin_tick()
    for number, courier in enumerate(couriers):
        turn(broker, {"RUNNING": Sends(courier)}, Row(), f"job/{number}", errands)
    eventually(lambda: sum(courier.begun for courier in couriers) == 8)
    for courier in couriers:
        courier.let_go.set()
    assert errands.join(20)
    assert sum(courier.begun for courier in couriers) == 8


def test_a_site_that_hangs_all_its_errands_leaves_those_of_others_alone(broker: OpenBroker) -> None:
    hanging = [Courier() for _ in range(20)]
    others = [Courier("dawn") for _ in range(3)]
    back = threading.Semaphore(0)
    errands = Errands(lambda moved: back.release())
    for _ in range(2):
        errands.begin_tick()
        for number, courier in enumerate(hanging):
            turn(broker, {"RUNNING": Sends(courier)}, Row(), f"job/H{number}", errands)
    for courier in others:
        courier.let_go.set()
    for number, courier in enumerate(others):
        turn(broker, {"RUNNING": Sends(courier)}, Row(), f"job/{number}", errands)
    for _ in others:
        assert back.acquire(timeout=20)
    assert [courier.begun for courier in others] == [1, 1, 1]
    eventually(lambda: sum(courier.begun for courier in hanging) == 8)
    for courier in hanging:
        courier.let_go.set()
    assert errands.join(20)
    assert sum(courier.begun for courier in hanging) == 8


def test_what_waits_for_a_site_says_which_and_a_certificate_counts_for_its_project_alone() -> None:
    job: Any = SimpleNamespace(cluster="dawn")
    copy: Any = SimpleNamespace(cluster="isambard-ai")
    project: Any = SimpleNamespace(name="lung-fm")
    none: Any = None
    assert Bind(job, none, none, none).waits_for == "dawn"
    assert Deliver(job, none, none).waits_for == "dawn"
    assert AskCapacity("isambard-ai", ()).waits_for == "isambard-ai"
    assert UnlinkCopy(copy).waits_for == "isambard-ai"
    assert Certify(project).waits_for == "project/lung-fm"


def test_an_errand_that_fails_waits_visibly_and_one_that_succeeds_takes_it_back(broker: OpenBroker) -> None:
    courier = Courier(fails=True)
    courier.let_go.set()
    errands = Errands(lambda moved: None)
    for fails, expected in ((True, ["site-trouble"]), (False, [])):
        courier.fails = fails
        errands.begin_tick()
        turn(broker, {"RUNNING": Sends(courier)}, Row(), "job/A", errands)
        assert errands.join(20)
        with broker.db.read() as tx:
            assert [item.code for item in alerts.every(tx)] == expected


def test_a_cluster_that_hangs_holds_up_no_other(broker: OpenBroker) -> None:
    release, ticks = threading.Event(), {"dead": 0, "well": 0}

    def tick(loop: Loop, name: str) -> int:
        ticks[name] += 1
        if name == "dead":
            release.wait(20)
        return 0

    loops = ClusterLoops(broker, tick, lambda: None)
    loops.look_after(["dead", "well"])
    eventually(lambda: ticks["well"] >= 10)
    assert ticks["dead"] == 1
    names = {beat.cluster for beat in heartbeats.clusters(broker.home)}
    assert names == {"dead", "well"}
    assert not loops.end(0.3), "it does not wait for the site"
    release.set()
    assert loops.end(20)


def test_a_loop_that_fails_of_our_own_bug_is_told_and_tries_again_after_growing_pauses(
    broker: OpenBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops_module, "FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr(loops_module, "LONGEST_PAUSE_S", 0.4)
    ticks: list[float] = []
    mended = threading.Event()

    def tick(loop: Loop, name: str) -> int:
        ticks.append(time.monotonic())
        if not mended.is_set():
            raise ValueError("told to nobody")
        return 0

    loops = ClusterLoops(broker, tick, lambda: None)
    loops.look_after(["one"])
    eventually(lambda: len(ticks) >= 6)
    pauses = [later - sooner for sooner, later in itertools.pairwise(ticks)]
    assert all(pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.4, 0.4, 0.4), strict=False))
    (beat,) = heartbeats.clusters(broker.home)
    assert beat.failures >= 5
    assert beat.failed_with.startswith("ValueError at test_loops.py:")
    assert not beat.well
    loops.ring()
    mended.set()
    eventually(lambda: heartbeats.clusters(broker.home)[0].well)
    assert loops.end(20)


def test_a_loop_that_failed_sends_no_second_errand_after_one_that_is_under_way(
    broker: OpenBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops_module, "FIRST_PAUSE_S", 0.01)
    courier, ticks = Courier(), 0

    def tick(loop: Loop, name: str) -> int:
        nonlocal ticks
        ticks += 1
        turn(loop.broker, {"RUNNING": Sends(courier)}, Row(), "job/A", loop.errands)
        if ticks < 3:
            raise ValueError("a bug")
        return 0

    loops = ClusterLoops(broker, tick, lambda: None)
    loops.look_after(["one"])
    eventually(lambda: ticks > 4)
    assert courier.begun == 1
    courier.let_go.set()
    assert loops.end(20)


def test_a_loop_that_hangs_is_named_with_its_step_and_the_process_ends(
    broker: OpenBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broker.settings = replace(broker.settings, hang_limit_s=0.05)
    release, ended = threading.Event(), threading.Event()

    def tick(loop: Loop, name: str) -> int:
        loop.pulse.beat("RunStep", "job/7K3QW2")
        release.wait(20)
        return 0

    loops = ClusterLoops(broker, tick, lambda: None, ended.set)
    loops.look_after(["dawn"])
    assert not ended.is_set(), "a site may be slow for a while"
    eventually(lambda: loops.look_after(["dawn"]) or ended.is_set())
    assert "cluster/dawn: hangs" in caplog.text
    assert "in RunStep of job/7K3QW2" in caplog.text
    release.set()
    assert loops.end(20)


def test_status_names_what_a_stuck_loop_is_at_and_where_a_failing_one_gave_up() -> None:
    stuck = heartbeats.Heartbeat("dawn", 1, 95.0, 60.0, "RunStep", "job/7K3QW2")
    told = status.cluster_loop(stuck)
    assert (told.name, told.answers) == ("cluster dawn", False)
    assert told.said == "stuck? last heard of 95 s ago, in RunStep of job/7K3QW2"
    failing = replace(stuck, age_s=3.0, failures=4, failed_with="ValueError at run.py:12")
    told = status.cluster_loop(failing)
    assert (told.answers, told.said) == (False, "failed 4 times: ValueError at run.py:12; it tries again")
    assert status.cluster_loop(replace(stuck, age_s=3.0)).answers


def test_nothing_is_done_at_a_site_while_the_log_does_not_hold(broker: OpenBroker) -> None:
    ticks: list[str] = []
    loops = ClusterLoops(broker, lambda loop, name: ticks.append(name) or 0, lambda: None)
    loops.held = True
    loops.look_after(["one"])
    time.sleep(5 * TICK_S)
    assert ticks == []
    loops.held = False
    eventually(lambda: bool(ticks))
    assert loops.end(20)


def test_what_moves_on_is_told_to_the_controller(broker: OpenBroker) -> None:
    told = threading.Event()
    loops = ClusterLoops(broker, lambda loop, name: 1, told.set)
    loops.look_after(["one"])
    assert told.wait(20)
    assert loops.end(20)
