"""The certificate's rows: every place that can hold patient data is looked at, and each look can say no."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.clusters import ClusterUnreachableError, JobPhase
from hdrs_hpc.audit.places import PLACES, UNVERIFIED
from hdrs_hpc.broker.controller import certificate, certify, processes
from hdrs_hpc.broker.controller.finders import (
    FINDERS,
    FOUND,
    UNREACHABLE,
    Found,
    KeyStillThereError,
    PlaceNotEmptyError,
    Subject,
    is_verified,
)
from hdrs_hpc.broker.controller.steps.samples import Tried
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.client import KeydRefusedError
from hdrs_hpc.core.errors import NotAllowedError

COPY, KEPT, ATTEMPT, JOB = "c0pyc0pyc0", "k3ptk3pt", "hdrs-0123456789abcdefghjkmnpqrs", "7K3QW2"
LOOKED_AT = sorted(name for name, place in PLACES.items() if place.verified_by not in UNVERIFIED)


@dataclass
class Site:
    """A cluster on which nothing is left, unless a test puts it there."""

    trees: dict[str, list[str]] = field(default_factory=dict)
    phase: JobPhase = JobPhase.ENDED
    error: Exception | None = None

    def find(self, names: list[str]) -> Any:
        self._trouble()
        return SimpleNamespace(jobs={name: [SimpleNamespace(phase=self.phase)] for name in names})

    def list_tree(self, *parts: str) -> list[str]:
        self._trouble()
        return self.trees.get(parts[-1], [])

    def _trouble(self) -> None:
        if self.error is not None:
            raise self.error


class World:
    """What the finders look at after a life: a home, a cluster, keyd's answers, the database."""

    def __init__(self, folder: Path) -> None:
        self.home = BrokerHome(folder)
        self.home.make_folders()
        self.site = Site()
        self.live: list[m.LiveKey] = []
        self.gives = False
        self.db = SimpleNamespace(read=self._no_artefacts)

    @contextmanager
    def _no_artefacts(self) -> Iterator[Any]:
        yield SimpleNamespace(execute=lambda _query: [])

    def cluster(self, _name: str, _project: str) -> Site:
        return self.site

    def ask(self, request: m.Ask[Any]) -> Any:
        if isinstance(request, m.Inspect):
            return m.ProjectKeys(tuple(self.live), (), False, None, False)
        assert isinstance(request, m.UseKey)
        if self.gives:
            return m.GivenKey(b"k" * 32, None)
        raise KeydRefusedError(NotAllowedError("no").as_dict())


def subject() -> Subject:
    return Subject(
        project=SimpleNamespace(name="lung-fm"),  # type: ignore[arg-type]  # what the finders need of it
        copies=(SimpleNamespace(id=COPY, cluster="here"),),  # type: ignore[arg-type]
        kept=(SimpleNamespace(id=KEPT, attempt=ATTEMPT, output="encoder", cluster="here"),),  # type: ignore[arg-type]
        jobs=(SimpleNamespace(id=JOB, cluster="here"),),  # type: ignore[arg-type]
        attempts=((SimpleNamespace(name=ATTEMPT), SimpleNamespace(id=JOB, cluster="here")),),  # type: ignore[arg-type]
        key_ends={"K-1": "2027-01-01T00:00:00Z", "K-2": "2027-01-01T00:00:00Z"},
        key_ids={("copy", COPY): "K-1", ("output", ATTEMPT): "K-2"},
        deid_destroyed=True,
        master_rotated=True,
        copies_tried={COPY: Tried(38, 9_999, 1, 3)},
        attempts_tried={ATTEMPT: Tried(4, 700, 2, 3)},
        kept_tried={f"{ATTEMPT}/encoder": Tried(3, 500, 2, 3)},
        quarantine=(5, 600),
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def rows(world: World, about: Subject | None = None) -> dict[str, Found]:
    return certify.look(world, about or subject())  # type: ignore[arg-type]  # as much of a context as they use


def test_every_place_has_its_finder() -> None:
    assert FINDERS.keys() == PLACES.keys()


def test_after_a_clean_end_every_row_says_what_was_done(world: World) -> None:
    found = rows(world)
    certify._require_complete(found)
    for name, row in found.items():
        assert row.how
        assert is_verified(name, row) == (name in LOOKED_AT)
        if name not in LOOKED_AT:
            assert row.how.startswith("not looked at"), name
    assert (found["sealed-copies"].count, found["sealed-copies"].size) == (38, 9_999)
    assert (found["kept-outputs"].count, found["kept-outputs"].size) == (3, 500)
    assert (found["attempt-outputs"].count, found["attempt-outputs"].size) == (4, 700)
    assert (found["quarantine"].count, found["quarantine"].size) == (5, 600)
    assert found["attempt-progress"].size is None, "nobody measured it by itself, so no number is claimed"


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"left behind")


@contextmanager
def _process(name: str) -> Iterator[None]:
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)", "--attempt", name])
    try:
        deadline = time.monotonic() + 10
        while not processes.naming([name])[1] and time.monotonic() < deadline:
            time.sleep(0.05)
        yield
    finally:
        started.kill()
        started.wait()


@contextmanager
def _change(change: Callable[[World], None], world: World) -> Iterator[None]:
    change(world)
    yield


def _runs(world: World) -> None:
    world.site.phase = JobPhase.COMPLETING


