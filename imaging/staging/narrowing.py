"""The index and the linked tables of a copy for one job: nothing but what its selection chose.  Pure."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Set
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imaging.staging import index
from imaging.staging.tables.columns import PATIENT


def narrow_index(raw: bytes, items: Set[str], table_rows: Mapping[str, int]) -> bytes:
    """``index.parquet`` with the rows of ``items`` only.

    ``table_rows``: how many rows each narrowed table has now.  What an item that stays out is aligned to is not said.
    """
    rows = [row for row in index.from_bytes(raw).to_pylist() if row["item"] in items]
    for row in rows:
        if row["item"] in table_rows:
            row["shape"] = [table_rows[row["item"]], *row["shape"][1:]]
        if row["aligned_to"] is not None and row["aligned_to"] not in items:
            row["aligned_to"] = row["same_grid"] = None
    return index.to_bytes(pa.Table.from_pylist(rows, schema=index.SCHEMA))


def narrow_rows(raw: bytes, patients: Set[str]) -> tuple[bytes, int]:
    """One object of a linked table with the rows of ``patients`` only, and their number."""
    table = pq.ParquetFile(io.BytesIO(raw)).read(use_threads=False)
    wanted = pc.is_in(table.column(PATIENT), value_set=pa.array(sorted(patients), pa.string()))
    kept = table.filter(wanted)
    sink = io.BytesIO()
    pq.write_table(kept, sink, compression="zstd")
    return sink.getvalue(), kept.num_rows


def narrow_description(raw: bytes, rows: int) -> bytes:
    """``table.json`` of a narrowed table: its columns, and the rows that it has now."""
    described: dict[str, Any] = json.loads(raw)
    described.pop("not-selected", None)
    return json.dumps(described | {"rows": rows}, sort_keys=True).encode()
