"""Strict CSV: UTF-8, commas, one header, plain cells in rows of one length; whatever else it is, is refused."""

from __future__ import annotations

import csv
import re
import unicodedata

from hdrs_hpc.catalogue.outputs.checking import labels, numbers
from hdrs_hpc.catalogue.outputs.checking.refusal import ArtefactRefusedError

MAX_ROWS = 5_000
MAX_COLUMNS = 100
MAX_CELL_CHARACTERS = 256
MAX_COUNT_COLUMNS = 8
MAX_LABEL_COLUMNS = 5
MAX_STATISTICS = 2_000
"""Cells of numbers that are neither counts nor labels: a summary has few, a trained model has millions."""
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9_ .%()/\[\]-]{0,63}", re.ASCII)
_RAW_CELL = re.compile(r'(?:"(?:[^"]|"")*"|[^",]*)(?:,|\Z)')


class MalformedTableError(ArtefactRefusedError):
    code = "malformed-table"
    meaning = "The table is not strict CSV: UTF-8, commas, one header, the same number of cells in each row."
    remedy = "Write it with a plain CSV writer and a named header for every column (pandas: index=False)."


class TableTooLargeError(ArtefactRefusedError):
    code = "table-too-large"
    meaning = "The table has more rows, columns, numbers or text than a summary needs."
    remedy = (
        f"At most {MAX_ROWS} rows, {MAX_COLUMNS} columns ({MAX_COUNT_COLUMNS} of counts, {MAX_LABEL_COLUMNS} of "
        f"labels), {MAX_CELL_CHARACTERS} characters in a cell, {labels.MAX_LABEL_TEXT} in all different labels, "
        f"{MAX_STATISTICS} numbers that are no counts."
    )


class FormulaError(ArtefactRefusedError):
    code = "formula-in-table"
    meaning = "A cell begins like a spreadsheet formula, which would run when a reviewer opens the table."
    remedy = "Let no text begin with = + - @ or white space; negative numbers are fine."


def decode(data: bytes) -> tuple[str, bool]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedTableError("not UTF-8", where=f"byte {error.start}") from None
    marked = text.startswith("\ufeff")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    for line, part in enumerate(text.split("\n"), start=1):
        if not part.isprintable():  # NUL, lone CR, bidirectional overrides, zero-width characters …
            raise MalformedTableError("an invisible or control character", where=f"line {line}")
    return text, marked


def read(text: str) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], frozenset[int]]:
    """Header, cells, and the columns with a cell below the header in quotes: those are texts, whatever they hold."""
    rows: list[tuple[str, ...]] = []
    quoted: set[int] = set()
    # Each line by itself: quoted line breaks are refused, and with them rows that hide in a cell.
    for line, part in enumerate(text.removesuffix("\n").split("\n"), start=1):
        if line > MAX_ROWS + 1:
            raise TableTooLargeError(f"more than {MAX_ROWS} rows")
        if len(part) > MAX_COLUMNS * (MAX_CELL_CHARACTERS + 3):
            raise TableTooLargeError("a line is too long", where=f"line {line}")
        row = _read_line(part, line)
        if rows and len(row) != len(rows[0]):
            raise MalformedTableError(
                f"{len(row)} cells where the header has {len(rows[0])}", where=f"line {line}"
            )
        if rows and '"' in part:
            quoted.update(at for at, raw in enumerate(_RAW_CELL.findall(part)) if raw.startswith('"'))
        rows.append(row)
    header, *body = rows
    if len(header) > MAX_COLUMNS:
        raise TableTooLargeError(f"{len(header)} columns where {MAX_COLUMNS} are allowed")
    for position, name in enumerate(header, start=1):
        if not _HEADER.fullmatch(name):
            raise MalformedTableError(
                "a header must begin with a letter and be short", where=f"column {position}"
            )
    if len({name.casefold() for name in header}) != len(header):
        raise MalformedTableError("two columns have the same name", where="line 1")
    if not body:
        raise MalformedTableError("there are no rows below the header")
    return header, tuple(body), frozenset(quoted)


def _read_line(part: str, line: int) -> tuple[str, ...]:
    try:
        read = list(csv.reader([part], strict=True))
    except csv.Error:
        raise MalformedTableError("quotes that do not match", where=f"line {line}") from None
    row = tuple(read[0]) if read else ()
    if not row:
        raise MalformedTableError("an empty line", where=f"line {line}")
    for position, cell in enumerate(row, start=1):
        where = f"line {line}, column {position}"
        if len(cell) > MAX_CELL_CHARACTERS:
            raise TableTooLargeError(f"more than {MAX_CELL_CHARACTERS} characters", where=where)
        # Spreadsheets trim, and read the full-width forms as well.
        first = unicodedata.normalize("NFKC", cell[:1])
        if (first in ("=", "+", "-", "@") or cell[:1].isspace()) and not numbers.is_number(cell):
            raise FormulaError(where=where)
    return row
