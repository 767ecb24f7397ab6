"""When a loop looks again: soon after something changed, later the longer nothing does, within a budget of looks.

A job that was just submitted starts, is given its keys and fails of a misspelt name within seconds, and its researcher
waits; one that has run for an hour can wait for half a minute.  So a loop waits for a quarter of the time since its
last change: what happens is seen at most a quarter later than it could have been, after some twenty looks.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

SHARE = 0.25
"""Of the time since the last change: so long until the next look."""
AFTER_A_MOVE_S = 0.05
"""One step makes the next possible."""


@dataclass(frozen=True)
class Budget:
    """A token bucket: so many looks in quick succession, and after them one each ``then_s``."""

    at_once: int
    then_s: float


AT_A_SITE = Budget(at_once=90, then_s=2.0)
"""However much changes there: each look costs it a ``squeue``."""


class Pace:
    """Of one loop.  ``tick_s``: the longest pause, with 20 % of jitter, which spreads the load."""

    def __init__(
        self,
        tick_s: float,
        shortest_s: float,
        budget: Budget | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tick_s, self._shortest_s = tick_s, min(shortest_s, tick_s)
        self._budget, self._clock = budget, clock
        self._left = float(budget.at_once) if budget else 0.0
        self._looked = self._changed = clock()
        self._moved = False

    def looked(self, *, moved: bool) -> None:
        """A look was taken; ``moved``: and something moved on."""
        now = self._clock()
        if self._budget is not None:
            earned = (now - self._looked) / self._budget.then_s
            self._left = max(0.0, min(self._left + earned, self._budget.at_once) - 1)
        self._looked, self._moved = now, moved
        if moved:
            self._changed = now

    def pause_s(self) -> float:
        """Until the next look, if nobody rings."""
        longest_s = self._tick_s * random.uniform(0.8, 1.2)  # noqa: S311  no secret
        return max(self.least_s(), min(longest_s, SHARE * (self._clock() - self._changed)))

    def least_s(self) -> float:
        """Until the next look, whoever rings: many may ring at once."""
        if self._budget is not None and self._left < 1:
            return min(self._budget.then_s, self._tick_s)
        return min(AFTER_A_MOVE_S, self._shortest_s) if self._moved else self._shortest_s
