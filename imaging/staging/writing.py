"""Tasks → finished items: parts made by workers, sealed here, in bounded memory.

Parts go out in the order of their tasks: the oldest task's first, later ones' as soon as workers would idle.  So one
huge item fills all workers, many small ones are under way together, and few are unfinished when somebody pulls the
plug.  What may be in flight (handed out and not yet sealed) is bounded by a memory budget.

The outcome of an item does not depend on which part ended first: its told list is in the order of its parts, and of
several refusals the earliest part's counts.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from hdrs_hpc.sealing.copy_builder import CopyBuilder
from imaging.staging.items import Bench, Made, Measured, Part, Task, Told
from imaging.staging.refusals import Refused
from imaging.staging.scheduling import Scheduler

PART_BYTES = 256 << 20
"""What a part is taken to need that does not say: the most that any kind's parts may."""


def make_part(bench: Bench, part: Part, inputs: Mapping[str, bytes]) -> Made:
    """The work of a worker."""
    made = part.make(bench, inputs)
    # A view does not travel between processes.
    return Made(bytes(made.data), made.told, made.more) if isinstance(made.data, memoryview) else made


@dataclass(frozen=True, slots=True)
class Written:
    """An item that is finished, with what was noted of it."""

    task: Task
    meta: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dropped:
    """An item that could not be made; nothing of it is left."""

    task: Task
    refused: Refused


@dataclass(slots=True, eq=False)
class _Open:
    """A task under way: one step of its parts, and what the steps before told."""

    task: Task
    told: list[Told] = field(default_factory=list)
    steps: Iterator[Sequence[Part]] = field(default_factory=lambda: iter(()))
    parts: Sequence[Part] = ()
    answers: list[Told | None] = field(default_factory=list)
    next: int = 0
    under_way: int = 0
    refused: tuple[int, Refused] | None = None

    def has_more(self) -> bool:
        return self.next < len(self.parts) and self.refused is None

    def refuse(self, at: int, refused: Refused) -> None:
        if self.refused is None or at < self.refused[0]:
            self.refused = (at, refused)


