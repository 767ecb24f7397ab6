"""The two-level sealed manifest: which object of a copy is where, and what pins it.

The root names the items, each item names its objects; both are sealed like the data, but at places of their
own (``part`` in :func:`place.context`) and under a reproducible header, so that sealing the same state again
gives the same bytes.  A manifest object's name is ``m-`` and the SHA-256 of its *sealed* bytes.  The root's
digest, ``sha256:…`` of its sealed bytes, is what goes into the log and the hand-over: whoever holds it can
tell an older or another root apart without any key, and everything below hangs from it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import BadDocumentError, NotFoundError
from hdrs_hpc.sealing.cipher import (
    HEADER_BYTES,
    MAX_PLAINTEXT_BYTES,
    SEGMENT_BYTES,
    WINDOW_SEGMENTS,
    Fetch,
    SealBrokenError,
    Sealer,
    open_all,
    reproducible_header,
    sealed_size,
)
from hdrs_hpc.sealing.objects import ObjectMissingError, ObjectReads
from hdrs_hpc.sealing.place import ROOT_ITEM, Part, Role, context, is_path, item_of

ROOT_SCHEMA: Final = "hdrs-hpc/sealed-manifest/1"
ITEM_SCHEMA: Final = "hdrs-hpc/sealed-item/1"
MAX_MANIFEST_BYTES = 64 << 20
"""Bound for reading one manifest object: some 400,000 entries."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


class ManifestMalformedError(BadDocumentError):
    code = "manifest-malformed"
    meaning = "A manifest is authentic but not what this version of the format allows."
    remedy = "Read the copy with the version of hdrs-hpc that wrote it."


class ManifestTooLargeError(BadDocumentError):
    code = "manifest-too-large"
    meaning = "A manifest would be larger than readers accept."
    remedy = "Use fewer, larger objects (shards), or more items."


class SealedObjectMissingError(SealBrokenError):
    code = "sealed-object-missing"
    meaning = "The manifest names an object that is not there; it is not simply empty."
    remedy = "Stop using the copy and tell the site and the custodian; stage the copy anew."


class PathNotInCopyError(NotFoundError):
    code = "path-not-in-copy"
    meaning = "The copy has no object at this path."
    remedy = "`paths()` lists what it has."


class SealedPlace(NamedTuple):
    """What all objects of one copy have in common."""

    role: Role
    project: str
    holder: str

    def context(self, path: str, part: Part = "object") -> bytes:
        return context(self.role, self.project, self.holder, path, part=part)


