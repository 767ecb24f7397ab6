"""When a loop looks again: soon after something changed, later the longer nothing does, within a budget of looks.

A job that was just submitted starts, is given its keys and fails of a misspelt name within seconds, and its researcher
waits; one that has run for an hour can wait for half a minute.  So a loop waits for a quarter of the time since its
last change: what happens is seen at most a quarter later than it could have been, after some twenty looks.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable

SHARE = 0.25
"""Of the time since the last change: so long until the next look."""
LOOKS_A_MINUTE = 30
"""At one site, however much changes there, after as many in quick succession, and never fewer than two a tick: each
costs it a ``squeue``."""
MINUTE_S = 60.0


class Pace:
    """Of one loop.  ``tick_s``: the longest pause, with 20 % of jitter, which spreads the load."""

    def __init__(
        self,
        tick_s: float,
        shortest_s: float,
        looks_a_minute: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tick_s, self._clock = tick_s, clock
        self._shortest_s = min(shortest_s, tick_s)
        self._most = max(looks_a_minute, 2 * MINUTE_S / tick_s)
        self._looks: deque[float] = deque()
        self._changed = clock()

    def looked(self, *, moved: bool) -> None:
        """A look was taken; ``moved``: and something moved on."""
        now = self._clock()
        self._looks.append(now)
        if moved:
            self._changed = now

    def pause_s(self) -> float:
        """Until the next look, if nobody rings."""
        longest_s = self._tick_s * random.uniform(0.8, 1.2)  # noqa: S311  no secret
        return max(self.least_s(), min(longest_s, SHARE * (self._clock() - self._changed)))

    def least_s(self) -> float:
        """Until the next look, whoever rings: many may ring at once."""
        now = self._clock()
        while self._looks and now - self._looks[0] >= MINUTE_S:
            self._looks.popleft()
        if len(self._looks) < self._most:
            return self._shortest_s
        return max(self._shortest_s, MINUTE_S / self._most)
