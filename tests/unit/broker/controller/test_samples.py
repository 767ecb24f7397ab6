"""Before objects are unlinked: keys are dead, what lies there is measured, and its manifest opens with no key left."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hdrs_hpc.broker.controller.steps import samples
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.core import wire
from hdrs_hpc.core.errors import NotFoundError
from hdrs_hpc.protocol import layout, outputs
from hdrs_hpc.sealing.cipher import SealBrokenError
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from tests.support.keyroom import ATTEMPT, COPY, KeyRoom

PROJECT = "lung-fm"


class Scratch:
    """As much of a cluster as samples need, on a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def objects(self, *parts: str) -> DirectoryStore:
        folder = self.root.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        return DirectoryStore(folder)

    def read_file(self, *parts: str, max_bytes: int) -> bytes | None:
        path = self.root.joinpath(*parts)
        return path.read_bytes() if path.is_file() else None

    def measure_tree(self, *parts: str) -> tuple[int, int]:
        sizes = [path.stat().st_size for path in self.root.joinpath(*parts).rglob("*") if path.is_file()]
        return len(sizes), sum(sizes)


class Site:
    """keyd with a grant and keys, scratch, and a log that remembers entries."""

    def __init__(self, folder: Path) -> None:
        self.room = KeyRoom(folder / "keyd").begin()
        self.cluster = Scratch(folder / "scratch")
        self.logged: list[Any] = []
        self.journals = folder / "journals"
        self.ctx: Any = SimpleNamespace(
            ask=self.room.ask, db=SimpleNamespace(read=self._transaction, write=self._transaction)
        )

    @contextmanager
    def _transaction(self) -> Any:
        yield self

    def seal(self, purpose: Any, role: Any, holder: str, *parts: str) -> Any:
        # Read where keyd keeps it: a sealed copy's key is given to nodes only.
        key = self.room.keyd._keys.key(PROJECT, purpose, holder)
        store = self.cluster.objects(*parts)
        builder = CopyBuilder(store, key, role, PROJECT, holder, self.journals / "-".join(parts))
        builder.put("index.parquet", b"rows " * 40_000)
        return builder.seal()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site(tmp_path)
    monkeypatch.setattr(
        samples.log, "of_event", lambda tx, event: [entry for entry in tx.logged if entry.event == event]
    )

    def append_once(tx: Any, event: str, subject: dict[str, str], *, detail: dict[str, int]) -> None:
        tx.logged.append(SimpleNamespace(event=event, subject=subject, detail=detail))

    monkeypatch.setattr(samples.log, "append_once", append_once)
    return made


def copy_of(sealed: Any) -> Any:
    subject = {"project": PROJECT, "copy": COPY}
    name = sealed.manifest_name if sealed else None
    return SimpleNamespace(id=COPY, project=PROJECT, manifest_name=name, subject=subject)


def test_a_copy_is_measured_and_tried_once_its_key_is_gone(site: Site) -> None:
    parts = layout.copy_parts(PROJECT, COPY)
    copy = copy_of(site.seal("copy", "copy", COPY, *parts))
    with pytest.raises(samples.SampleOpensError):
        samples.try_copy(site.ctx, site.cluster, copy)  # type: ignore[arg-type]
    assert site.logged == [], "what opens is not told as tried, and so nothing of it is unlinked"
    site.room.ask(m.Destroy(PROJECT, "copies", COPY))
    found = samples.try_copy(site.ctx, site.cluster, copy)  # type: ignore[arg-type]
    assert (found.objects, found.bytes) == site.cluster.measure_tree(*parts)
    assert found.bytes > 200_000 and found.samples == 1
    assert found.keys >= 3, "the project's own key, that of de-identification, that of the outputs"
    for path in site.cluster.root.rglob("*"):
        if path.is_file():
            path.unlink()
    again = samples.try_copy(site.ctx, site.cluster, copy)  # type: ignore[arg-type]
    assert again == found, "after a crash in between, what was there is not forgotten"
    assert len(site.logged) == 1


def test_outputs_and_bundle_of_an_attempt_are_tried(site: Site) -> None:
    site.room.ask(m.CreateKey(PROJECT, "bundle", ATTEMPT, None, None))
    job = SimpleNamespace(project=PROJECT, subject={"project": PROJECT, "job": "7K3QW2"})
    attempt = SimpleNamespace(name=ATTEMPT)
    sealed = site.seal("output", "output", ATTEMPT, *layout.outputs_parts(PROJECT, ATTEMPT))
    site.seal("bundle", "copy", ATTEMPT, *layout.bundle_parts(PROJECT, ATTEMPT))
    pointer = outputs.ClosingPointer(ATTEMPT, sealed.manifest_name, sealed.manifest_digest)
    closing = site.cluster.root.joinpath(*layout.closing_parts(PROJECT, ATTEMPT))
    closing.write_bytes(wire.to_bytes(pointer))
    with pytest.raises(samples.SampleOpensError):
        samples.try_attempt(site.ctx, site.cluster, job, attempt)  # type: ignore[arg-type]
    site.room.ask(m.Destroy(PROJECT, "outputs", ATTEMPT))
    found = samples.try_attempt(site.ctx, site.cluster, job, attempt)  # type: ignore[arg-type]
    assert found.samples >= 2 and found.objects >= 7
    assert (found.objects, found.bytes) == site.cluster.measure_tree(*layout.attempt_parts(PROJECT, ATTEMPT))


def test_a_bundle_whose_key_lives_is_noticed_though_the_outputs_are_dead(site: Site) -> None:
    site.room.ask(m.CreateKey(PROJECT, "bundle", ATTEMPT, None, None))
    site.seal("bundle", "copy", ATTEMPT, *layout.bundle_parts(PROJECT, ATTEMPT))
    job = SimpleNamespace(project=PROJECT, subject={"project": PROJECT, "job": "7K3QW2"})
    with pytest.raises(samples.SampleOpensError):
        samples.try_attempt(site.ctx, site.cluster, job, SimpleNamespace(name=ATTEMPT))  # type: ignore[arg-type]


def test_a_copy_that_was_never_finished_is_measured_and_has_no_sample(site: Site) -> None:
    site.room.ask(m.Destroy(PROJECT, "copies", COPY))
    site.cluster.objects(*layout.copy_parts(PROJECT, COPY)).put("0abc", b"x" * 100)
    found = samples.try_copy(site.ctx, site.cluster, copy_of(None))  # type: ignore[arg-type]
    assert (found.objects, found.bytes, found.samples, found.keys) == (1, 100, 0, 0)


def test_a_listing_that_fails_is_told_and_nothing_is_logged(site: Site) -> None:
    site.room.ask(m.Destroy(PROJECT, "copies", COPY))

    def gone(*_parts: str) -> tuple[int, int]:
        raise NotFoundError("the cluster is away")

    site.cluster.measure_tree = gone  # type: ignore[method-assign]
    with pytest.raises(NotFoundError):
        samples.try_copy(site.ctx, site.cluster, copy_of(None))  # type: ignore[arg-type]
    assert site.logged == []


def test_what_is_no_sealed_object_is_no_sample(site: Site) -> None:
    for head, size in ((b"x" * 64, 64), (b"\x28" + b"x" * 200, 500), (b"\x28" * 50, 50)):
        with pytest.raises(SealBrokenError):
            site.room.ask(m.TrySample("copy", PROJECT, COPY, head, size))
