"""Trying again when a line breaks: with back-off, jitter and a limit."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from connectors.sources import SourceUnreachableError, SourceUnreadableError

T = TypeVar("T")
LONGEST_ASKED_WAIT_S = 60.0
"""A server's Retry-After is honoured up to this."""
PROGRESS_BYTES = 1 << 20
"""A try that got further than all before by this much starts the count of failures again."""
_JITTER = random.SystemRandom()


class LineBrokenError(Exception):
    """A transfer or question that failed on the way and may well succeed when tried again.

    ``reason`` has nothing sensitive in it.  ``wait_s`` is how long the server asked to be left alone.
    ``of_item`` says that the archive is there, and it is this one item that it can't give at the moment.
    """

    def __init__(self, reason: str, wait_s: float | None = None, *, of_item: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s
        self.of_item = of_item


@dataclass(frozen=True, slots=True)
class Retrying:
    """``attempts`` in a row without progress; before each further one a random wait up to a doubling limit,
    so that many workers that lost one archive do not come back to it in step."""

    attempts: int = 6
    first_s: float = 0.25
    longest_s: float = 15.0

    def run(self, work: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """What ``work`` gives.  ``progress`` tells how many bytes came (fewer when it starts over).
        After the last attempt raises :class:`SourceUnreachableError`, or :class:`SourceUnreadableError` for a
        fault of one item."""
        failed = 0
        height = progress()
        while True:
            try:
                return work()
            except LineBrokenError as broken:
                reached = progress()
                failed = 1 if reached >= height + PROGRESS_BYTES else failed + 1
                height = max(height, reached)
                if failed >= self.attempts:
                    message = f"{broken.reason}; tried {failed} times without getting further"
                    raise (SourceUnreadableError if broken.of_item else SourceUnreachableError)(
                        message
                    ) from None
                time.sleep(self._wait_s(failed, broken.wait_s))

    def _wait_s(self, failed: int, asked_s: float | None) -> float:
        limit = min(self.longest_s, self.first_s * 2 ** (failed - 1))
        return min(asked_s or 0.0, LONGEST_ASKED_WAIT_S) + _JITTER.uniform(limit / 2, limit)
