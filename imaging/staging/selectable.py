"""What jobs may select the items of a copy by, as the archive says it: a table that stays in the data zone.

The copy's index can't serve: its dates are moved, its makers and body parts are reduced to lists of words, and a
profile may keep none of them.  The stager therefore notes the raw values of each item, and seals them under the
copy's key in the broker's home, where they die with the copy.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from imaging.staging.selection import RAW_KEYWORDS, Selection

type RawValues = dict[str, str]
"""Keyword → value, of one source item."""

_SCHEMA = pa.schema(
    [
        ("item", pa.string()),
        ("kind", pa.string()),
        ("patient", pa.string()),
        ("source_items", pa.int64()),
        ("values", pa.string()),
    ],
    metadata={"schema": "hdrs-hpc/selectable/1"},
)


@dataclass(frozen=True, slots=True)
class Selectable:
    """One item.  ``kind`` and ``patient`` as in the index; ``values``: what its source items say, each once."""

    item: str
    kind: str
    patient: str | None
    source_items: int
    values: list[RawValues]


def raw_values(attributes: Iterable[Mapping[str, Any]]) -> list[RawValues]:
    """The different values of some source items, in a stable order."""
    found = {
        tuple(sorted((k, str(v)) for k, v in one.items() if k in RAW_KEYWORDS and isinstance(v, str | int)))
        for one in attributes
    }
    return [dict(pairs) for pairs in sorted(found)]


def to_bytes(items: Iterable[Selectable]) -> bytes:
    """The table as a Parquet file, sorted by item."""
    ordered = sorted(items, key=lambda one: one.item)
    table = pa.table(
        {
            "item": [one.item for one in ordered],
            "kind": [one.kind for one in ordered],
            "patient": [one.patient for one in ordered],
            "source_items": [one.source_items for one in ordered],
            "values": [json.dumps(one.values, sort_keys=True) for one in ordered],
        },
        schema=_SCHEMA,
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def from_bytes(raw: bytes) -> list[Selectable]:
    """What :func:`to_bytes` wrote."""
    table = pq.ParquetFile(io.BytesIO(raw)).read(use_threads=False)
    columns = [table.column(name).to_pylist() for name in ("item", "kind", "patient", "source_items")]
    values = map(functools.lru_cache(4096)(json.loads), table.column("values").to_pylist())
    return [
        Selectable(item, kind, patient, count, found)
        for (item, kind, patient, count), found in zip(zip(*columns, strict=True), values, strict=True)
    ]


def chosen(items: Iterable[Selectable], selection: Selection) -> list[Selectable]:
    """The items of which **every** source item is selected: in doubt one stays out, as in staging."""
    judged: dict[str, bool] = {}

    def holds(values: list[RawValues]) -> bool:
        key = json.dumps(values, sort_keys=True)
        if key not in judged:
            judged[key] = bool(values) and all(map(selection.holds, values))
        return judged[key]

    return [one for one in items if holds(one.values)]