@dataclass(frozen=True, slots=True)
class Entry:
    """One sealed object.  ``path`` is the item's name for an item's manifest; ``size`` is plaintext bytes."""

    path: str
    name: str
    size: int
    header: bytes

    @property
    def sealed_bytes(self) -> int:
        return sealed_size(self.size)

    def to_row(self) -> list[Any]:
        return [self.path, self.name, self.size, base64.b64encode(self.header).decode("ascii")]

    @classmethod
    def from_row(cls, row: Any) -> Entry:
        """Raises ManifestMalformedError."""
        if not (isinstance(row, list) and len(row) == 4):
            raise ManifestMalformedError("an entry has four fields")
        path, name, size, header_text = row
        if not (isinstance(path, str) and isinstance(name, str) and _NAME.fullmatch(name)):
            raise ManifestMalformedError("an entry's path or name")
        if type(size) is not int or not 0 <= size <= MAX_PLAINTEXT_BYTES:
            raise ManifestMalformedError("an entry's size")
        try:
            header = base64.b64decode(header_text, validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise ManifestMalformedError("an entry's header") from None
        if len(header) != HEADER_BYTES or header[0] != HEADER_BYTES:
            raise ManifestMalformedError("an entry's header")
        return cls(path, name, size, header)


@dataclass(frozen=True, slots=True)
class SealedManifest:
    """One manifest object, ready to be put."""

    entry: Entry
    sealed: bytes

    @property
    def digest(self) -> str:
        return digest_of(self.entry)


def digest_of(manifest: Entry) -> str:
    """A manifest's name is its digest."""
    return "sha256:" + manifest.name.removeprefix("m-")


def seal_item(key: bytes, place: SealedPlace, item: str, entries: Sequence[Entry]) -> SealedManifest:
    rows = [entry.to_row() for entry in sorted(entries, key=lambda entry: entry.path)]
    return _seal(key, place, item, "item", {"schema": ITEM_SCHEMA, "item": item, "objects": rows})


def seal_root(key: bytes, place: SealedPlace, items: Iterable[Entry]) -> SealedManifest:
    rows = [entry.to_row() for entry in sorted(items, key=lambda entry: entry.path)]
    document = {
        "schema": ROOT_SCHEMA,
        "role": place.role,
        "project": place.project,
        "holder": place.holder,
        "items": rows,
    }
    return _seal(key, place, "", "root", document)


def open_root(objects: ObjectReads, key: bytes, place: SealedPlace, digest: str) -> dict[str, Entry]:
    """Fetch, check and open the root of the given digest: item name → its manifest's entry.

    Raises SealBrokenError (another root, damaged, of another copy), SealedObjectMissingError,
    ManifestMalformedError.
    """
    if not _DIGEST.fullmatch(digest):
        raise SealBrokenError("a manifest's digest is written sha256: and 64 hex digits")
    name = "m-" + digest.removeprefix("sha256:")
    try:
        # One byte more than allowed tells "too large" without another question.
        sealed = objects.get(name, 0, sealed_size(MAX_MANIFEST_BYTES) + 1)
    except ObjectMissingError:
        raise SealedObjectMissingError("the copy's manifest is not there", where=name) from None
    if len(sealed) > sealed_size(MAX_MANIFEST_BYTES):
        raise SealBrokenError("the copy's manifest is too large", where=name)
    if hashlib.sha256(sealed).hexdigest() != name.removeprefix("m-"):
        raise SealBrokenError("this is not the manifest of that digest", where=name)
    document = _parse(open_all(key, place.context("", "root"), sealed), ROOT_SCHEMA, 5)
    if (document.get("role"), document.get("project"), document.get("holder")) != tuple(place):
        raise ManifestMalformedError("the manifest speaks of another copy than the one it is sealed for")
    entries = _rows(document.get("items"))
    for entry in entries:
        if entry.path != ROOT_ITEM and (not is_path(entry.path) or entry.path.count("/") != 1):
            raise ManifestMalformedError("the name of an item")
        if entry.size > MAX_MANIFEST_BYTES:
            raise ManifestMalformedError("an item's manifest is too large")
    return {entry.path: entry for entry in entries}


def parse_item(plaintext: bytes, item: str) -> dict[str, Entry]:
    """The opened manifest of one item: path → entry, in the order of paths.  Raises
    ManifestMalformedError.
    """
    document = _parse(plaintext, ITEM_SCHEMA, 3)
    if document.get("item") != item:
        raise ManifestMalformedError("the manifest of another item")
    entries = _rows(document.get("objects"))
    if not all(is_path(entry.path) and item_of(entry.path) == item for entry in entries):
        raise ManifestMalformedError("a path that is not of this item")
    return {entry.path: entry for entry in entries}


def fetch_from(objects: ObjectReads, entry: Entry) -> Fetch:
    """Ranges of an entry's object; where it is gone, that is damage and no absence."""

    def fetch(start: int, length: int) -> memoryview:
        room = _fetched.room(length)
        try:
            return room[: objects.get_into(entry.name, start, room)]
        except ObjectMissingError:
            raise SealedObjectMissingError(where=entry.name) from None

    return fetch


class _Fetched(threading.local):
    """Sealed bytes on their way to be opened: one piece of memory a thread, used again and again."""

    def __init__(self) -> None:
        self._memory = memoryview(bytearray(WINDOW_SEGMENTS * SEGMENT_BYTES))

    def room(self, length: int) -> memoryview:
        return self._memory[:length] if length <= len(self._memory) else memoryview(bytearray(length))


_fetched = _Fetched()


def _seal(key: bytes, place: SealedPlace, path: str, part: Part, document: dict[str, Any]) -> SealedManifest:
    plaintext = strict_json.dumps(document)
    if len(plaintext) > MAX_MANIFEST_BYTES:
        raise ManifestTooLargeError(f"{len(plaintext)} bytes where {MAX_MANIFEST_BYTES} are allowed")
    bound = place.context(path, part)
    sealer = Sealer(key, bound, reproducible_header(key, bound, plaintext))
    sealed = b"".join(map(bytes, sealer.stream([plaintext])))
    name = "m-" + hashlib.sha256(sealed).hexdigest()
    return SealedManifest(Entry(path, name, len(plaintext), sealer.header), sealed)


def _parse(plaintext: bytes, schema: str, fields: int) -> dict[str, Any]:
    try:
        document = json.loads(plaintext)
    except (ValueError, RecursionError):
        raise ManifestMalformedError("not JSON") from None
    if not isinstance(document, dict) or document.get("schema") != schema or len(document) != fields:
        raise ManifestMalformedError("not a manifest of this version")
    if strict_json.dumps(document) != plaintext:  # duplicate keys, other spellings
        raise ManifestMalformedError("not written in the one way of writing")
    return document


def _rows(rows: Any) -> list[Entry]:
    if not isinstance(rows, list):
        raise ManifestMalformedError("a list of entries is missing")
    entries = [Entry.from_row(row) for row in rows]
    if any(left.path >= right.path for left, right in pairwise(entries)):
        raise ManifestMalformedError("entries are not in order, or a path appears twice")
    return entries