class Writer:
    """Writes tasks into ``builder``.  ``fingerprint`` gives what is noted of a task to know it again;
    ``advance`` gets (task, its share of the item's bytes) as parts are sealed.  ``keep_selectable``: note in the
    sealed journals what jobs may select each item by."""

    def __init__(
        self,
        builder: CopyBuilder,
        scheduler: Scheduler,
        memory_bytes: int,
        fingerprint: Callable[[Task], str],
        advance: Callable[[Task, float], None],
        *,
        keep_selectable: bool = False,
    ) -> None:
        self._builder = builder
        self._scheduler = scheduler
        self._memory_bytes = memory_bytes
        self._fingerprint = fingerprint
        self._advance = advance
        self._keep_selectable = keep_selectable
        self._slots = scheduler.slots
        # Sealing waits for storage (and, over SFTP, for the network) more than it computes.
        self._sealers = ThreadPoolExecutor(max(4, self._slots), "seal")
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._open: deque[_Open] = deque()
        self._outcomes: deque[Written | Dropped] = deque()
        self._in_flight_bytes = 0
        self._in_flight = 0

    def write(self, tasks: Iterable[Task]) -> Generator[Written | Dropped]:
        """Outcomes as they come.  Raises what the builder and the scheduler raise; closing it stops all."""
        coming = iter(tasks)
        try:
            while True:
                self._fill(coming)
                yield from self._take_outcomes()
                if not self._open:
                    return
                self._events.get()()
        finally:
            self._sealers.shutdown(wait=True, cancel_futures=True)

    def _take_outcomes(self) -> Iterator[Written | Dropped]:
        while self._outcomes:
            yield self._outcomes.popleft()

    def _fill(self, coming: Iterator[Task]) -> None:
        """Hand out parts while there is room: of open tasks first, oldest first, then of new ones."""
        at = 0
        while True:
            while at < len(self._open) and not self._open[at].has_more():
                at += 1
            if at < len(self._open):
                if not self._hand_out(self._open[at]):
                    return
            elif len(self._open) >= 4 * self._slots:
                return
            else:
                task = next(coming, None)
                if task is None:
                    return
                opened = _Open(task)
                opened.steps = iter(task.steps(opened.told))
                self._open.append(opened)
                self._next_step(opened)

    def _hand_out(self, opened: _Open) -> bool:
        """Start the task's next part, or say that there is no room for it."""
        part = opened.parts[opened.next]
        cost = part.memory_bytes if isinstance(part, Measured) else PART_BYTES
        # A part larger than the whole budget goes alone.
        full = self._in_flight_bytes + cost > self._memory_bytes or self._in_flight >= 3 * self._slots
        if self._in_flight and full:
            return False
        at, opened.next = opened.next, opened.next + 1
        opened.under_way += 1
        self._in_flight += 1
        self._in_flight_bytes += cost

        def made(future: Future[Made]) -> None:
            self._in_sealer(lambda: self._seal(part, future), sealed)

        def prepared(future: Future[dict[str, bytes]]) -> None:
            self._events.put(lambda: start(future.result()))

        def start(inputs: Mapping[str, bytes]) -> None:
            self._scheduler.submit(make_part, part, inputs).add_done_callback(made)

        def sealed(future: Future[Told]) -> None:
            self._events.put(lambda: self._part_done(opened, at, cost, future))

        if part.inputs:
            self._in_sealer(lambda: {path: self._builder.read(path) for path in part.inputs}, prepared)
        else:
            start({})
        return True

    def _in_sealer[T](self, work: Callable[[], T], then: Callable[[Future[T]], None]) -> None:
        try:
            future = self._sealers.submit(work)
        except RuntimeError:
            return  # closed meanwhile, by an error or an interrupt: nobody waits for this part
        future.add_done_callback(then)

    def _seal(self, part: Part, future: Future[Made]) -> Told:
        made = future.result()
        if part.path:
            self._builder.put(part.path, made.data)
        for path, data in made.more.items():
            self._builder.put(path, data)
        return made.told

    def _part_done(self, opened: _Open, at: int, cost: int, future: Future[Told]) -> None:
        self._in_flight -= 1
        self._in_flight_bytes -= cost
        opened.under_way -= 1
        try:
            opened.answers[at] = future.result()
        except Refused as refused:
            opened.refuse(at, refused)
        else:
            self._advance(opened.task, opened.parts[at].share)
        if opened.under_way == 0 and not opened.has_more():
            self._next_step(opened)

    def _next_step(self, opened: _Open) -> None:
        """All parts of a step have ended: go on with the next, finish the item, or drop it."""
        while opened.refused is None:
            opened.told += [answer for answer in opened.answers if answer is not None]
            opened.answers = []
            try:
                parts = next(opened.steps, None)
            except Refused as refused:
                opened.refuse(0, refused)
                break
            if parts is None:
                self._end(opened, lambda: self._finish(opened))
                return
            opened.parts, opened.next, opened.answers = parts, 0, [None] * len(parts)
            if parts:
                return
        self._end(opened, lambda: self._drop(opened))

    def _end(self, opened: _Open, how: Callable[[], Written | Dropped]) -> None:
        opened.parts = ()
        self._in_sealer(how, lambda future: self._events.put(lambda: self._ended(opened, future)))

    def _ended(self, opened: _Open, future: Future[Written | Dropped]) -> None:
        try:
            outcome = future.result()
        except Refused as refused:
            opened.refuse(0, refused)
            self._end(opened, lambda: self._drop(opened))
            return
        self._open.remove(opened)
        self._outcomes.append(outcome)

    def _finish(self, opened: _Open) -> Written:
        task, told = opened.task, opened.told
        task.begin(self._builder.store(), told)
        meta: dict[str, Any] = {
            "row": dict(task.row(told)),
            "source": self._fingerprint(task),
            "notes": task.notes(told),
        }
        if self._keep_selectable:
            meta["selectable"] = task.selectable()
        self._builder.finish_item(task.path, meta)
        return Written(task, meta)

    def _drop(self, opened: _Open) -> Dropped:
        assert opened.refused is not None
        self._builder.drop_item(opened.task.path)
        return Dropped(opened.task, opened.refused[1])
