"""Where approved data comes from: the port, and what every source must do (``contract.py`` tests it).

A source is read-only and flat: items with a path and a size.  It never follows a link out of itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from hdrs_hpc.core.errors import NotFoundError, SiteError


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One file of an archive: its path inside the source (``/`` between parts) and its size in bytes."""

    path: str
    size: int


class Source(Protocol):
    """Reads an archive.  All methods may be called from several threads at once."""

    def items(self) -> Iterator[SourceItem]:
        """Every regular file once, in ascending order of the UTF-8 bytes of its path.

        The order and the paths depend on the content alone, so two scans of one archive agree.
        Raises :class:`SourceTooLargeError`, :class:`SourceUnreadableError`.
        """
        ...

    def open(self, path: str) -> BinaryIO:
        """The item's bytes from the start; seekable.  ``path`` is one that :meth:`items` gave.

        Raises :class:`SourceItemMissingError` for anything else: absent, a folder, a link, outside.
        """
        ...

    def local_path(self, path: str) -> Path | None:
        """Where the item lies as an ordinary local file, or None if it does not."""
        ...


class SourceItemMissingError(NotFoundError):
    code = "source-item-missing"
    meaning = "The source has no such item: it was removed, is a folder or a link, or lies outside."
    remedy = "Scan the source again and register the new version of the dataset."


class SourceUnreadableError(SiteError):
    code = "source-unreadable"
    meaning = "A part of the source could not be read."
    remedy = "Give the account that stages read access to the whole source, then run the same command again."


class SourceTooLargeError(SiteError):
    code = "source-too-large"
    meaning = "The source holds more items, or deeper folders, than one dataset may."
    remedy = "Register its parts as datasets of their own."
    retry = False
