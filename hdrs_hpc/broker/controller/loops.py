"""The loops of the controller: its own for projects, copies and reviews, and one for each cluster.

Each is a thread with connections and look-ups of its own, so that a slow or dead site costs its own jobs only
(docs/adr/0028).  What they change they change by compare-and-swap, as web does beside them.

A loop whose tick fails pauses and tries again, with the errands that it has.  One that hangs can't be ended, since no
thread can: the process ends itself, and ``serve`` starts it again.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from hdrs_hpc.broker.controller.errands import Errands
from hdrs_hpc.broker.controller.pace import AT_A_SITE, Pace
from hdrs_hpc.broker.heartbeats import Pulse
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.core import errors
from hdrs_hpc.core.errors import HdrsError

logger = logging.getLogger("hdrs_hpc.controller")

SHORTEST_PAUSE_S = 0.2
"""Between two looks of a loop: a look of the controller's own costs the database and keyd, one of a cluster's a
command there as well."""
SHORTEST_PAUSE_OF_SITE_S = 0.5
SITE_GRACE = 4.0
"""A cluster's loop waits for its site: it may be silent so many times longer than the controller's own."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
"""After a tick that failed; the pause doubles with each that fails after it."""
HANGS = 70
"""Exit status of a controller that ended itself (``EX_SOFTWARE`` of sysexits.h)."""


class Bell(Protocol):
    def ring(self) -> None: ...

    def wait(self, seconds: float) -> bool:
        """Until somebody rings, for at most so long; whether somebody did."""
        ...


class Loop:
    """Ticks until it is told to stop, at its pace.

    ``tick`` gives everything that the loop looks after one turn, and the number of those that moved on.
    """

    def __init__(
        self,
        broker: OpenBroker,
        pulse: Pulse,
        bell: Bell,
        tick: Callable[[Loop], int],
        *,
        tell_others: Callable[[], None],
        pace: Pace,
    ) -> None:
        """``tell_others``: something moved on, which other loops may have waited for."""
        self.broker, self.pulse, self.bell = broker, pulse, bell
        self._tick, self._tell_others = tick, tell_others
        self._pace = pace
        self.errands = Errands(self._errand_is_back)

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                moved = self._once()
            except Exception as error:
                self._failed(error, stop)
                continue
            self._pace.looked(moved=bool(moved))
            if not stop.is_set():
                self._pause(stop)

    def _once(self) -> int:
        self.pulse.beat()
        self.errands.begin_tick()
        self.broker.forget_lookups()
        moved = self._tick(self)
        self.pulse.went_well()
        if moved:
            self._tell_others()
        return moved

    def _failed(self, error: Exception, stop: threading.Event) -> None:
        """Our own bug, or a machine that gives out: say so, wait, and let the loop try again."""
        # Its text may hold anything, so only its kind and place are told.
        why = error.code if isinstance(error, HdrsError) else type(error).__name__
        why = f"{why} at {errors.raised_at(error)}"
        with contextlib.suppress(
            OSError
        ):  # a disk that is full takes no heartbeat, and its silence tells of it
            self.pulse.failed(why)
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (self.pulse.failures - 1))
        logger.error("%s: %s; again in %g s", self.pulse.name, why, pause_s)
        self._wait_until(time.monotonic() + pause_s, stop)

    def _pause(self, stop: threading.Event) -> None:
        least = time.monotonic() + self._pace.least_s()
        if self.bell.wait(self._pace.pause_s()):
            self._wait_until(least, stop)

    def _wait_until(self, moment: float, stop: threading.Event) -> None:
        """Whoever rings meanwhile, unless it is to stop."""
        while not stop.is_set() and (left_s := moment - time.monotonic()) > 0:
            self.bell.wait(left_s)

    def _errand_is_back(self, moved: int) -> None:
        self.bell.ring()
        if moved:
            self._tell_others()


class ThreadBell:
    """A bell between threads."""

    def __init__(self) -> None:
        self._rung = threading.Event()

    def ring(self) -> None:
        self._rung.set()

    def wait(self, seconds: float) -> bool:
        rung = self._rung.wait(seconds)
        self._rung.clear()
        return rung


def end_process() -> None:
    """Tell where each thread is, by lines of code and no values, and end without waiting for any of them."""
    faulthandler.dump_traceback()
    os._exit(HANGS)


class ClusterLoops:
    """A loop for each cluster that has something to do, begun when it first has."""

    def __init__(
        self,
        broker: OpenBroker,
        tick: Callable[[Loop, str], int],
        tell_controller: Callable[[], None],
        end_process: Callable[[], None] = end_process,
    ) -> None:
        self._broker, self._tick, self._tell_controller = broker, tick, tell_controller
        self._end_process = end_process
        self._stop = threading.Event()
        self._loops: dict[str, tuple[Loop, threading.Thread]] = {}
        self.held = False
        """While the log does not hold nothing is done at any site."""

    def look_after(self, clusters: Iterable[str]) -> None:
        """See that each of them has its loop, and that none hangs."""
        for name in clusters:
            if name not in self._loops:
                self._begin(name)
        settings = self._broker.settings
        for name, (loop, _) in self._loops.items():
            silent_s = loop.pulse.silent_s
            if silent_s > 1.2 * settings.tick_s + SITE_GRACE * settings.hang_limit_s:
                logger.critical(
                    "cluster/%s: hangs for %.0f s in %s; the controller ends",
                    name,
                    silent_s,
                    loop.pulse.doing,
                )
                self._end_process()

    def _begin(self, name: str) -> None:
        settings = self._broker.settings
        stale_after_s = 1.2 * settings.tick_s + SITE_GRACE * settings.heartbeat_grace_s
        loop = Loop(
            self._broker.for_another_loop(),
            Pulse.of_cluster(self._broker.home, name, stale_after_s),
            ThreadBell(),
            lambda loop: 0 if self.held else self._tick(loop, name),
            tell_others=self._tell_controller,
            pace=Pace(settings.tick_s, SHORTEST_PAUSE_OF_SITE_S, AT_A_SITE),
        )
        thread = threading.Thread(target=loop.run, args=(self._stop,), name=f"cluster/{name}", daemon=True)
        thread.start()
        self._loops[name] = (loop, thread)

    def ring(self) -> None:
        for loop, _ in self._loops.values():
            loop.bell.ring()

    def end(self, within_s: float) -> bool:
        """Have all of them end after the turn that they are in; whether they did in time.

        One that waits for a site may not: it ends with the process, and what it did is begun again.
        """
        self._stop.set()
        self.ring()
        deadline = time.monotonic() + within_s
        for _, thread in self._loops.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        errands = [
            loop.errands.join(max(0.0, deadline - time.monotonic())) for loop, _ in self._loops.values()
        ]
        return all(errands) and not any(thread.is_alive() for _, thread in self._loops.values())
