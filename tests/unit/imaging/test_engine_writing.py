"""The writer: order, memory, refusals and interruption, with parts that only count."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from imaging.staging.items import Made, Told
from imaging.staging.ledger import Ledger, TooManyFailedError
from imaging.staging.refusals import ItemRefused, Refused
from imaging.staging.writing import Dropped, Writer, Written


class Threads:
    """A scheduler without parsers; remembers what ran at once."""

    def __init__(self, slots: int = 4, jitter: random.Random | None = None) -> None:
        self.slots = slots
        self.started: list[str] = []
        self._jitter = jitter
        self._pool = ThreadPoolExecutor(slots)

    def submit(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        self.started.append(args[0].path)
        return self._pool.submit(self._run, work, *args)

    def _run(self, work: Callable[..., Any], *args: Any) -> Any:
        if self._jitter is not None:
            time.sleep(self._jitter.random() / 200)
        return work(None, *args)

    def isolation(self) -> str:
        return "none"

    def close(self) -> None:
        self._pool.shutdown()


@dataclass(frozen=True)
class Part:
    path: str
    share: float
    inputs: tuple[str, ...] = ()
    refuse: str = ""
    refuse_item: int = 0
    memory_bytes: int = 1
    gate: threading.Event | None = None
    more: tuple[str, ...] = ()

    def make(self, bench: Any, inputs: Mapping[str, bytes]) -> Made:
        if self.gate is not None:
            self.gate.wait(20)
        if self.refuse_item:
            raise ItemRefused(self.refuse_item, self.refuse)
        if self.refuse:
            raise Refused(self.refuse)
        more = {path: path.encode() for path in self.more}
        return Made(self.path.encode() + b"".join(inputs.values()), {"made": self.path}, more)


@dataclass
class Item:
    name: str
    layers: list[list[Part]] = field(default_factory=list)
    number: int = 1
    seen: list[list[Told]] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"series/{self.name}"

    def numbers(self) -> list[int]:
        return [self.number]

    def fingerprint(self, digest: Callable[[int], str]) -> str:
        return self.name

    def notes(self, told: Sequence[Told]) -> list[str]:
        return []

    def begin(self, store: Any, told: Sequence[Told]) -> None:
        pass

    def steps(self, told: Sequence[Told]) -> Iterator[Sequence[Part]]:
        for layer in self.layers:
            yield layer
            self.seen.append(list(told))

    def row(self, told: Sequence[Told]) -> Mapping[str, Any]:
        return {"item": self.path, "told": [one["made"] for one in told]}


def item(name: str, parts: int = 3, number: int = 1, **more: Any) -> Item:
    return Item(name, [[Part(f"series/{name}/{n}", 1 / parts, **more) for n in range(parts)]], number)


def builder(folder: Path) -> CopyBuilder:
    return CopyBuilder(DirectoryStore(folder / "o"), b"k" * 32, "copy", "p", "c", folder / "j")


def write(
    into: CopyBuilder, items: list[Item], scheduler: Threads, memory: int = 1 << 30
) -> dict[str, Written | Dropped]:
    shares: dict[str, float] = {}

    def advance(task: Any, share: float) -> None:
        shares[task.path] = shares.get(task.path, 0.0) + share

    writer = Writer(into, scheduler, memory, lambda task: "print", advance)
    try:
        found = {outcome.task.path: outcome for outcome in writer.write(iter(items))}
    finally:
        scheduler.close()
    for path, outcome in found.items():
        assert isinstance(outcome, Dropped) or shares[path] == pytest.approx(1)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_what_an_item_is_told_is_in_the_order_of_its_parts_whoever_ended_first(
    tmp_path: Path, seed: int
) -> None:
    items = [item(f"i{n}", parts=7) for n in range(12)]
    outcomes = write(builder(tmp_path), items, Threads(4, random.Random(seed)))
    for n in range(12):
        outcome = outcomes[f"series/i{n}"]
        assert isinstance(outcome, Written)
        assert outcome.meta["row"]["told"] == [f"series/i{n}/{part}" for part in range(7)]


def test_a_step_begins_when_the_one_before_is_sealed_and_reads_it(tmp_path: Path) -> None:
    two = Item(
        "deep",
        [
            [Part("series/deep/a", 0.25), Part("series/deep/b", 0.25)],
            [Part("series/deep/c", 0.5, inputs=("series/deep/b", "series/deep/a"))],
        ],
    )
    into = builder(tmp_path)
    write(into, [two], Threads(4, random.Random(1)))
    assert into.read("series/deep/c") == b"series/deep/c" + b"series/deep/b" + b"series/deep/a"
    assert [len(told) for told in two.seen] == [2, 3]


def test_what_a_part_made_in_one_go_is_sealed_and_read_by_later_steps(tmp_path: Path) -> None:
    two = Item(
        "wide",
        [
            [Part("series/wide/a", 0.5, more=("series/wide/b", "series/wide/c"))],
            [Part("series/wide/d", 0.5, inputs=("series/wide/c",))],
        ],
    )
    into = builder(tmp_path)
    write(into, [two], Threads(4, random.Random(1)))
    assert into.paths("series/wide") == [f"series/wide/{name}" for name in "abcd"]
    assert into.read("series/wide/b") == b"series/wide/b"
    assert into.read("series/wide/d") == b"series/wide/d" + b"series/wide/c"


@pytest.mark.parametrize("seed", range(8))
def test_of_several_refusals_the_earliest_part_counts_and_nothing_is_left(tmp_path: Path, seed: int) -> None:
    bad = item("bad", parts=8)
    bad.layers[0][2] = Part("series/bad/2", 0.1, refuse="decode-failed", refuse_item=7)
    bad.layers[0][3] = Part("series/bad/3", 0.1, refuse="truncated-pixel-data", refuse_item=9)
    bad.layers[0][5] = Part("series/bad/5", 0.1, refuse="parser-crashed")
    into = builder(tmp_path)
    outcomes = write(into, [item("a"), bad, item("z")], Threads(8, random.Random(seed)))
    dropped = outcomes["series/bad"]
    assert isinstance(dropped, Dropped)
    assert isinstance(dropped.refused, ItemRefused)
    assert (dropped.refused.number, dropped.refused.code) == (7, "decode-failed")
    assert into.paths("series/bad") == []
    assert sorted(into.finished()) == ["series/a", "series/z"]


def test_a_huge_item_fills_all_workers_and_small_ones_fill_what_is_left(tmp_path: Path) -> None:
    gate = threading.Event()
    scheduler = Threads(4)
    small = [item(f"s{n}", parts=1) for n in range(3)]
    huge = item("huge", parts=5, gate=gate)

    def open_later() -> None:
        deadline = time.monotonic() + 10
        while len(scheduler.started) < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        gate.set()

    threading.Thread(target=open_later).start()
    outcomes = write(builder(tmp_path), [huge, *small], scheduler)
    assert len(outcomes) == 4
    # The oldest item's parts go first, then others' without waiting for it.
    assert scheduler.started[:5] == [f"series/huge/{n}" for n in range(5)]
    assert sorted(scheduler.started[5:]) == [f"series/s{n}/0" for n in range(3)]


@pytest.mark.parametrize("parts", [40, 1])
def test_what_is_in_flight_stays_within_the_memory_budget(tmp_path: Path, parts: int) -> None:
    lock, now, most = threading.Lock(), 0, 0

    class Big(Part):
        def make(self, bench: Any, inputs: Mapping[str, bytes]) -> Made:
            nonlocal now, most
            with lock:
                now += self.memory_bytes
                most = max(most, now)
            time.sleep(0.003)
            made = Part.make(self, bench, inputs)
            with lock:
                now -= self.memory_bytes
            return made

    items = [
        Item(f"b{n}", [[Big(f"series/b{n}/{p}", 1 / parts, memory_bytes=30) for p in range(parts)]])
        for n in range(40 // parts)
    ]
    write(builder(tmp_path), items, Threads(16), memory=100)
    assert 60 <= most <= 90


def test_memory_does_not_grow_with_the_item(tmp_path: Path) -> None:
    class Heavy(Part):
        def make(self, bench: Any, inputs: Mapping[str, bytes]) -> Made:
            return Made(bytes(self.memory_bytes), {"made": self.path})

    peaks = []
    for count in (8, 80):
        parts = [Heavy(f"series/h{count}/{p}", 1 / count, memory_bytes=1 << 20) for p in range(count)]
        tracemalloc.start()
        write(builder(tmp_path / str(count)), [Item(f"h{count}", [list(parts)])], Threads(4), memory=4 << 20)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 12 << 20
    assert peaks[1] < peaks[0] + (3 << 20)


def test_a_part_larger_than_the_budget_goes_alone(tmp_path: Path) -> None:
    assert len(write(builder(tmp_path), [item("a", memory_bytes=1000)], Threads(4), memory=10)) == 1


def test_a_full_disk_ends_the_staging_and_a_second_run_finishes_it(tmp_path: Path) -> None:
    class Full(DirectoryStore):
        left = 15

        def put(self, name: str, chunks: Any) -> None:
            Full.left -= 1
            if Full.left < 0:
                raise OSError(28, "No space left on device")
            super().put(name, chunks)

    items = [item(f"i{n}") for n in range(6)]
    full = CopyBuilder(Full(tmp_path / "o"), b"k" * 32, "copy", "p", "c", tmp_path / "j")
    with pytest.raises(OSError, match="No space"):
        write(full, items, Threads(2))
    full.close()
    again = builder(tmp_path)
    left = [one for one in items if one.path not in again.finished()]
    assert len(left) < 6
    write(again, left, Threads(2))
    assert sorted(again.finished()) == [one.path for one in items]
    assert {path: again.read(path) for path in again.paths()} == {
        f"series/i{n}/{p}": f"series/i{n}/{p}".encode() for n in range(6) for p in range(3)
    }


@pytest.mark.parametrize("seed", range(12))
def test_killed_at_any_moment_it_goes_on_to_the_same_copy(tmp_path: Path, seed: int) -> None:
    """The moment is a count of objects written, before or after the one, so that every place comes up."""
    chance = random.Random(seed)

    class Deadly(DirectoryStore):
        left = 0

        def put(self, name: str, chunks: Any) -> None:
            Deadly.left -= 1
            if Deadly.left == 0 and chance.random() < 0.5:
                os.kill(os.getpid(), signal.SIGKILL)
            super().put(name, chunks)
            if Deadly.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def items() -> list[Item]:
        return [item(f"i{n}", parts=1 + n % 4) for n in range(9)]

    deaths = 0
    for _ in range(3):
        Deadly.left = chance.randrange(1, 12)
        child = os.fork()
        if child == 0:
            into = CopyBuilder(Deadly(tmp_path / "o"), b"k" * 32, "copy", "p", "c", tmp_path / "j")
            done = into.finished()
            write(into, [one for one in items() if one.path not in done], Threads(3, random.Random(seed)))
            os._exit(0)
        deaths += os.waitpid(child, 0)[1] == signal.SIGKILL
    assert deaths
    again = builder(tmp_path)
    write(again, [one for one in items() if one.path not in again.finished()], Threads(3))
    straight = builder(tmp_path / "straight")
    write(straight, items(), Threads(1))
    assert {path: again.read(path) for path in again.paths()} == {
        path: straight.read(path) for path in straight.paths()
    }
    assert again.finished() == straight.finished()


def test_closing_the_outcomes_stops_the_work(tmp_path: Path) -> None:
    scheduler = Threads(2)
    writer = Writer(builder(tmp_path), scheduler, 1 << 30, lambda task: "", lambda task, share: None)
    outcomes = writer.write(item(f"i{n}") for n in range(500))
    next(outcomes)
    outcomes.close()
    scheduler.close()
    assert len(scheduler.started) < 100


def test_the_ledger_counts_an_item_once_and_a_failure_before_a_rule() -> None:
    ledger = Ledger(10)
    ledger.refuse([1, 2], "volume-incomplete", order=1)
    ledger.refuse([2], "decode-failed", order=5)
    ledger.refuse([2], "truncated-pixel-data", order=3)
    ledger.refuse([1], "not-selected", order=0)
    assert ledger.by_code() == {"not-selected": (1,), "truncated-pixel-data": (2,)}
    assert (ledger.failed, len(ledger)) == (1, 2)


def test_the_ledger_refuses_the_one_too_many_and_never_an_item_twice() -> None:
    ledger = Ledger(2)
    ledger.refuse([1, 2, 1], "decode-failed")
    ledger.refuse([3], "opted-out")
    with pytest.raises(TooManyFailedError) as caught:
        ledger.refuse([3], "decode-failed")
    assert caught.value.where == "item 3"
