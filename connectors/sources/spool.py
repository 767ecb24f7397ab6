"""Bytes of remote items while they are worked on: in files without a name, of bounded number and size.

The files are unlinked from birth, so a process that dies leaves no patient data behind.  They lie where TMPDIR
says (a tmpfs or a protected disk of the data zone).  A staging asks for one item several times in a row, for its
header and then for its pixels: the last ones used are kept, up to a budget, instead of fetched again.
"""

from __future__ import annotations

import contextlib
import errno
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import BinaryIO

from connectors.sources import SourceSpoolFullError, SourceTooLargeError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Partial:
    """An item's bytes as far as they have come.

    ``mark`` is what tells one version of the item from another (an ETag, a time of change): bytes of two
    versions never meet in one file.
    """

    def __init__(self, max_bytes: int) -> None:
        self.file: BinaryIO = tempfile.TemporaryFile("w+b", buffering=0)  # noqa: SIM115 (the spool closes it)
        self.size = 0
        self.mark: str | None = None
        self._max_bytes = max_bytes

    def write(self, block: bytes | bytearray | memoryview) -> None:
        """Append; raises :class:`SourceTooLargeError`, :class:`SourceSpoolFullError`."""
        view = memoryview(block).cast("B")
        if self.size + len(view) > self._max_bytes:
            raise SourceTooLargeError(f"an item of more than {self._max_bytes} bytes")
        while view:
            try:
                written = self.file.write(view)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    raise SourceSpoolFullError() from None
                raise
            view = view[written:]
            self.size += written

    def restart(self, mark: str | None = None) -> None:
        """Forget what came: it can't be gone on with."""
        self.file.seek(0)
        self.file.truncate()
        self.size = 0
        self.mark = mark

    def blocks(self, block_bytes: int = 1 << 20) -> Iterator[bytes]:
        """What came so far, from the start; leaves the file where the next :meth:`write` goes on."""
        self.file.seek(0)
        while block := self.file.read(block_bytes):
            yield block


class Spool:
    """Items by path, fetched once however many threads ask at the same time."""

    def __init__(self, budget_bytes: int, max_files: int = 256) -> None:
        self._budget_bytes = budget_bytes
        self._max_files = max_files
        self._kept: OrderedDict[str, Partial] = OrderedDict()
        self._kept_bytes = 0
        self._coming: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def open(self, path: str, fetch: Callable[[], Partial]) -> BinaryIO:
        """A new read-only descriptor of the item's bytes, at the start; raises what ``fetch`` raises."""
        while True:
            with self._lock:
                kept = self._kept.get(path)
                if kept is not None:
                    self._kept.move_to_end(path)
                    return _reopen(kept)
                coming = self._coming.get(path)
                if coming is None:
                    self._coming[path] = threading.Event()
                    break
            # Whoever fetches may fail, or the item may be let go before we look: then it is our turn.
            coming.wait()
        try:
            partial = fetch()
        except BaseException:
            self._arrived(path)
            raise
        try:
            opened = _reopen(partial)
            self._keep(path, partial)
        finally:
            self._arrived(path)
        return opened

    def close(self) -> None:
        """Let all kept bytes go; descriptors given out stay good."""
        with self._lock:
            while self._kept:
                self._let_go()

    def _keep(self, path: str, partial: Partial) -> None:
        with self._lock:
            self._kept[path] = partial
            self._kept_bytes += partial.size
            while self._kept_bytes > self._budget_bytes or len(self._kept) > self._max_files:
                self._let_go()

    def _let_go(self) -> None:
        _, partial = self._kept.popitem(last=False)
        self._kept_bytes -= partial.size
        partial.file.close()

    def _arrived(self, path: str) -> None:
        with self._lock:
            self._coming.pop(path).set()


def _reopen(partial: Partial) -> BinaryIO:
    # By way of /proc the same nameless file gets a second description: own position, and for reading only.
    return open(f"/proc/self/fd/{partial.file.fileno()}", "rb")  # noqa: PTH123


@contextlib.contextmanager
def filled(max_bytes: int) -> Iterator[Partial]:
    """A new partial, closed if filling it fails."""
    partial = Partial(max_bytes)
    try:
        yield partial
    except BaseException:
        partial.file.close()
        raise
