"""What a dataset holds: the table whose digest is the dataset's version.

Columns: ``path`` (string, inside the source), ``size`` (int64, bytes), ``sha256`` (string, 64 hex).
The row number, counted from 1, is the *item number* by which reports name an item; a path is never printed,
since archives put names and dates into theirs.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.sources import Source
from hdrs_hpc.core.errors import BadDocumentError

SCHEMA = pa.schema([("path", pa.string()), ("size", pa.int64()), ("sha256", pa.string())])
_HEADER = b"hdrs-hpc/inventory/1\n"
_BLOCK = 1 << 20


class BadInventoryError(BadDocumentError):
    code = "bad-inventory"
    meaning = (
        "The inventory of a dataset is not a table of path, size and sha256, sorted and without repeats."
    )
    remedy = "Make it anew with `hdrs-hpc dataset scan`."


def scan(source: Source, progress: Callable[[int, int], None] | None = None, *, threads: int = 4) -> pa.Table:
    """List and hash every item of ``source``, ``threads`` at once; memory is the table itself.

    ``progress`` gets (items, bytes) so far.  Raises what the source raises.
    """
    paths: list[str] = []
    sizes: list[int] = []
    digests: list[str] = []
    total = 0
    for path, size, digest in _measured(source, threads):
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


def _measured(source: Source, threads: int) -> Iterator[tuple[str, int, str]]:
    """(path, size, digest) in the source's order."""
    under_way: deque[tuple[str, Future[tuple[int, str]]]] = deque()
    with ThreadPoolExecutor(threads, "scan") as pool:
        try:
            for item in source.items():
                under_way.append((item.path, pool.submit(_measure, source, item.path)))
                if len(under_way) > 4 * threads:
                    path, future = under_way.popleft()
                    yield (path, *future.result())
            while under_way:
                path, future = under_way.popleft()
                yield (path, *future.result())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _measure(source: Source, path: str) -> tuple[int, str]:
    running = hashlib.sha256()
    size = 0
    with source.open(path) as handle:
        while block := handle.read(_BLOCK):
            running.update(block)
            size += len(block)
    return size, running.hexdigest()