def _left(folder: str) -> Callable[[World], None]:
    return lambda world: world.site.trees.update({folder: ["x/", "x/object"]})


FALSIFIED: dict[str, Callable[[World], Any]] = {
    "stager-memory": lambda world: _process(COPY),
    "checker-memory": lambda world: _process(ATTEMPT),
    "copy-journals": lambda world: _change(lambda w: _make(w.home.staging_dir(COPY) / "journals/1"), world),
    "staging-report": lambda world: _change(lambda w: _make(w.home.staging_dir(COPY) / "report.html"), world),
    "key-store": lambda world: _change(lambda w: setattr(w, "gives", True), world),
    "quarantine": lambda world: _change(lambda w: _make(w.home.quarantine_dir(ATTEMPT) / "sealed/a"), world),
    "checked-artefacts": lambda world: _change(lambda w: _make(w.home.artefacts_dir(JOB) / "t"), world),
    "released-artefacts": lambda world: _change(lambda w: _make(w.home.released_dir(JOB) / "t"), world),
    "pictures": lambda world: _change(lambda w: _make(w.home.root / "pictures/1.png"), world),
    "sealed-copies": lambda world: _change(_left("copies"), world),
    "kept-outputs": lambda world: _change(_left("kept"), world),
    "items-map": lambda world: _change(lambda w: _make(w.home.items_map(COPY)), world),
    "selectable-values": lambda world: _change(lambda w: _make(w.home.selectable_file(COPY)), world),
    "attempt-bundle": lambda world: _change(_left("attempts"), world),
    "attempt-served": lambda world: _change(_left("attempts"), world),
    "attempt-outputs": lambda world: _change(_left("attempts"), world),
    "attempt-progress": lambda world: _change(_left("attempts"), world),
    **dict.fromkeys(
        (
            "node-private-folder",
            "node-memory",
            "sandbox-tmp",
            "shared-memory",
            "dask-spill",
            "compile-caches",
        ),
        lambda world: _change(_runs, world),
    ),
}


@pytest.mark.parametrize("place", LOOKED_AT)
def test_a_place_that_is_not_empty_says_so_and_bars_the_certificate(world: World, place: str) -> None:
    with FALSIFIED[place](world):
        found = rows(world)
    assert found[place].result == FOUND
    assert not is_verified(place, found[place])
    with pytest.raises((PlaceNotEmptyError, KeyStillThereError)) as caught:
        certify._require_complete(found)
    assert place in str(caught.value.where)


def test_a_key_that_lives_bars_every_row_that_rests_on_it(world: World) -> None:
    world.live = [m.LiveKey("K-1", "copy", COPY)]
    found = rows(world)
    for place in ("key-store", "sealed-copies", "attempt-bundle", "attempt-outputs", "quarantine"):
        assert found[place].result == FOUND
    with pytest.raises(KeyStillThereError):
        certify._require_complete(found)


@pytest.mark.parametrize("error", [ClusterUnreachableError(), OSError("broken")])
def test_a_listing_that_fails_is_no_empty_listing(world: World, error: Exception) -> None:
    world.site.error = error
    found = rows(world)
    for place in ("sealed-copies", "attempt-bundle", "attempt-outputs", "attempt-progress", "node-memory"):
        assert found[place].result == UNREACHABLE
        assert not is_verified(place, found[place])
    with pytest.raises(PlaceNotEmptyError):
        certify._require_complete(found)


@pytest.mark.parametrize("place", ["sealed-copies", "kept-outputs", "attempt-outputs"])
def test_what_nobody_measured_before_it_went_is_not_certified(world: World, place: str) -> None:
    found = rows(world, replace(subject(), copies_tried={}, attempts_tried={}, kept_tried={}))
    assert found[place].result == FOUND


class Blind:
    """Nothing can be seen: neither keyd, nor the home, nor the cluster, nor the database."""

    def __getattr__(self, name: str) -> Any:
        raise OSError(f"{name} is out of sight")


def test_no_row_is_verified_without_its_finder_having_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_sight(_names: Any) -> tuple[int, int]:
        raise OSError("/proc is out of sight")

    monkeypatch.setattr(processes, "naming", out_of_sight)
    found = certify.look(Blind(), subject())  # type: ignore[arg-type]
    for name, row in found.items():
        assert not is_verified(name, row), name
        assert row.result == (UNREACHABLE if name in LOOKED_AT else row.result)
    with pytest.raises(PlaceNotEmptyError):
        certify._require_complete({**found, "key-store": found["database"]})


def test_samples_are_told_with_their_number(world: World) -> None:
    checks = {item["check"]: item for item in certificate.checks(subject(), rows(world))}
    assert checks["samples-do-not-open"]["result"] == "passed"
    assert "5 manifests were tried" in checks["samples-do-not-open"]["detail"]
    none = replace(subject(), copies_tried={COPY: Tried(0, 0, 0, 0)}, attempts_tried={}, kept_tried={})
    checks = {item["check"]: item for item in certificate.checks(none, rows(world))}
    assert checks["samples-do-not-open"]["result"] == "not-possible"


def test_a_process_is_found_by_what_it_was_given_and_by_nothing_else() -> None:
    with _process("a-name-of-its-own"):
        looked, found = processes.naming(["a-name-of-its-own"])
        assert (found, looked > 1) == (1, True)
        assert processes.naming(["a-name-of-its-ow"])[1] == 0
