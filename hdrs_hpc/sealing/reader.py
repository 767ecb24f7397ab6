"""Reading a sealed copy, with nothing but the standard library and ``cryptography``: what the node agent
does.

The manifest's digest is the one thing that must be known beforehand; all else is checked against it.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from heapq import merge
from itertools import chain, islice
from operator import attrgetter
from typing import NoReturn, Self

from hdrs_hpc.sealing.cipher import (
    FIRST_PLAINTEXT_BYTES,
    HEADER_BYTES,
    Fetch,
    Opener,
    SealBrokenError,
    never_pickled,
)
from hdrs_hpc.sealing.manifest import (
    Entry,
    PathNotInCopyError,
    SealedObjectMissingError,
    SealedPlace,
    fetch_from,
    open_root,
    parse_item,
)
from hdrs_hpc.sealing.objects import ObjectMissingError, ObjectReads
from hdrs_hpc.sealing.place import ROOT_ITEM, Part, Role, item_of

MAX_CACHED_ENTRIES = 200_000
"""Entries of items kept in memory, some 100 MB at most; an item that was dropped is read again."""
MAX_CACHED_OPENERS = 8192


PIECE_BYTES = 4 << 20
"""In which a whole object is read."""


class SealedCopy:
    """A sealed copy (or the sealed outputs of an attempt), read-only.  Thread safe; never leaves its
    process.
    """

    def __init__(self, objects: ObjectReads, key: bytes, place: SealedPlace, items: dict[str, Entry]) -> None:
        """Use :meth:`open`."""
        self._objects = objects
        self._key = key
        self._place = place
        self._items = items
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, dict[str, Entry]] = OrderedDict()
        self._cached_entries = 0
        self._folders: list[str] | None = None
        self._children: tuple[str, list[str]] | None = None
        self._openers: OrderedDict[str, Opener] = OrderedDict()

    @classmethod
    def open(
        cls, objects: ObjectReads, key: bytes, role: Role, project: str, holder: str, manifest_digest: str
    ) -> Self:
        """Open the copy whose root manifest has this digest (``sha256:…``), and no other.

        Raises SealBrokenError if the manifest is another one, an older one, damaged, or not under this key.
        """
        place = SealedPlace(role, project, holder)
        return cls(objects, key, place, open_root(objects, key, place, manifest_digest))

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        never_pickled(self)

    def items(self) -> list[str]:
        """Names of all items, sorted; the root item, ``""``, is not among them."""
        return [item for item in self._items if item != ROOT_ITEM]

    def paths(self, prefix: str = "") -> Iterator[str]:
        """All paths that begin with ``prefix``, sorted."""
        return (entry.path for entry in self.entries(prefix))

    def entries(self, prefix: str = "", after: str = "") -> Iterator[Entry]:
        """All objects whose paths begin with ``prefix`` and come after ``after``, in the order of their paths.

        An item's manifest is read when its first path is asked for, so a page of a long list costs what is on
        the page.
        """
        return merge(
            self._entries_of(ROOT_ITEM, prefix, after),
            chain.from_iterable(
                self._entries_of(folder[:-1], prefix, after) for folder in self._folders_from(prefix, after)
            ),
            key=attrgetter("path"),
        )

    def children(self, folder: str) -> list[str]:
        """Names directly below a folder (``""`` is the top), sorted; reads as few manifests as it can."""
        last = self._children
        if last is not None and last[0] == folder:
            return last[1]  # pages of one listing come one after another
        prefix = f"{folder}/" if folder else ""
        found: set[str] = set()
        for item in self._items:
            if item != ROOT_ITEM and f"{item}/".startswith(prefix):
                below = item[len(prefix) :]
                found.update([below.split("/", 1)[0]] if below else self._names_below(item, prefix))
            elif item == ROOT_ITEM or prefix.startswith(f"{item}/"):
                found.update(self._names_below(item, prefix))
        names = sorted(found)
        self._children = (folder, names)
        return names

    def find(self, path: str) -> Entry | None:
        """What the manifest says of a path; None is a true absence."""
        item = item_of(path)
        return self._item(item).get(path) if item in self._items else None

    def size(self, path: str) -> int:
        """Plaintext bytes.  Raises PathNotInCopyError."""
        return self._entry(path).size

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes ``[start, start + length)`` of an object, clipped to it.

        Raises PathNotInCopyError; SealBrokenError (SealedObjectMissingError if it is gone) and then gives
        nothing.
        """
        return bytes(self.read_view(self._entry(path), start, length))

    def pieces(self, path: str) -> Iterator[bytes]:
        """An object from its beginning to its end, in bounded memory.  Raises like :meth:`read`."""
        for start in range(0, self.size(path), PIECE_BYTES):
            yield self.read(path, start, PIECE_BYTES)

    def read_into(self, path: str, start: int, view: memoryview) -> int:
        """Fill ``view`` from ``start`` on; gives the number of bytes, fewer only where the object ends.

        Raises like :meth:`read`; ``view`` then holds zeros where plaintext might have been.
        """
        return len(self.read_view(self._entry(path), start, view.nbytes, view))

    def read_view(
        self, entry: Entry, start: int = 0, length: int | None = None, into: memoryview | None = None
    ) -> memoryview:
        """The range of an entry of this copy, without a further copy of the bytes."""
        opener = self._opener(entry, header_follows=start < FIRST_PLAINTEXT_BYTES)
        return opener.read(self._fetch(entry), start, entry.size if length is None else length, into)

    def close(self) -> None:
        """Forget the key and all that was derived from it or read; the copy can't be read after that."""
        with self._lock:
            self._key = b""
            self._items = {}
            self._folders = None
            self._children = None
            self._openers.clear()
            self._loaded.clear()

    def _folders_from(self, prefix: str, after: str) -> Iterator[str]:
        """Items as ``series/A/``: in this order their paths are sorted too; ``A-1/`` comes before ``A/``."""
        with self._lock:
            if self._folders is None:
                self._folders = sorted(f"{item}/" for item in self._items if item != ROOT_ITEM)
            folders = self._folders
        # The one before may be an item that ``after`` or ``prefix`` points into.
        first = max(0, bisect_right(folders, max(prefix, after)) - 1)
        for folder in islice(folders, first, None):
            if folder.startswith(prefix) or prefix.startswith(folder):
                yield folder
            elif folder > prefix:
                return

    def _entries_of(self, item: str, prefix: str, after: str) -> Iterator[Entry]:
        entries = self._item(item)
        paths = list(entries)
        for path in islice(paths, bisect_right(paths, after), None):
            if path.startswith(prefix):
                yield entries[path]

    def _entry(self, path: str) -> Entry:
        entry = self.find(path)
        if entry is None:
            raise PathNotInCopyError()
        return entry

    def _names_below(self, item: str, prefix: str) -> set[str]:
        return {path[len(prefix) :].split("/", 1)[0] for path in self._item(item) if path.startswith(prefix)}

    def _item(self, item: str) -> dict[str, Entry]:
        with self._lock:
            entries = self._loaded.get(item)
            if entries is not None:
                self._loaded.move_to_end(item)
                return entries
            entry = self._items.get(item)
        if entry is None:
            return {}
        opener = self._new_opener(entry, "item")
        entries = parse_item(bytes(opener.read(self._fetch(entry), 0, entry.size)), item)
        with self._lock:
            if item not in self._loaded:
                self._loaded[item] = entries
                self._cached_entries += len(entries)
                while self._cached_entries > MAX_CACHED_ENTRIES and len(self._loaded) > 1:
                    self._cached_entries -= len(self._loaded.popitem(last=False)[1])
        return entries

    def _opener(self, entry: Entry, *, header_follows: bool) -> Opener:
        with self._lock:
            opener = self._openers.get(entry.name)
            if opener is not None:
                self._openers.move_to_end(entry.name)
                return opener
        opener = self._new_opener(entry, "object")
        # At first use the whole object's length and header are looked at, so that damage outside the range
        # read is noticed too; what is inside the range is authenticated each time.
        if not header_follows:
            opener.check_header(self._fetch(entry)(0, HEADER_BYTES))
        with self._lock:
            self._openers[entry.name] = opener
            while len(self._openers) > MAX_CACHED_OPENERS:
                self._openers.popitem(last=False)
        return opener

    def _new_opener(self, entry: Entry, part: Part) -> Opener:
        opener = Opener(self._key, self._place.context(entry.path, part), entry.header, entry.size)
        try:
            there = self._objects.size(entry.name)
        except ObjectMissingError:
            raise SealedObjectMissingError(where=entry.name) from None
        if there != opener.sealed_bytes:
            raise SealBrokenError("not as long as it was sealed", where=entry.name)
        return opener

    def _fetch(self, entry: Entry) -> Fetch:
        return fetch_from(self._objects, entry)
