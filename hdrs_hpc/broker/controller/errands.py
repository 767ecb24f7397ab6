"""Errands: actions that wait for a site, each in a thread of its own beside the loop that sent it.

A courier of 60 s or an unlinking of 100,000 objects then holds up its own job or project only, and a site that lets all
its errands hang holds up none of another's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

AT_MOST = 8
"""At once for one site: sshd lets ten sessions share a connection (``MaxSessions``), and the loop looks on."""


class Errands:
    """The errands of one loop.

    What is away when a tick begins gets no turn in that tick, even if it comes back meanwhile: what the tick
    looked up at the site may be older than what the errand did there.
    """

    def __init__(self, finished: Callable[[int], None], at_most: int = AT_MOST) -> None:
        """``finished`` is called in the errand's thread with 1 if it moved something on, else 0.

        ``at_most`` errands wait for one site at once.
        """
        self._finished = finished
        self._at_most = at_most
        self._lock = threading.Lock()
        self._running: dict[str, tuple[str, threading.Thread]] = {}
        self._away: frozenset[str] = frozenset()

    def begin_tick(self) -> None:
        with self._lock:
            self._away = frozenset(self._running)

    def away(self, about: str) -> bool:
        """Whether an errand about it was under way when the tick began."""
        return about in self._away

    def begin(self, about: str, waits_for: str, work: Callable[[], int]) -> bool:
        """Begin an errand; False where its site has as many as it may, so that it waits for a later tick."""
        with self._lock:
            same = sum(whom == waits_for for whom, _ in self._running.values())
            if about in self._running or same >= self._at_most:
                return False
            thread = threading.Thread(
                target=self._run, args=(about, work), name=f"errand {about}", daemon=True
            )
            thread.start()  # may fail; it can't be over before it stands in the list
            self._running[about] = (waits_for, thread)
        return True

    def _run(self, about: str, work: Callable[[], int]) -> None:
        moved = 0
        try:
            moved = work()
        finally:
            with self._lock:
                del self._running[about]
            self._finished(moved)

    def join(self, deadline_s: float) -> bool:
        """Wait until all are back, for at most so long; whether they are."""
        with self._lock:
            threads = [thread for _, thread in self._running.values()]
        for thread in threads:
            thread.join(deadline_s)
        return not any(thread.is_alive() for thread in threads)
