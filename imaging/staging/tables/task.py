"""A table to be written: which identifiers it holds, then its rows without them.

The key stays in the stager: a first step tells the distinct identifiers, the stager makes pseudonyms and date
shifts of them, and the rows are then rewritten by whoever makes the parts.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from zarr.abc.store import Store

from imaging.deid.profiles import Profile
from imaging.layout import TABLE_SCHEMA, table_path
from imaging.staging import answers
from imaging.staging.admission import Rules
from imaging.staging.items import Bench, Expected, Made, Part, Told
from imaging.staging.refusals import Refused
from imaging.staging.selectable import RawValues
from imaging.staging.tables.columns import KEYED, Column
from imaging.staging.tables.headers import BATCH_ROWS, TableHeader

SHARD_ROWS = 16 * BATCH_ROWS
"""Rows of one object: a million and a few."""


@dataclass(frozen=True, slots=True)
class Identifiers:
    """Tells the distinct raw identifiers of some rows: to the stager's memory only, where pseudonyms are made."""

    number: int
    columns: tuple[str, ...]
    rows: tuple[int, int]
    path: str = ""
    inputs: tuple[str, ...] = ()
    share: float = 0.0

    def make(self, bench: Bench, inputs: Mapping[str, bytes]) -> Made:
        seen: list[dict[str, None]] = [{} for _ in self.columns]
        for batch in batches(bench, self.number, self.columns, self.rows):
            for found, values in zip(seen, batch, strict=True):
                found.update(dict.fromkeys(value.strip() for value in values if value and value.strip()))
        return Made(b"", {"identifiers": [list(found) for found in seen]})


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of the table as one Parquet object, pseudonymised by the tables of pseudonyms given."""

    path: str
    number: int
    columns: tuple[Column, ...]
    rows: tuple[int, int]
    keyed: tuple[Mapping[str, str], ...]
    """For each column, raw identifier → pseudonym; empty where the column has none."""
    shifts: Mapping[str, int]
    """Raw patient id → days."""
    left_out: Mapping[str, str]
    """Raw patient id → ``opted-out`` or ``not-in-cohort``."""
    share: float
    inputs: tuple[str, ...] = ()

    def make(self, bench: Bench, inputs: Mapping[str, bytes]) -> Made:
        names = tuple(column.name for column in self.columns)
        patient = next(place for place, column in enumerate(self.columns) if column.rule == "patient-id")
        told = {"rows": 0, "opted-out": 0, "not-in-cohort": 0, "not-selected": 0, "without-patient": 0}
        out: list[list[Any]] = [[] for _ in self.columns]
        for batch in batches(bench, self.number, names, self.rows):
            for row in zip(*batch, strict=True):
                raw = (row[patient] or "").strip()
                if raw in self.left_out:
                    told[self.left_out[raw]] += 1
                elif not raw:
                    told["without-patient"] += 1
                elif not all(one.keeps(cell) for one, cell in zip(self.columns, row, strict=True)):
                    told["not-selected"] += 1
                else:
                    told["rows"] += 1
                    shift = self.shifts[raw]
                    for cells, one, cell, keyed in zip(out, self.columns, row, self.keyed, strict=True):
                        cells.append(one.value(cell, shift, keyed))
        schema = table_schema(self.columns)
        table = pa.table(
            [pa.array(cells, one.type) for cells, one in zip(out, self.columns, strict=True)], schema
        )
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        return Made(sink.getvalue(), told)


@dataclass(frozen=True, slots=True)
class TableTask:
    """A table with what may be said of it."""

    item: str
    number: int
    header: TableHeader
    columns: tuple[Column, ...]
    rules: Rules

    @property
    def path(self) -> str:
        return table_path(self.item)

    @property
    def profile(self) -> Profile:
        return self.rules.profile

    def numbers(self) -> list[int]:
        return [self.number]

    def selectable(self) -> list[RawValues]:
        """Nothing: a table is no image, and its rows follow the patients of the images."""
        return []

    def fingerprint(self, digest: Callable[[int], str]) -> str:
        said = [
            [one.name, one.rule, sorted(one.values), one.only, str(one.within), one.issuer]
            for one in self.columns
        ]
        # Rows are chosen by these lists, not only the whole item.
        lists = [sorted(self.rules.opt_out), None if self.rules.cohort is None else sorted(self.rules.cohort)]
        running = hashlib.sha256(json.dumps([self.profile.name, said, lists]).encode())
        running.update(digest(self.number).encode())
        return running.hexdigest()

    def expected(self, source_bytes: int) -> Expected:
        # Listed columns alone go in, as compressed Parquet; all rows are taken to be kept.
        share = len(self.columns) / max(1, len(self.header.columns))
        objects = -(-self.header.rows // SHARD_ROWS) + 2
        size = round(source_bytes * share / 2) + 2048 * objects
        return Expected(size, source_bytes + 4096 * objects, objects, "source × columns kept ÷ 2")

    def notes(self, told: Sequence[Told]) -> list[str]:
        return ["table-rows-without-patient"] if _total(told, "without-patient") else []

    def steps(self, told: Sequence[Told]) -> Iterator[Sequence[Part]]:
        keyed = tuple(column for column in self.columns if column.rule in KEYED)
        spans = [
            (first, min(first + SHARD_ROWS, self.header.rows))
            for first in range(0, self.header.rows, SHARD_ROWS)
        ]
        yield [Identifiers(self.number, tuple(one.name for one in keyed), span) for span in spans]
        found: dict[str, dict[str, str]] = {column.name: {} for column in self.columns}
        shifts: dict[str, int] = {}
        left_out: dict[str, str] = {}
        for answer in told:
            for column, values in zip(keyed, answer["identifiers"], strict=True):
                for raw in values:
                    if column.rule != "patient-id":
                        found[column.name][raw] = self._pseudonym(column, raw)
                    elif self.rules.opted_out(column.issuer, raw):
                        left_out[raw] = "opted-out"
                    elif not self.rules.wanted(column.issuer, raw):
                        left_out[raw] = "not-in-cohort"
                    else:
                        pseudonym = self.rules.pseudonym(column.issuer, raw, "")
                        found[column.name][raw] = pseudonym
                        shifts[raw] = self.rules.key.shift_days(pseudonym)
        tables = tuple(found[column.name] for column in self.columns)
        yield [
            Rows(
                f"{self.path}/{place}.parquet",
                self.number,
                self.columns,
                span,
                tables,
                shifts,
                left_out,
                1 / len(spans),
            )
            for place, span in enumerate(spans)
        ]
        yield [Described(f"{self.path}/table.json", self._description(told))]

    def begin(self, store: Store, told: Sequence[Told]) -> None:
        """Nothing: a table is no array."""

    def row(self, told: Sequence[Told]) -> Mapping[str, Any]:
        rows = _total(told, "rows")
        return {
            "item": self.path,
            "kind": "table",
            "axes": "",
            "shape": [rows, len(self.columns)],
            "source_items": 1,
        }

    def _pseudonym(self, column: Column, raw: str) -> str:
        if column.rule == "uid":
            return self.rules.key.uid(raw)
        return "K" + self.rules.key.item("column", column.name, raw).upper()

    def _description(self, told: Sequence[Told]) -> bytes:
        columns = [{"name": one.label, "rule": one.rule, "type": str(one.type)} for one in self.columns]
        described = {
            "schema": TABLE_SCHEMA,
            "rows": _total(told, "rows"),
            "not-selected": _total(told, "not-selected"),
            "columns": columns,
            "deidentification": self.profile.stamp(),
        }
        return json.dumps(described, sort_keys=True).encode()


@dataclass(frozen=True, slots=True)
class Described:
    """``table.json``: the columns and how each was made."""

    path: str
    data: bytes
    inputs: tuple[str, ...] = ()
    share: float = 0.0

    def make(self, bench: Bench, inputs: Mapping[str, bytes]) -> Made:
        return Made(self.data)


def table_schema(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of a staged table."""
    return pa.schema([pa.field(column.label, column.type) for column in columns])


def batches(
    bench: Bench, number: int, columns: tuple[str, ...], rows: tuple[int, int]
) -> Iterator[list[list[str | None]]]:
    """Raw cells of ``columns`` as text, column by column, some rows at a time; raises :class:`Refused`."""
    expected = rows[1] - rows[0]
    for _, blob in bench.reader.ask(number, "rows", columns=list(columns), rows=list(rows)):
        try:
            cells = json.loads(blob)
            counts = {len(column) for column in cells}
            sound = len(cells) == len(columns) and len(counts) == 1
        except answers.LIES:
            raise Refused("parser-crashed") from None
        if not sound or not all(
            value is None or answers.is_text(value) for column in cells for value in column
        ):
            raise Refused("parser-crashed")
        rows_here = counts.pop()
        expected -= rows_here
        if not rows_here or expected < 0:
            raise Refused("parser-crashed")  # none, or more than asked for, could go on for ever
        yield cells
    if expected:
        raise Refused("malformed-table")


def _total(told: Sequence[Told], what: str) -> int:
    return sum(answer.get(what, 0) for answer in told)
