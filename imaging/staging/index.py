"""``index.parquet``: one row a series volume or slide, for cohort queries without opening an image.

=======================  ================  ==========================================================
column                   type              what
=======================  ================  ==========================================================
item                     string            path of the group inside the copy, e.g. ``series/…``
kind                     string            ``volume`` or ``slide``
patient                  string, null      pseudonym; null for a slide (its file names no patient)
study, series            string, null      keyed UIDs; volumes split from one series share ``series``
frame_of_reference       string, null      keyed UID: volumes with the same one are aligned in space
modality                 string            CT, MR, SM
body_part                string, null      defined term of PS3.16 annex L
study_date               date32, null      moved by the patient's shift
age_years                int16, null       90 stands for 90 and over
sex                      string, null      M, F, O
manufacturer             string, null      one name a maker, OTHER for unknown ones
axes                     string            ``zyx``, ``tzyx`` or ``cyx``
shape                    list<int64>       of level 0, in the order of ``axes``
spacing_mm               list<double>      voxel size along the spatial axes, in the order of ``axes``
uniform_spacing          bool              false: use the slice positions in the group's attributes
n_slices                 int64             slices of a volume over all times; 1 for a slide
n_levels                 int16             resolution levels
dtype                    string            numpy name of the stored type
image_bytes              int64             plaintext bytes of image data
source_items             int64             items of the archive it was made of
=======================  ================  ==========================================================
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from imaging.deid.keyed import parse_date

SCHEMA = pa.schema(
    [
        ("item", pa.string()),
        ("kind", pa.string()),
        ("patient", pa.string()),
        ("study", pa.string()),
        ("series", pa.string()),
        ("frame_of_reference", pa.string()),
        ("modality", pa.string()),
        ("body_part", pa.string()),
        ("study_date", pa.date32()),
        ("age_years", pa.int16()),
        ("sex", pa.string()),
        ("manufacturer", pa.string()),
        ("axes", pa.string()),
        ("shape", pa.list_(pa.int64())),
        ("spacing_mm", pa.list_(pa.float64())),
        ("uniform_spacing", pa.bool_()),
        ("n_slices", pa.int64()),
        ("n_levels", pa.int16()),
        ("dtype", pa.string()),
        ("image_bytes", pa.int64()),
        ("source_items", pa.int64()),
    ],
    metadata={"schema": "hdrs-hpc/imaging-index/1"},
)


def to_table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Rows (in any order) as the table, sorted by item."""
    ordered = sorted(rows, key=lambda row: str(row["item"]))
    columns = {name: [row.get(name) for row in ordered] for name in SCHEMA.names}
    columns["study_date"] = [_date(value) for value in columns["study_date"]]
    return pa.table(columns, schema=SCHEMA)


def to_bytes(table: pa.Table) -> bytes:
    """The table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def from_bytes(raw: bytes) -> pa.Table:
    """What :func:`to_bytes` wrote."""
    return pq.read_table(io.BytesIO(raw))


def _date(value: Any) -> date | None:
    return parse_date(value) if isinstance(value, str) else None
