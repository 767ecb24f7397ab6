"""Table files: CSV (RFC 4180, UTF-8) and Parquet, read column by column as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.tables.headers import BATCH_ROWS, MAX_COLUMNS, MAX_ROWS, TableHeader

_MALFORMED = (pa.ArrowException, ValueError, TypeError, KeyError, OSError, OverflowError, UnicodeError)
_BLOCK_BYTES = 8 << 20
_MAX_CELL = 64 << 10


def is_parquet(start: bytes) -> bool:
    """Whether a file that begins so is Parquet."""
    return start[:4] == b"PAR1"


def is_csv(start: bytes) -> bool:
    """Whether a file that begins so may be CSV: UTF-8 text without control characters, and a delimiter."""
    try:
        text = start.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The last character of what was read may be cut in two.
        if error.start < len(start) - 3:
            return False
        text = start[: error.start].decode("utf-8-sig")
    # Only the first column may be without a name, as an index often is: "Dear Sir," begins a letter.
    names = text.split("\n", 1)[0].strip("\r").split(",")
    named = len(names) > 1 and all(map(str.strip, names[1:]))
    return named and all(character.isprintable() or character in "\r\n\t" for character in text)


def read_header(file: BinaryIO) -> TableHeader:
    """Column names and number of rows; raises :class:`Unreadable`."""
    start = file.read(4)
    file.seek(0)
    try:
        if is_parquet(start):
            meta = pq.ParquetFile(file)
            names, rows, kind = meta.schema_arrow.names, meta.metadata.num_rows, "parquet"
        else:
            with _csv(file) as reader:
                names, kind = reader.schema.names, "csv"
                rows = sum(batch.num_rows for batch in reader)
    except _MALFORMED:
        raise Unreadable("malformed-table") from None
    if not names or len(names) > MAX_COLUMNS or rows > MAX_ROWS or any(len(name) > 1024 for name in names):
        raise Unreadable("too-large")
    return TableHeader(format="parquet" if kind == "parquet" else "csv", columns=tuple(names), rows=rows)


def read_rows(
    file: BinaryIO, columns: Sequence[str], rows: Sequence[int]
) -> Iterator[list[list[str | None]]]:
    """Cells of ``columns`` in rows ``rows[0]:rows[1]`` as text, at most :data:`BATCH_ROWS` rows at a time.

    Dates and numbers of Parquet are written as ISO 8601 and decimal.  Raises :class:`Unreadable`.
    """
    first, last = rows
    at = 0
    try:
        for batch in _batches(file, list(columns)):
            if at >= last:
                break
            start, stop = max(first - at, 0), min(last - at, batch.num_rows)
            at += batch.num_rows
            if start < stop:
                part = batch.slice(start, stop - start)
                yield [_texts(part.column(name)) for name in columns]
    except _MALFORMED:
        raise Unreadable("malformed-table") from None


def _batches(file: BinaryIO, columns: list[str]) -> Iterator[Any]:
    start = file.read(4)
    file.seek(0)
    if is_parquet(start):
        yield from pq.ParquetFile(file).iter_batches(
            batch_size=BATCH_ROWS, columns=columns, use_threads=False
        )
        return
    with _csv(file, columns) as reader:
        for batch in reader:
            for at in range(0, batch.num_rows, BATCH_ROWS):
                yield batch.slice(at, BATCH_ROWS)


def _csv(file: BinaryIO, columns: list[str] | None = None) -> Any:
    """A streaming reader; every column is text, so that nothing is guessed (an id keeps its leading zeros)."""
    names = pyarrow.csv.open_csv(
        pa.PythonFile(file, mode="r"),
        pyarrow.csv.ReadOptions(use_threads=False, block_size=1 << 20),
    ).schema.names
    file.seek(0)
    return pyarrow.csv.open_csv(
        pa.PythonFile(file, mode="r"),
        pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
        pyarrow.csv.ParseOptions(newlines_in_values=True),
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=columns or [],
            strings_can_be_null=True,
            null_values=[""],
        ),
    )


def _texts(column: Any) -> list[str | None]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_timestamp(kind):
        column = pc.strftime(column, format="%Y-%m-%d")
    elif pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise Unreadable("malformed-table")
    values: list[str | None] = column.cast(pa.string()).to_pylist()
    if any(value is not None and len(value) > _MAX_CELL for value in values):
        raise Unreadable("too-large")
    return values
