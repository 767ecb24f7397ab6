"""A folder on a local or mounted file system as a source."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from connectors.sources import SourceItem, SourceItemMissingError, SourceTooLargeError, SourceUnreadableError
from connectors.sources.names import to_name, to_text


class FolderSource:
    """All regular files below ``path``.

    Links are neither followed nor listed, so nothing outside the folder can be drawn in, and a loop of links
    costs nothing.  File names that are not UTF-8 keep their bytes as ``\\xNN`` (and a backslash is doubled),
    so that every name has exactly one text form.
    """

    def __init__(self, path: Path, *, max_items: int = 20_000_000, max_depth: int = 64) -> None:
        self.root = Path(path).resolve()
        self.max_items = max_items
        self.max_depth = max_depth
        if self.root.is_file():
            raise SourceItemMissingError(
                "this is a file, and a source is a folder, a DICOMDIR or a zip file",
                where=str(path),
                remedy="Give the folder that holds it.",
            )
        if not self.root.is_dir():
            raise SourceItemMissingError(
                "there is no such folder",
                where=str(path),
                remedy="Give a folder that exists and can be read.",
            )

    def items(self) -> Iterator[SourceItem]:
        """See :meth:`connectors.sources.Source.items`; memory is one folder's listing per level."""
        for count, item in enumerate(self._walk(os.fsencode(self.root), b"", 0), start=1):
            if count > self.max_items:
                raise SourceTooLargeError(f"more than {self.max_items} items")
            yield item

    def open(self, path: str) -> BinaryIO:
        """See :meth:`connectors.sources.Source.open`.

        Walks component by component from the root with O_NOFOLLOW: a component that became a link between
        scan and read is refused, which a check before opening could not promise.
        """
        parts = to_name(path).split(b"/")
        if not all(part and part not in (b".", b"..") and b"\0" not in part for part in parts):
            raise SourceItemMissingError("a path of another form than the source gives")
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts[:-1]:
                inner = os.open(
                    part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder
                )
                os.close(folder)
                folder = inner
            # O_NONBLOCK: a FIFO put in place of a file must not hang the stager.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            handle = os.open(parts[-1], flags, dir_fd=folder)
        except PermissionError:
            raise SourceUnreadableError("an item may not be read") from None
        except OSError:
            raise SourceItemMissingError("an item is absent or has become a link") from None
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise SourceItemMissingError("an item is not a regular file")
        return os.fdopen(handle, "rb")

    def local_path(self, path: str) -> Path | None:
        """See :meth:`connectors.sources.Source.local_path`."""
        return self.root / os.fsdecode(to_name(path))

    def close(self) -> None:
        """See :meth:`connectors.sources.Source.close`; there is nothing to give back."""

    def _walk(self, folder: bytes, prefix: bytes, depth: int) -> Iterator[SourceItem]:
        if depth > self.max_depth:
            raise SourceTooLargeError(f"folders nested deeper than {self.max_depth}")
        try:
            with os.scandir(folder) as listing:
                entries = [
                    (entry.name, entry.is_dir(follow_symlinks=False), entry.stat(follow_symlinks=False))
                    for entry in listing
                ]
        except OSError as error:
            raise SourceUnreadableError(f"a folder could not be listed ({error.strerror})") from None
        # A folder sorts as its name followed by "/", which is how its items' paths compare.
        entries.sort(key=lambda entry: to_text(entry[0]).encode() + (b"/" if entry[1] else b""))
        for name, is_folder, status in entries:
            if is_folder:
                yield from self._walk(folder + b"/" + name, prefix + name + b"/", depth + 1)
            elif stat.S_ISREG(status.st_mode):
                yield SourceItem(to_text(prefix + name), status.st_size)
