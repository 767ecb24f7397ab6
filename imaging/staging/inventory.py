"""What a dataset holds: the table whose digest is the dataset's version.

Columns: ``path`` (string, inside the source), ``size`` (int64, bytes), ``sha256`` (string, 64 hex).
The row number, counted from 1, is the *item number* by which reports name an item; a path is never printed,
since archives put names and dates into theirs.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import batched, chain
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.sources import OF_ONE_ITEM, Source, SourceItem
from connectors.sources.parallel import in_order
from hdrs_hpc.core.errors import BadDocumentError
from imaging.staging.signatures import Signature, Signatures, signature

SCHEMA = pa.schema([("path", pa.string()), ("size", pa.int64()), ("sha256", pa.string())])
_HEADER = b"hdrs-hpc/inventory/1\n"
_BLOCK = 1 << 20
SCAN_THREADS = 8
"""Items read side by side: over a network it is the waiting that takes the time."""
_TOGETHER = 16
"""Files of a folder that are one piece of work: handing out small ones one by one would take as long as hashing."""
_ELSEWHERE: Signature = (0, 0, 0, 0, 0)


class BadInventoryError(BadDocumentError):
    code = "bad-inventory"
    meaning = (
        "The inventory of a dataset is not a table of path, size and sha256, sorted and without repeats."
    )
    remedy = "Make it anew with `hdrs-hpc dataset scan`."


def scan(
    source: Source,
    progress: Callable[[int, int], None] | None = None,
    unreadable: Callable[[str], None] | None = None,
) -> pa.Table:
    """List and hash every item of ``source``; memory is the table itself.

    ``progress`` gets (items, bytes) so far.  An item that the source lists but can't give stays out of the
    dataset and is told to ``unreadable`` by its reason code; without ``unreadable`` it ends the scan.  Raises
    what the source raises.
    """
    return look(source, progress, unreadable)[0]


def look(
    source: Source,
    progress: Callable[[int, int], None] | None = None,
    unreadable: Callable[[str], None] | None = None,
    missed: Callable[[str, str], None] | None = None,
) -> tuple[pa.Table, Signatures]:
    """:func:`scan`, and the files as they were then, for who goes on with them in this process.  ``missed`` gets path
    and code of what ``unreadable`` is told of.

    Nothing is told of what lies elsewhere and came as a spooled copy.
    """
    paths: list[str] = []
    sizes: list[int] = []
    digests: list[str] = []
    files: list[Signature] = []
    total = 0

    def measure(items: Sequence[SourceItem]) -> list[_Measured | _Missed]:
        found: list[_Measured | _Missed] = []
        for item in items:
            try:
                found.append(_measure(source, item.path))
            except OF_ONE_ITEM as error:
                if unreadable is None:
                    raise
                found.append(_Missed(item.path, error.code))
        return found

    items = source.items()
    first = next(items, None)
    local = first is not None and source.local_path(first.path) is not None
    threads, together = (len(os.sched_getaffinity(0)), _TOGETHER) if local else (SCAN_THREADS, 1)
    every = [] if first is None else [first]
    for some in in_order(measure, batched(chain(every, items), together), threads):
        for measured in some:
            if isinstance(measured, _Missed):
                if unreadable is not None:
                    unreadable(measured.code)
                if missed is not None:
                    missed(measured.path, measured.code)
                continue
            paths.append(measured.path)
            sizes.append(measured.size)
            digests.append(measured.sha256)
            files.append(measured.file if local else _ELSEWHERE)
            total += measured.size
            if progress is not None:
                progress(len(paths), total)
    seen = Signatures(len(files))
    for number, file in enumerate(files, start=1):
        seen.note(number, file)
    return pa.table({"path": paths, "size": sizes, "sha256": digests}, schema=SCHEMA), seen


def digest(table: pa.Table) -> str:
    """The version of the dataset: over the rows, not over the Parquet file, whose bytes vary with its writer.

    SHA-256 of a fixed header and, per row, length-prefixed path, size (u64 big-endian) and raw checksum.
    """
    check(table)
    running = hashlib.sha256(_HEADER)
    for batch in table.to_batches(max_chunksize=65536):
        for path, size, checksum in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            raw = path.encode("utf-8")
            running.update(struct.pack(">I", len(raw)) + raw + struct.pack(">Q", size))
            running.update(bytes.fromhex(checksum))
    return f"sha256:{running.hexdigest()}"


def check(table: pa.Table) -> None:
    """Refuse a table that :func:`scan` can't have made; raises :class:`BadInventoryError`."""
    if not table.schema.equals(SCHEMA):
        raise BadInventoryError("other columns or types than path, size, sha256")
    previous = b""
    for number, (path, size, checksum) in enumerate(
        zip(*(column.to_pylist() for column in table.columns), strict=True), start=1
    ):
        where = f"row {number}"
        if path is None or size is None or checksum is None:
            raise BadInventoryError("an empty cell", where=where)
        if size < 0 or len(checksum) != 64 or not set(checksum) <= set("0123456789abcdef"):
            raise BadInventoryError("a size or checksum that can't be", where=where)
        raw = path.encode("utf-8")
        if raw <= previous:
            raise BadInventoryError("rows out of order, repeated, or without a path", where=where)
        previous = raw


def write(table: pa.Table, path: Path) -> None:
    """Write a checked table as Parquet."""
    check(table)
    pq.write_table(table, path, compression="zstd")


def read(path: Path) -> pa.Table:
    """Read what :func:`write` wrote; raises :class:`BadInventoryError`."""
    try:
        # Without threads of Arrow's: one that still starts when the process ends aborts it.
        table = pq.ParquetFile(path).read(columns=["path", "size", "sha256"], use_threads=False)
    except (pa.ArrowException, OSError, KeyError):
        raise BadInventoryError("the file can't be read as Parquet with these columns") from None
    table = table.replace_schema_metadata(None)
    check(table)
    return table


@dataclass(frozen=True, slots=True)
class _Measured:
    path: str
    size: int
    sha256: str
    file: Signature


@dataclass(frozen=True, slots=True)
class _Missed:
    """What the source lists and can't give."""

    path: str
    code: str


def _measure(source: Source, path: str) -> _Measured:
    running = hashlib.sha256()
    size = 0
    with source.open(path) as handle:
        file = _signature(handle)
        while block := handle.read(_BLOCK):
            running.update(block)
            size += len(block)
        if _signature(handle) != file:
            file = _ELSEWHERE  # written to meanwhile
    return _Measured(path, size, running.hexdigest(), file)


def _signature(handle: BinaryIO) -> Signature:
    try:
        return signature(handle.fileno())
    except OSError:
        return _ELSEWHERE  # a file that the kernel does not know
