"""Writing a sealed copy: objects go out sealed, a journal remembers them, sealing makes the manifest.

The unit of work and of resumption is the *item* (a series, a slide): the first two components of a path that
has at least three.  An item is written through one builder, which calls ``finish_item`` at its end; what was
not finished does not become part of the copy.  Everything else (index, report, group metadata) is the root
item, which needs no finishing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import ConflictError
from hdrs_hpc.core.ids import new_secret_name
from hdrs_hpc.sealing.cipher import Bytes, Opener, Sealer, never_pickled
from hdrs_hpc.sealing.journal import Journal, Progress, read_journals
from hdrs_hpc.sealing.manifest import (
    Entry,
    PathNotInCopyError,
    SealedManifest,
    SealedObjectMissingError,
    SealedPlace,
    digest_of,
    fetch_from,
    seal_item,
    seal_root,
)
from hdrs_hpc.sealing.objects import ObjectStore
from hdrs_hpc.sealing.place import ROOT_ITEM, Role, check_item, check_path, item_of

if TYPE_CHECKING:
    from hdrs_hpc.sealing.zarr_store import BuildingStore

_MANIFESTS_AT_ONCE = 8
"""Each waits for the medium; a file system confirms several in one go."""


class CopySealedError(ConflictError):
    code = "copy-sealed"
    meaning = "The copy is sealed and read-only for ever."
    remedy = "Changed data is a new copy."


class ItemFinishedError(ConflictError):
    code = "item-finished"
    meaning = "The item was finished earlier and does not change any more."
    remedy = "Leave out what `finished()` names."


@dataclass(frozen=True, slots=True)
class SealedCopyRef:
    """What is noted of a sealed copy.

    ``objects`` and ``sealed_bytes`` count all that lies on the storage, manifests included;
    ``plaintext_bytes`` only the data.  ``dropped_items`` were begun and never finished.
    """

    manifest_name: str
    manifest_digest: str
    objects: int
    plaintext_bytes: int
    sealed_bytes: int
    dropped_items: tuple[str, ...] = ()


class CopyBuilder:
    """Builds the copy ``holder`` (copy or attempt id) under ``key``; opened again on the same journals, it
    resumes.

    Threads share one builder; each worker process opens its own over the same ``journal_dir``.  A builder
    sees what it wrote itself and the items that were finished when it was opened.
    """

    def __init__(
        self, objects: ObjectStore, key: bytes, role: Role, project: str, holder: str, journal_dir: Path
    ) -> None:
        self._objects = objects
        self._key = key
        self._place = SealedPlace(role, project, holder)
        self._journal_dir = journal_dir
        self._journal = Journal(journal_dir, key, self._place)
        self._lock = threading.Lock()
        progress = self._read_journals()
        self._entries = progress.entries
        self._finished = progress.finished
        self._sealed = _ref(progress.sealed)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        never_pickled(self)

    @property
    def sealed(self) -> bool:
        """Whether this copy was sealed; nothing can be written any more."""
        return self._sealed is not None

    def store(self) -> BuildingStore:
        """The copy as a zarr store, writable, and readable while it is built."""
        from hdrs_hpc.sealing.zarr_store import BuildingStore

        return BuildingStore(self)

    def put(self, path: str, data: Bytes | Iterable[Bytes]) -> None:
        """Write an object whole, in place of an older one at this path.

        An iterable is sealed and sent piece by piece, in bounded memory.  Raises CopySealedError,
        ItemFinishedError, and what the object store raises; then nothing has changed at this path.
        """
        check_path(path)
        item = item_of(path)
        self._check_open(item)
        sealer = Sealer(self._key, self._place.context(path))
        name = new_secret_name("o")
        if isinstance(data, bytes | bytearray | memoryview):
            with closing(sealer.stream_ahead(data)) as pieces:
                self._objects.put(name, pieces)
            size = memoryview(data).nbytes
        else:
            counted = _Counted(data)
            self._objects.put(name, sealer.stream(counted))
            size = counted.size
        entry = Entry(path, name, size, sealer.header)
        try:
            with self._lock:
                self._check_open(item)
                self._journal.put(entry, durable=item == ROOT_ITEM)
                replaced = self._entries.setdefault(item, {}).get(path)
                self._entries[item][path] = entry
        except ConflictError:
            self._objects.delete(name)
            raise
        if replaced is not None:
            self._objects.delete(replaced.name)

    def delete(self, path: str) -> None:
        """Remove an object; no error when there is none."""
        item = item_of(path)
        self._check_open(item)
        with self._lock:
            gone = self._entries.get(item, {}).get(path)
            if gone is None:
                return
            self._check_open(item)
            self._journal.delete(path, durable=item == ROOT_ITEM)
            del self._entries[item][path]
        self._objects.delete(gone.name)

    def find(self, path: str) -> Entry | None:
        return self._entries.get(item_of(path), {}).get(path)

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """Read back what was written.  Raises PathNotInCopyError."""
        view = self.read_view(path, start, length)
        if view is None:
            raise PathNotInCopyError()
        return bytes(view)

    def read_view(self, path: str, start: int = 0, length: int | None = None) -> memoryview | None:
        """The range in new memory, or None where there is no object; opened with the pinned header."""
        entry = self.find(path)
        while entry is not None:
            try:
                return self._read_entry(entry, start, length)
            except SealedObjectMissingError:
                now = self.find(path)
                if now is entry:
                    raise
                entry = now  # it was rewritten meanwhile
        return None

    def paths(self, prefix: str = "") -> list[str]:
        """All paths that begin with ``prefix``, sorted."""
        with self._lock:
            return sorted(
                path for entries in self._entries.values() for path in entries if path.startswith(prefix)
            )

    def finish_item(self, item: str, meta: dict[str, Any]) -> None:
        """Say that an item is complete, durably.  ``meta`` (JSON) is given back by :meth:`finished`."""
        check_item(item)
        meta = strict_json.loads(strict_json.dumps(meta))
        with self._lock:
            self._check_open(item)
            self._journal.finish(item, meta)
            self._finished[item] = meta
            self._entries.setdefault(item, {})

    def finished(self) -> dict[str, dict[str, Any]]:
        """Item → metadata of all items known to be finished; an interrupted run need not repeat them."""
        return dict(self._finished)

    def drop_item(self, item: str) -> None:
        """Forget what this builder wrote for an item that is not finished, e.g. after it failed half-way."""
        check_item(item)
        with self._lock:
            self._check_open(item)
            self._journal.drop(item)
            gone = self._entries.pop(item, {})
        for entry in gone.values():
            self._objects.delete(entry.name)

    def seal(self) -> SealedCopyRef:
        """Make the manifest, remove all that it does not name, and close the copy for ever.

        To be called when all workers have ended.  Sealing again gives the same answer, also after a crash
        half-way. Raises SealedObjectMissingError if the storage lost something meanwhile.
        """
        with self._lock:
            if self._sealed is not None:
                return self._sealed
            progress = self._read_journals()
            there = dict(self._objects.sizes())
            data = [entry for entries in progress.entries.values() for entry in entries.values()]
            for entry in data:
                if there.get(entry.name) != entry.sealed_bytes:
                    raise SealedObjectMissingError("lost while the copy was built", where=entry.name)
            manifests = self._put_manifests(progress, there)
            root = manifests[-1]
            kept = [*data, *manifests]
            for name in there.keys() - {entry.name for entry in kept}:
                self._objects.delete(name)
            self._objects.sweep()
            sealed = SealedCopyRef(
                manifest_name=root.name,
                manifest_digest=digest_of(root),
                objects=len(kept),
                plaintext_bytes=sum(entry.size for entry in data),
                sealed_bytes=sum(entry.sealed_bytes for entry in kept),
                dropped_items=tuple(sorted(progress.unfinished)),
            )
            self._journal.sealed(asdict(sealed))
            self._journal.close()
            self._entries, self._finished = progress.entries, progress.finished
            self._sealed = sealed
            return sealed

    def close(self) -> None:
        """Close this worker's journal; nothing is lost, the next builder goes on."""
        self._journal.close()

    def _put_manifests(self, progress: Progress, there: dict[str, int]) -> list[Entry]:
        """Write those that are not there yet, several at once; the root comes last, when all others are safe."""

        def put_item(item: str) -> Entry:
            return self._put_manifest(
                seal_item(self._key, self._place, item, list(progress.entries[item].values())), there
            )

        with ThreadPoolExecutor(_MANIFESTS_AT_ONCE, "sealing") as threads:
            items = sorted(filter(progress.entries.get, progress.entries))
            manifests = [made for part in batched(items, 1000) for made in threads.map(put_item, part)]
        root = seal_root(self._key, self._place, manifests)
        return [*manifests, self._put_manifest(root, there)]

    def _put_manifest(self, manifest: SealedManifest, there: dict[str, int]) -> Entry:
        name = manifest.entry.name
        if name in there:  # from an interrupted sealing, if the storage is honest: look
            if there[name] == len(manifest.sealed) and self._objects.get(name) == manifest.sealed:
                return manifest.entry
            self._objects.delete(name)
        self._objects.put(name, manifest.sealed)
        return manifest.entry

    def _read_journals(self) -> Progress:
        return read_journals(self._journal_dir, self._key, self._place)

    def _read_entry(self, entry: Entry, start: int, length: int | None) -> memoryview:
        opener = Opener(self._key, self._place.context(entry.path), entry.header, entry.size)
        return opener.read(fetch_from(self._objects, entry), start, entry.size if length is None else length)

    def _check_open(self, item: str) -> None:
        if self._sealed is not None:
            raise CopySealedError()
        if item in self._finished:
            raise ItemFinishedError()


class _Counted:
    """Counts the bytes of an iterable as they pass."""

    def __init__(self, chunks: Iterable[Bytes]) -> None:
        self._chunks = chunks
        self.size = 0

    def __iter__(self) -> Iterator[Bytes]:
        for chunk in self._chunks:
            self.size += memoryview(chunk).nbytes
            yield chunk


def _ref(summary: dict[str, Any] | None) -> SealedCopyRef | None:
    return (
        None
        if summary is None
        else SealedCopyRef(**{**summary, "dropped_items": tuple(summary["dropped_items"])})
    )
