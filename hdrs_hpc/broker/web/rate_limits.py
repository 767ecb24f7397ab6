"""Rate-limit refusals per address: each one is an entry in the log for ever, so nobody may cause them without end."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hdrs_hpc.core.errors import HdrsError, SiteError

WINDOW_S = 60.0
MAX_REFUSALS = 120
"""Refusals within the window from one address; what is accepted does not count."""
MAX_ADDRESSES = 4096


class TooManyRefusalsError(SiteError):
    http_status = 429
    code = "too-many-refusals"
    meaning = "Too many documents or logins from this address were refused in the last minute."
    remedy = "Wait a minute; then mend the first refusal before sending more."


class RefusalLimit:
    """Counts refusals by address; in memory, since a restart gives no more than one window's worth."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._refusals: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def on(self, address: str) -> Iterator[None]:
        """Around what may be refused; raises TooManyRefusalsError instead of trying."""
        with self._lock:
            recent = self._refusals.get(address)
            while recent and recent[0] < self._now() - WINDOW_S:
                recent.popleft()
            if recent is not None and len(recent) >= MAX_REFUSALS:
                raise TooManyRefusalsError()
        try:
            yield
        except HdrsError:
            with self._lock:
                self._refusals.setdefault(address, deque(maxlen=MAX_REFUSALS)).append(self._now())
                self._refusals.move_to_end(address)
                while len(self._refusals) > MAX_ADDRESSES:
                    self._refusals.popitem(last=False)
            raise
