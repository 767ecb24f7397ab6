"""An earlier copy whose unchanged items are taken over: opened and sealed again, not decoded again.

A staging notes of each item what it was made of: a fingerprint over the registered bytes of its sources, their order,
profile, policy, and all that the headers of its series made of it.  With the same de-identification key, the same
code and the same decoders, an equal fingerprint under an equal path gives equal bytes, which are therefore read from
the earlier copy.  Code is compared by its own bytes, so that nothing depends on somebody raising a number: after an
upgrade everything is decoded once.

The record is of the data zone: fingerprints would let who holds a file ask whether it went into the copy.
"""

from __future__ import annotations

import functools
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from typing import Any

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.sealing.cipher import SealBrokenError
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.manifest import Entry
from hdrs_hpc.sealing.reader import SealedCopy
from imaging.deid.keyed import DeidKey

SCHEMA = "hdrs-hpc/staging-record/1"
_BLOCK = 8 << 20
_CODE = ("deid", "staging")
"""Folders of this package that decide what an item's bytes are, beside the modules directly in it."""
_LIBRARIES = (
    *("numpy", "zarr", "numcodecs", "imagecodecs", "pydicom", "tifffile", "Pillow", "pyarrow", "scipy"),
    *("openslide-python", "openslide-bin", "pylibjpeg-rle", "rapidocr", "onnxruntime"),
)
"""Libraries that decode, compute or encode; those that are not there count as absent."""


class StagingRecordError(BadDocumentError):
    code = "staging-record"
    meaning = "The earlier copy has no sound record of what its items were made of."
    remedy = "Stage without the earlier copy; the new one can serve as the earlier copy of the next."


@dataclass(frozen=True, slots=True)
class Earlier:
    """A sealed copy with the record of its items; ``items``: path → what was noted when it was finished."""

    copy: SealedCopy
    items: Mapping[str, dict[str, Any]] = field(repr=False)
    other_code: bool = False
    """Whether other code, libraries or another key made it, so that nothing is taken over."""

    def has(self, path: str, fingerprint: str) -> bool:
        """Whether this very item is there."""
        meta = self.items.get(path)
        return meta is not None and meta.get("source") == fingerprint

    def take_over(self, path: str, builder: CopyBuilder, more: Mapping[str, Any]) -> dict[str, Any] | None:
        """Seal the item's objects again in ``builder`` and finish it there, in bounded memory; gives what was noted of
        it, with ``more``.  None, with nothing left behind, where the earlier copy is damaged."""
        meta = {**self.items[path], **more}
        try:
            entries = list(self.copy.entries(f"{path}/"))
            if not entries:
                return None
            for entry in entries:
                builder.put(entry.path, self._blocks(entry))
        except SealBrokenError:
            builder.drop_item(path)
            return None
        builder.finish_item(path, meta)
        return meta

    def take_over_groups(self, paths: list[str], builder: CopyBuilder) -> None:
        """The groups above these items, which making an item would write."""
        folders = sorted({path.partition("/")[0] for path in paths})
        for name in ("zarr.json", *(f"{folder}/zarr.json" for folder in folders)):
            entry = self.copy.find(name)
            if entry is not None and builder.find(name) is None:
                builder.put(name, bytes(self.copy.read_view(entry)))

    def _blocks(self, entry: Entry) -> Iterator[memoryview]:
        for at in range(0, entry.size, _BLOCK):
            yield self.copy.read_view(entry, at, min(_BLOCK, entry.size - at))


def record(finished: Mapping[str, dict[str, Any]], key: bytes, manifest: str) -> bytes:
    """What a copy's items were made of.  ``finished``: of its builder; ``key``: for de-identification; ``manifest``:
    the digest by which the copy is known."""
    said = {
        "schema": SCHEMA,
        "manifest": manifest,
        "code": code_digest(),
        "key": _key_check(key),
        "items": {
            path: {name: meta[name] for name in ("row", "source", "notes")} for path, meta in finished.items()
        },
    }
    return zlib.compress(json.dumps(said, sort_keys=True).encode(), 6)


def opened(copy: SealedCopy, raw: bytes, key: bytes, manifest: str) -> Earlier:
    """The earlier copy with its record; raises :class:`StagingRecordError`."""
    try:
        said = json.loads(zlib.decompress(raw))
        if said["schema"] != SCHEMA or said["manifest"] != manifest:
            raise StagingRecordError("it is the record of another copy")
        same = said["code"] == code_digest() and said["key"] == _key_check(key)
        items = dict(said["items"]) if same else {}
    except (ValueError, KeyError, TypeError, zlib.error):
        raise StagingRecordError("it can't be read") from None
    return Earlier(copy, items, other_code=not same)


@functools.cache
def code_digest() -> str:
    """SHA-256 over the code and tables that make items, and the versions of the libraries they use."""
    running = hashlib.sha256()
    for name, file in sorted(_files(resources.files("imaging"), "")):
        raw = file.read_bytes()
        running.update(f"{name}\n{len(raw)}\n".encode() + raw)
    for library in _LIBRARIES:
        running.update(f"{library} {_version(library)}\n".encode())
    return running.hexdigest()


def _files(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            if prefix or entry.name in _CODE:
                yield from _files(entry, f"{name}/")
        elif not entry.name.endswith(".pyc"):
            yield name, entry


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "-"


def _key_check(key: bytes) -> str:
    return DeidKey(key).item("staging-record", "key")
