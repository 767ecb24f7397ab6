"""A zip archive as a source.

Whoever made the archive is not trusted: what its directory claims is checked before anything is unpacked, and an
archive with one thing amiss is refused whole, since its other claims are then worth little.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from connectors.sources import SourceCorruptError, SourceItem, SourceItemMissingError
from connectors.sources.names import is_plain
from connectors.sources.spool import Partial
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.documents.models.source import ZipLocation

MAX_ENTRIES = 1_000_000
"""Each takes some 0.7 KB of memory."""
MAX_DIRECTORY_BYTES = 256 << 20
MAX_RATIO = 200
"""Unpacked to packed, of a large entry or the whole archive.  Deflate ends at 1,032; images that are mostly air
reach some tens."""
RATIO_FREE_BYTES = 256 << 20
_BLOCK = 1 << 20
_END, _END_BYTES = b"PK\x05\x06", 22
_END64_LOCATOR, _END64 = b"PK\x06\x07", b"PK\x06\x06"
_ENTRY = b"PK\x01\x02"
_ENCRYPTED = 0x1 | 0x40 | 0x2000


class ZipRefusedError(BadDocumentError):
    code = "zip-refused"
    meaning = "The zip archive is damaged, made to do harm, or uses what is not supported."
    remedy = "Unpack it where that is safe, look at what is in it, and give the folder as the source."


class ZipCarrier:
    """See :class:`connectors.sources.remote.Carrier`."""

    def __init__(self, place: ZipLocation) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._opened: tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]] | None = None

    def items(self) -> Iterator[SourceItem]:
        _, entries = self._open()
        for path in sorted(entries, key=lambda path: path.encode()):
            yield SourceItem(path, entries[path].file_size)

    def fetch(self, path: str, partial: Partial) -> None:
        """Unpack one entry, held to its stated size and CRC-32."""
        archive, entries = self._open()
        entry = entries.get(path)
        if entry is None:
            raise SourceItemMissingError("the archive has no such entry")
        try:
            with archive.open(entry) as file:
                while block := file.read(_BLOCK):
                    partial.write(block)
        except (zipfile.BadZipFile, zlib.error, EOFError, struct.error):
            raise SourceCorruptError("an entry can't be unpacked to what the archive states of it") from None
        except (NotImplementedError, RuntimeError):
            raise ZipRefusedError("an entry's own header says other than the directory") from None
        if partial.size != entry.file_size:
            raise SourceCorruptError("an entry is shorter than stated")

    def close(self) -> None:
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened[0].close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (ZipCarrier, (self._place,))

    def _open(self) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
        with self._lock:
            if self._opened is None:
                path = Path(self._place.path)
                try:
                    # A pipe in the file's place must not hang us.
                    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                except OSError:
                    raise SourceItemMissingError(
                        "there is no such file, or it can't be read",
                        remedy="Give a zip archive that exists and can be read.",
                    ) from None
                file = _Guarded(io.FileIO(handle, "rb"))
                try:
                    if not stat.S_ISREG(os.fstat(handle).st_mode):
                        raise ZipRefusedError("it is not a regular file")
                    _check_directory(file)
                    archive = zipfile.ZipFile(file)
                    file.reads_directory = False
                    entries = _checked(archive.infolist(), os.fstat(handle).st_size)
                except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OverflowError):
                    file.close()
                    raise ZipRefusedError("its directory can't be read") from None
                except ZipRefusedError:
                    file.close()
                    raise
                self._opened = archive, entries
            return self._opened


class _Guarded(io.BufferedReader):
    """Bounds what is made of the directory, whichever of several contradicting places tells where it lies."""

    reads_directory = True

    def read(self, size: int | None = -1, /) -> bytes:
        if self.reads_directory:
            left = os.fstat(self.fileno()).st_size - self.tell()
            if min(left, left if size is None or size < 0 else size) > MAX_DIRECTORY_BYTES:
                raise ZipRefusedError("its directory is larger than allowed")
        data = super().read(size)
        # Counted before the library makes an object of each, however many the archive says there are.
        if self.reads_directory and data.count(_ENTRY) > MAX_ENTRIES:
            raise ZipRefusedError("it has more entries than allowed")
        return data


def _check_directory(file: io.BufferedReader) -> None:
    """Bound the directory before it is read whole (APPNOTE 4.3.16, 4.3.14)."""
    size = file.seek(0, io.SEEK_END)
    start = max(0, size - 65535 - _END_BYTES)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise ZipRefusedError("it is not a zip archive, or not all of one")
    count, directory_bytes = struct.unpack_from("<HI", tail, at + 10)
    locator = start + at - 20
    if locator >= 0:
        file.seek(locator)
        mark, _, end64, _ = struct.unpack("<4sIQI", file.read(20))
        if mark == _END64_LOCATOR:
            file.seek(min(end64, size))
            record = file.read(56)
            if len(record) == 56 and record[:4] == _END64:
                count, directory_bytes = struct.unpack_from("<QQ", record, 32)
    if count > MAX_ENTRIES or directory_bytes > min(MAX_DIRECTORY_BYTES, size):
        raise ZipRefusedError("its directory is larger than allowed")
    file.seek(0)


def _checked(found: list[zipfile.ZipInfo], archive_bytes: int) -> dict[str, zipfile.ZipInfo]:
    if len(found) > MAX_ENTRIES:
        raise ZipRefusedError("it has more entries than allowed")
    entries: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for entry in found:
        name = entry.orig_filename
        if entry.is_dir():
            continue
        if not is_plain(name) or "\\" in name or ":" in name.split("/", 1)[0] or name != entry.filename:
            raise ZipRefusedError("an entry's name would lead out of a folder, or is ambiguous")
        if name in entries:
            raise ZipRefusedError("two entries have one name")
        if entry.flag_bits & _ENCRYPTED:
            raise ZipRefusedError("an entry is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ZipRefusedError(
                f"an entry is packed by method {entry.compress_type}, not stored or deflated"
            )
        if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
            raise ZipRefusedError("a stored entry states two sizes")
        total += entry.file_size
        if entry.file_size > RATIO_FREE_BYTES and entry.file_size > MAX_RATIO * entry.compress_size:
            raise ZipRefusedError("an entry would unpack to far more than it is: a bomb")
        mode = entry.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            continue  # links and devices are no items, as in a folder
        entries[name] = entry
    if total > RATIO_FREE_BYTES and total > MAX_RATIO * archive_bytes:
        raise ZipRefusedError("it would unpack to far more than it is: a bomb")
    _check_apart(found, archive_bytes)
    return entries


def _check_apart(found: list[zipfile.ZipInfo], archive_bytes: int) -> None:
    """No two entries share packed bytes: that is how small archives claim to be huge."""
    end = 0
    for entry in sorted(found, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise ZipRefusedError("entries overlap: a bomb")
        end = entry.header_offset + 30 + len(entry.orig_filename) + entry.compress_size
    if end > archive_bytes:
        raise ZipRefusedError("an entry lies beyond the archive's end")
