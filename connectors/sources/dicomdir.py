"""The files that a DICOMDIR refers to as a source (PS3.10 8).

A folder that happens to hold a DICOMDIR is read as a folder, since the index may be older than the files: only
who names the DICOMDIR itself means what it lists.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from connectors.sources import SourceItem, SourceItemMissingError
from connectors.sources.folder import FolderSource
from hdrs_hpc.core.errors import NotFoundError

ReadReferences = Callable[[BinaryIO], list[str]]
"""Reads, in a process for untrusted files, the paths that a DICOMDIR refers to."""


class DicomdirIncompleteError(NotFoundError):
    code = "dicomdir-incomplete"
    meaning = "Files that the DICOMDIR refers to are not there."
    remedy = "Copy the medium whole; or give its folder as the source, to take the files that are there."


class DicomdirSource:
    """See :class:`connectors.sources.Source`."""

    def __init__(self, path: Path, read_references: ReadReferences) -> None:
        self._path = Path(path)
        self._read_references = read_references
        self._folder = FolderSource(self._path.parent)
        self._lock = threading.Lock()
        self._sizes: dict[str, int] | None = None

    def items(self) -> Iterator[SourceItem]:
        """See :meth:`connectors.sources.Source.items`; raises also :class:`DicomdirIncompleteError`."""
        for path, size in self._listed().items():
            yield SourceItem(path, size)

    def open(self, path: str) -> BinaryIO:
        """See :meth:`connectors.sources.Source.open`."""
        if path not in self._listed():
            raise SourceItemMissingError("the DICOMDIR does not refer to such an item")
        return self._folder.open(path)

    def local_path(self, path: str) -> Path | None:
        """See :meth:`connectors.sources.Source.local_path`."""
        return self._folder.local_path(path) if path in self._listed() else None

    def close(self) -> None:
        """See :meth:`connectors.sources.Source.close`; there is nothing to give back."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (DicomdirSource, (self._path, self._read_references))

    def _listed(self) -> dict[str, int]:
        with self._lock:
            if self._sizes is None:
                with self._folder.open(self._path.name) as file:
                    references = self._read_references(file)
                self._sizes = self._found(references)
            return self._sizes

    def _found(self, references: list[str]) -> dict[str, int]:
        """Each reference as the file is called here: media are copied to lower case, with versions, with dots."""
        exact: dict[str, int] = {}
        alike: dict[str, list[str]] = {}
        for item in self._folder.items():
            exact[item.path] = item.size or 0
            alike.setdefault(_plain(item.path), []).append(item.path)
        found: dict[str, int] = {}
        missing = 0
        for reference in references:
            candidates = [reference] if reference in exact else alike.get(_plain(reference), [])
            if len(candidates) == 1:
                found[candidates[0]] = exact[candidates[0]]
            else:
                missing += 1
        if missing:
            raise DicomdirIncompleteError(
                f"{missing} of {len(references)} files are not there, or there twice"
            )
        return dict(sorted(found.items(), key=lambda entry: entry[0].encode()))


def _plain(path: str) -> str:
    return path.casefold().removesuffix(";1").removesuffix(".")
