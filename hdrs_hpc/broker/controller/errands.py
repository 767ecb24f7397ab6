"""Errands: actions that wait for a site, each in a thread of its own beside the loop that sent it.

A courier of 60 s or an unlinking of 100,000 objects then holds up its own job or project only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

AT_MOST = 8
"""At once for one loop: sshd lets ten sessions share a connection (``MaxSessions``), and the loop looks on."""


class Errands:
    """The errands of one loop.

    What is away when a tick begins gets no turn in that tick, even if it comes back meanwhile: what the tick
    looked up at the site may be older than what the errand did there.
    """

    def __init__(self, finished: Callable[[int], None], at_most: int = AT_MOST) -> None:
        """``finished`` is called in the errand's thread with 1 if it moved something on, else 0."""
        self._finished = finished
        self._at_most = at_most
        self._lock = threading.Lock()
        self._running: dict[str, threading.Thread] = {}
        self._away: frozenset[str] = frozenset()

    def begin_tick(self) -> None:
        with self._lock:
            self._away = frozenset(self._running)

    def away(self, about: str) -> bool:
        """Whether an errand about it was under way when the tick began."""
        return about in self._away

    def begin(self, about: str, work: Callable[[], int]) -> bool:
        """Begin an errand; False where as many as may be are under way, so that it waits for a later tick."""
        with self._lock:
            if about in self._running or len(self._running) >= self._at_most:
                return False
            thread = threading.Thread(
                target=self._run, args=(about, work), name=f"errand {about}", daemon=True
            )
            self._running[about] = thread
        thread.start()
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
            threads = list(self._running.values())
        for thread in threads:
            thread.join(deadline_s)
        return not any(thread.is_alive() for thread in threads)
