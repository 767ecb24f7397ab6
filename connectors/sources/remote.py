"""A source whose items come over a network, or out of a file that packs them: one shape, several carriers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from connectors.sources import SourceItem, SourceItemMissingError, SourceTooLargeError, SourceUnreadableError
from connectors.sources.names import is_plain
from connectors.sources.retrying import Retrying
from connectors.sources.spool import Partial, Spool, filled


@dataclass(frozen=True, slots=True)
class Limits:
    """``spool_bytes``: fetched items kept for the next question; the disk's free space may make it less."""

    max_items: int = 20_000_000
    max_item_bytes: int = 64 << 30
    spool_bytes: int = 4 << 30
    retrying: Retrying = field(default_factory=Retrying)


class Carrier(Protocol):
    """One protocol's part.  Thread-safe; can be pickled (without its connections)."""

    def items(self) -> Iterator[SourceItem]:
        """As :meth:`connectors.sources.Source.items`; tries again by itself, question by question."""
        ...

    def fetch(self, path: str, partial: Partial) -> None:
        """Bring what is missing of the item: go on at ``partial.size`` if ``partial.mark`` still fits, else
        ``restart`` it.  Returns when the whole item is there and agrees with the checksum or length that the
        protocol gives.  Raises :class:`LineBrokenError` where another try may help, or an error of the port."""
        ...

    def close(self) -> None: ...


class RemoteSource:
    """See :class:`connectors.sources.Source`."""

    def __init__(self, carrier: Carrier, limits: Limits | None = None) -> None:
        self._carrier = carrier
        self._limits = limits or Limits()
        free = shutil.disk_usage(tempfile.gettempdir()).free
        self._spool = Spool(min(self._limits.spool_bytes, free // 4))

    def items(self) -> Iterator[SourceItem]:
        """See :meth:`connectors.sources.Source.items`."""
        previous = b""
        for count, item in enumerate(self._carrier.items(), start=1):
            if count > self._limits.max_items:
                raise SourceTooLargeError(f"more than {self._limits.max_items} items")
            raw = item.path.encode()
            if raw <= previous:
                # The version of a dataset hangs on the order, and a repeat may be a listing that went in a circle.
                raise SourceUnreadableError("the archive listed items twice or out of order")
            if not is_plain(item.path):
                raise SourceUnreadableError(
                    "an item's name is empty in a part, or has a part '.' or '..'",
                    remedy="Rename the object in the archive, or choose a prefix that leaves it out.",
                )
            previous = raw
            yield item

    def open(self, path: str) -> BinaryIO:
        """See :meth:`connectors.sources.Source.open`."""
        if not is_plain(path):
            raise SourceItemMissingError("a path of another form than the source gives")
        return self._spool.open(path, lambda: self._fetched(path))

    def local_path(self, path: str) -> Path | None:
        """None: see :meth:`connectors.sources.Source.local_path`."""
        return None

    def close(self) -> None:
        """See :meth:`connectors.sources.Source.close`."""
        self._spool.close()
        self._carrier.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (RemoteSource, (self._carrier, self._limits))

    def _fetched(self, path: str) -> Partial:
        with filled(self._limits.max_item_bytes) as partial:
            self._limits.retrying.run(lambda: self._carrier.fetch(path, partial), lambda: partial.size)
        return partial
