"""What a dataset holds: the table whose digest is the dataset's version.

Columns: ``path`` (string, inside the source), ``size`` (int64, bytes), ``sha256`` (string, 64 hex).
The row number, counted from 1, is the *item number* by which reports name an item; a path is never printed,
since archives put names and dates into theirs.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.sources import OF_ONE_ITEM, Source, SourceItem
from connectors.sources.parallel import in_order
from hdrs_hpc.core.errors import BadDocumentError, HdrsError

SCHEMA = pa.schema([("path", pa.string()), ("size", pa.int64()), ("sha256", pa.string())])
_HEADER = b"hdrs-hpc/inventory/1\n"
_BLOCK = 1 << 20
SCAN_THREADS = 8
"""Items read side by side: over a network it is the waiting that takes the time."""


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
    paths: list[str] = []
    sizes: list[int] = []
    digests: list[str] = []
    total = 0

    def measure(item: SourceItem) -> tuple[str, int, str] | HdrsError:
        try:
            return (item.path, *_measure(source, item.path))
        except OF_ONE_ITEM as error:
            if unreadable is None:
                raise
            return error

    for measured in in_order(measure, source.items(), SCAN_THREADS):
        if isinstance(measured, HdrsError):
            if unreadable is not None:
                unreadable(measured.code)
            continue
        path, size, digest = measured
        paths.append(path)
        sizes.append(size)
        digests.append(digest)
        total += size
        if progress is not None:
            progress(len(paths), total)
    return pa.table({"path": paths, "size": sizes, "sha256": digests}, schema=SCHEMA)


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
        table = pq.read_table(path, columns=["path", "size", "sha256"])
    except (pa.ArrowException, OSError, KeyError):
        raise BadInventoryError("the file can't be read as Parquet with these columns") from None
    table = table.replace_schema_metadata(None)
    check(table)
    return table


def _measure(source: Source, path: str) -> tuple[int, str]:
    running = hashlib.sha256()
    size = 0
    with source.open(path) as handle:
        while block := handle.read(_BLOCK):
            running.update(block)
            size += len(block)
    return size, running.hexdigest()
