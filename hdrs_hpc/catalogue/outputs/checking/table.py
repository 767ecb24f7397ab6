"""Tables: strict CSV in, each column of one kind, counts protected, a new CSV out.

Every column was declared before anybody saw the data.  *Count*: non-negative whole numbers.  *Statistic*: a measure.
*Axis*: a key of numbers.  *Category*: a key of words.  Every cell of a column must be exactly what its column says,
in every row, whatever the row is called: nothing is guessed from most of them.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any, BinaryIO

import numpy as np

from hdrs_hpc.catalogue.outputs.checking import (
    bounds,
    capacity,
    declared_columns,
    labels,
    numbers,
    strict_csv,
)
from hdrs_hpc.catalogue.outputs.checking.additive import CountSheet
from hdrs_hpc.catalogue.outputs.checking.contract import Checking, Neighbour
from hdrs_hpc.catalogue.outputs.checking.declared import Declared, OutputRulesError
from hdrs_hpc.catalogue.outputs.checking.declared_columns import DeclaredColumn
from hdrs_hpc.catalogue.outputs.checking.disclosure import Pattern
from hdrs_hpc.catalogue.outputs.checking.granted import CountRules, count_rules
from hdrs_hpc.catalogue.outputs.checking.identifiers import IdentifierScan
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from hdrs_hpc.catalogue.outputs.checking.refusal import (
    ArtefactRefusedError,
    Finding,
    NothingLeftError,
)
from hdrs_hpc.catalogue.outputs.checking.strict_csv import (
    MAX_COUNT_COLUMNS,
    MAX_LABEL_COLUMNS,
    MAX_STATISTICS,
    TableTooLargeError,
)
from hdrs_hpc.catalogue.outputs.checking.totals import is_total_label

MEDIA_TYPE = "text/csv; charset=utf-8; header=present"
HIDDEN = "*"

_EXTREME_NAME = re.compile(r"(?:.*[_ .-])?(?:min|max|minimum|maximum|range)(?:[_ .-].*)?", re.IGNORECASE)


class CountNotWholeError(ArtefactRefusedError):
    code = "count-not-whole"
    meaning = "A declared count holds something other than non-negative whole numbers."
    remedy = "Write plain counts, small ones too: the airlock suppresses and rounds by the grant's rule."


class MixedColumnError(ArtefactRefusedError):
    code = "mixed-column"
    meaning = "A column mixes numbers with text, so no rule of rounding would reach its numbers."
    remedy = (
        "Leave a missing number empty (not nan or n/a), quote no number, and give categories of digits a word: "
        "'grade 2'.  A row of totals has numbers where the others have numbers."
    )


class ColumnKind(StrEnum):
    COUNT = "count"
    STATISTIC = "statistic"
    AXIS = "axis"
    CATEGORY = "category"


@dataclass(frozen=True)
class Table:
    """A parsed table: ``cells`` in rows, ``kinds`` in columns."""

    name: str
    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    kinds: tuple[ColumnKind, ...]
    findings: tuple[Finding, ...]
    had_byte_order_mark: bool
    inputs: InputFacts
    columns: Mapping[str, DeclaredColumn]
    """As declared."""

    def of_kind(self, *kinds: ColumnKind) -> list[int]:
        return [column for column, kind in enumerate(self.kinds) if kind in kinds]

    def sheet(self) -> CountSheet:
        """The counts with what labels them; an axis labels like a category does."""
        counts = self.of_kind(ColumnKind.COUNT)
        labels = self.of_kind(ColumnKind.CATEGORY, ColumnKind.AXIS)
        return CountSheet(
            name=self.name,
            columns=tuple(self.header[column] for column in counts),
            words=tuple(
                str(self.columns[self.header[column]].said[declared_columns.COUNT]) for column in counts
            ),
            categories=tuple({self.header[column]: row[column] for column in labels} for row in self.cells),
            values=np.array(
                [[int(row[column]) for column in counts] for row in self.cells], dtype=np.int64
            ).reshape(len(self.cells), len(counts)),
        )

    def compare(self, neighbours: Mapping[str, Neighbour]) -> None:
        """A table explains itself."""

    def rebuild(self, rule: CountRules, pattern: Pattern | None, out: BinaryIO) -> dict[str, Any]:
        assert pattern is not None  # it has a sheet
        data, repaired = rebuild(self, pattern, rule)
        out.write(data)
        return repaired


def read(
    declared: Declared, source: BinaryIO, _seen: str, rule: CountRules, inputs: InputFacts, _out: BinaryIO
) -> Table:
    return parse(declared, source.read(), rule.digits, inputs)


def parse(declared: Declared, data: bytes, digits: int, inputs: InputFacts) -> Table:
    """The table in ``data``; raises an :class:`ArtefactRefusedError` with the reason it may not be one.

    ``digits``: how many significant ones the grant leaves to numbers that are no counts.
    """
    if not declared.counting():
        raise OutputRulesError("a table declares what it counts", where=declared.name)
    text, marked = strict_csv.decode(data)
    header, cells, quoted = _in_declared_order(declared, *strict_csv.read(text))
    findings = _search(declared, header, cells)
    kinds, more = _kinds(declared, header, cells, quoted, digits)
    cells = _as_they_leave(cells, kinds, digits)
    table = Table(
        declared.name,
        header,
        cells,
        kinds,
        (*more, *findings),
        marked,
        inputs,
        declared.by_name(),
    )
    _check_size(table)
    _check_labels(table)
    sheet = table.sheet()
    bounds.check(sheet, inputs)
    maybe = tuple(
        Finding("label-may-be-total", "a label equals the sum of others in places", f"column {column}")
        for column in sorted(sheet.summing_labels[1])
    )
    return replace(table, findings=(*table.findings, *maybe))


def rebuild(table: Table, pattern: Pattern, rules: CountRules) -> tuple[bytes, dict[str, Any]]:
    """The new CSV and what was repaired, as numbers: which cell was the small one stays unsaid."""
    counts = table.of_kind(ColumnKind.COUNT)
    statistics = table.of_kind(ColumnKind.STATISTIC)
    made = [list(row) for row in table.cells]
    rounded = hidden_statistics = 0
    kept, staying = [], []
    for index, row in enumerate(made):
        if all((index, position) in pattern.hidden for position in range(len(counts))):
            continue  # nothing is left that says whom the row is about: its labels would be a small group's
        kept.append(row)
        staying.append(index)
        for position, column in enumerate(counts):
            if (index, position) in pattern.hidden:
                row[column] = HIDDEN
            else:
                row[column] = str(rules.rounded(int(row[column])))
                rounded += row[column] != table.cells[index][column]
        exact = {table.header[column]: int(table.cells[index][column]) for column in counts}
        for column in statistics:
            said = table.columns[table.header[column]]
            if index in pattern.rows or said.tells_few(row[column], exact, rules.min_count):
                row[column] = HIDDEN  # a missing one too: one person has no deviation
                hidden_statistics += 1
            elif row[column]:
                row[column] = numbers.rounded(said.on_step(row[column]), rules.digits)
                rounded += row[column] != table.cells[index][column]
    if not kept:
        raise NothingLeftError()
    bounds.check_rows(table.sheet(), staying, rules.min_count, table.inputs)
    # Always: the order of rows could hold a number that is hidden, or one that was written by ordering.
    ordered = sorted(kept, key=lambda row: _neutral_order(table, row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.header)
    writer.writerows(ordered)
    repaired = {
        "counts-suppressed-as-small": len(pattern.primary),
        "counts-suppressed-to-protect-them": len(pattern.secondary),
        "statistics-suppressed": hidden_statistics,
        "rows-removed": len(made) - len(kept),
        "numbers-rounded": rounded,
        "rows-reordered": ordered != kept,
        "byte-order-mark-removed": table.had_byte_order_mark,
        "capacity-bits": _capacity(table, kept, rules),
    }
    return out.getvalue().encode("utf-8"), repaired


def _in_declared_order(
    declared: Declared, header: tuple[str, ...], cells: tuple[tuple[str, ...], ...], quoted: frozenset[int]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], frozenset[int]]:
    """Columns as the spec orders them: an order that the workload chose could hold a number."""
    names = tuple(column.name for column in declared.columns)
    if set(header) != set(names):
        raise declared_columns.ColumnsDifferError(where="line 1")
    places = [header.index(name) for name in names]
    moved = tuple(tuple(row[place] for place in places) for row in cells)
    return names, moved, frozenset(at for at, place in enumerate(places) if place in quoted)


def _kinds(
    declared: Declared,
    header: tuple[str, ...],
    cells: tuple[tuple[str, ...], ...],
    quoted: frozenset[int],
    digits: int,
) -> tuple[tuple[ColumnKind, ...], list[Finding]]:
    """Each column as it was declared, once every cell is what the declaration says."""
    by_name = declared.by_name()
    kinds: list[ColumnKind] = []
    findings: list[Finding] = []
    for position, name in enumerate(header):
        said, where = by_name[name], f"column {name}"
        values = [row[position] for row in cells]
        if said.kind == declared_columns.COUNT and (
            position in quoted or not all(map(numbers.is_count, values))
        ):
            raise CountNotWholeError(where=where)
        if said.kind == declared_columns.MEASURE and position in quoted:
            raise MixedColumnError(where=where)
        said.check(values, where)
        if said.kind == declared_columns.COUNT:
            kinds.append(ColumnKind.COUNT)
        elif said.kind == declared_columns.KEY:
            numeric = all(map(numbers.is_number, values))
            kinds.append(ColumnKind.AXIS if numeric else ColumnKind.CATEGORY)
        else:
            kinds.append(ColumnKind.STATISTIC)
            findings += _look_at_measure(name, [value for value in values if value], digits)
    return tuple(kinds), findings


def _look_at_measure(name: str, filled: Sequence[str], digits: int) -> Iterator[Finding]:
    where = f"column {name}"
    # By what would be released: counts written as 3.0 are counts.
    if numbers.whole_once_rounded([value.removeprefix("-") for value in filled], digits):
        yield Finding("whole-numbers-not-counts", "whole numbers that were declared as a measure", where)
    if _EXTREME_NAME.fullmatch(name):
        yield Finding("extreme-values", "a minimum or maximum is one person's value", where)


def _search(declared: Declared, header: tuple[str, ...], cells: tuple[tuple[str, ...], ...]) -> list[Finding]:
    """Look for identifiers in every cell, of counts as well."""
    scan = IdentifierScan()
    scan.look_at_names(header, "the header")
    counting = declared.counting()
    for column, name in enumerate(header):
        if name in counting:
            scan.look_at_counts((row[column] for row in cells), f"column {name}")
        else:
            scan.look((row[column] for row in cells), f"column {name}")
    return scan.conclude()


def _check_size(table: Table) -> None:
    statistics = table.of_kind(ColumnKind.STATISTIC)
    filled = sum(bool(row[column]) for row in table.cells for column in statistics)
    text = sum(
        len(label)
        for column in table.of_kind(ColumnKind.CATEGORY)
        for label in {row[column] for row in table.cells}
    )
    for found, most, what in (
        (len(table.of_kind(ColumnKind.COUNT)), MAX_COUNT_COLUMNS, "columns of counts"),
        (len(table.of_kind(ColumnKind.CATEGORY, ColumnKind.AXIS)), MAX_LABEL_COLUMNS, "columns of labels"),
        (filled, MAX_STATISTICS, "numbers that are no counts"),
        (text, labels.MAX_LABEL_TEXT, "characters in different labels"),
    ):
        if found > most:
            raise TableTooLargeError(f"{found} {what} where {most} are allowed")


def _as_they_leave(
    cells: tuple[tuple[str, ...], ...], kinds: Sequence[ColumnKind], digits: int
) -> tuple[tuple[str, ...], ...]:
    """Numbers that label rows are rounded first: rules that saw 2019 and 2019.0 would see two groups."""
    return tuple(
        tuple(
            numbers.rounded(cell, digits) if kind is ColumnKind.AXIS else cell
            for kind, cell in zip(kinds, row, strict=True)
        )
        for row in cells
    )


def _check_labels(table: Table) -> None:
    """Every label plain, and no two rows alike."""
    for column in table.of_kind(ColumnKind.CATEGORY):
        labels.check_column((row[column] for row in table.cells), f"column {table.header[column]}")
    telling = table.of_kind(ColumnKind.CATEGORY, ColumnKind.AXIS)
    labels.check_rows([tuple(row[column] for column in telling) for row in table.cells])


def _capacity(table: Table, kept: Sequence[Sequence[str]], rules: CountRules) -> int:
    """How many bits the new table can carry at most, see :mod:`hdrs_hpc.catalogue.outputs.checking.capacity`."""
    columns = [
        capacity.Column(
            kind=str(kind),
            said=table.columns[table.header[column]],
            values=tuple(row[column] for row in kept),
        )
        for column, kind in enumerate(table.kinds)
    ]
    return capacity.table_bits(columns, rules, table.inputs)


def _neutral_order(table: Table, row: Sequence[str]) -> tuple[Any, ...]:
    """By what labels the rows, totals last, numbers inside texts as numbers; then by what is shown."""
    labels = table.of_kind(ColumnKind.CATEGORY, ColumnKind.AXIS)
    keys = [(is_total_label(row[column]), _natural(row[column])) for column in labels]
    return (*keys, [_natural(cell) for cell in row], tuple(row))


def _natural(text: str) -> tuple[tuple[int, Decimal, str], ...]:
    parts = re.split(r"([0-9]+(?:\.[0-9]+)?)", text.casefold())
    return tuple(
        (0, Decimal(part), "") if index % 2 else (1, Decimal(0), part)
        for index, part in enumerate(parts)
        if part
    )


CHECKING = Checking(MEDIA_TYPE, lambda granted: count_rules(granted, "table"), read)
