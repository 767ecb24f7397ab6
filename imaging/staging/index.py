"""``index.parquet``: one row an item (series volume, image, label, slide, table), for cohort queries without
opening an image.

=======================  ================  ==========================================================
column                   type              what
=======================  ================  ==========================================================
item                     string            path of the group inside the copy, e.g. ``series/…``
kind                     string            ``volume``, ``image`` (no place in the patient), ``cine`` (frames
                                           over time), ``label``, ``dose``, ``map``, ``slide``, ``table``
patient                  string, null      pseudonym; null for a slide whose file names no patient
study, series            string, null      keyed UIDs; items split from one series share ``series``
frame_of_reference       string, null      keyed UID: volumes with the same one are aligned in space
aligned_to               string, null      item in whose space a label, dose or map lies
same_grid                bool, null        whether it has that item's voxels, one for one
modality                 string            CT, MR, PT, US, MG, SEG, RTDOSE, SM …
body_part                string, null      defined term of PS3.16 annex L
laterality               string, null      L, R, B, U
view_position            string, null      of a radiograph: AP, PA, LL, CC, MLO …
study_date               date32, null      moved by the patient's shift
age_years                int16, null       90 stands for 90 and over
sex                      string, null      M, F, O
manufacturer             string, null      one name a maker, OTHER for unknown ones
axes                     string            of level 0, slowest first: some of ``tczyx``
shape                    list<int64>       of level 0, in the order of ``axes``
spacing_mm               list<double>      voxel size along the spatial axes, in the order of ``axes``; empty
                                           where the images do not say; null along z where slices are not
                                           evenly spaced, or a slide's focal planes have no told distance
uniform_spacing          bool              false: use the slice positions in the group's attributes
n_slices                 int64             frames over all times; 1 for a slide
n_times                  int64, null       length of axis t; 1 without one
axis_t                   string, null      what t means: ``time-s``, ``b-value``, ``cardiac-phase-percent`` …
n_b_values               int32, null       different b-values, where t has them
n_channels               int32, null       colours of an image, channels of a slide or a label
n_segments               int32, null       segments of a label
n_levels                 int16             resolution levels
dtype                    string            numpy name of the stored type
units                    string, null      of values after rescale: HU, Bq/mL, Gy …
slice_thickness_mm       double, null      as the scanner says
kernel                   string, null      reconstruction kernel of CT
kvp                      double, null      kV
field_strength_t         double, null      tesla
repetition_time_ms       double, null
echo_time_ms             double, null
flip_angle_deg           double, null
lossy                    bool, null        something was lost to compression before staging
image_bytes              int64             plaintext bytes of image data
source_items             int64             items of the archive it was made of
=======================  ================  ==========================================================
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
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
        ("aligned_to", pa.string()),
        ("same_grid", pa.bool_()),
        ("modality", pa.string()),
        ("body_part", pa.string()),
        ("laterality", pa.string()),
        ("view_position", pa.string()),
        ("study_date", pa.date32()),
        ("age_years", pa.int16()),
        ("sex", pa.string()),
        ("manufacturer", pa.string()),
        ("axes", pa.string()),
        ("shape", pa.list_(pa.int64())),
        ("spacing_mm", pa.list_(pa.float64())),
        ("uniform_spacing", pa.bool_()),
        ("n_slices", pa.int64()),
        ("n_times", pa.int64()),
        ("axis_t", pa.string()),
        ("n_b_values", pa.int32()),
        ("n_channels", pa.int32()),
        ("n_segments", pa.int32()),
        ("n_levels", pa.int16()),
        ("dtype", pa.string()),
        ("units", pa.string()),
        ("slice_thickness_mm", pa.float64()),
        ("kernel", pa.string()),
        ("kvp", pa.float64()),
        ("field_strength_t", pa.float64()),
        ("repetition_time_ms", pa.float64()),
        ("echo_time_ms", pa.float64()),
        ("flip_angle_deg", pa.float64()),
        ("lossy", pa.bool_()),
        ("image_bytes", pa.int64()),
        ("source_items", pa.int64()),
    ],
    metadata={"schema": "hdrs-hpc/imaging-index/2"},
)

_WORDS = {
    "patient": "PatientID",
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "frame_of_reference": "FrameOfReferenceUID",
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "view_position": "ViewPosition",
    "study_date": "StudyDate",
    "sex": "PatientSex",
    "manufacturer": "Manufacturer",
    "kernel": "ConvolutionKernel",
}
_NUMBERS = {
    "slice_thickness_mm": "SliceThickness",
    "kvp": "KVP",
    "field_strength_t": "MagneticFieldStrength",
    "repetition_time_ms": "RepetitionTime",
    "echo_time_ms": "EchoTime",
    "flip_angle_deg": "FlipAngle",
}


def described(kept: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that come from de-identified attributes; those that a profile does not keep are left out."""
    row: dict[str, Any] = {column: _word(kept.get(keyword)) for column, keyword in _WORDS.items()}
    row |= {column: _number(kept.get(keyword)) for column, keyword in _NUMBERS.items()}
    row["laterality"] = _word(kept.get("ImageLaterality")) or _word(kept.get("Laterality"))
    row["age_years"] = _years(kept.get("PatientAge"))
    return {column: value for column, value in row.items() if value is not None}


def to_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
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
    # Without threads of Arrow's: one that still starts when the process ends aborts it.
    return pq.ParquetFile(io.BytesIO(raw)).read(use_threads=False)


def _word(value: Any) -> str | None:
    if isinstance(value, tuple | list):  # a kernel may have several values
        value = "\\".join(map(str, value))
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> float | None:
    if isinstance(value, tuple | list):
        value = value[0] if len(set(value)) == 1 else None
    return float(value) if isinstance(value, int | float) else None


def _years(age: Any) -> int | None:
    """Whole years of a de-identified Age String."""
    if not isinstance(age, str):
        return None
    number = int(age[:3])
    return {"Y": number, "M": number // 12, "W": number // 52, "D": number // 365}[age[3]]


def _date(value: Any) -> date | None:
    return parse_date(value) if isinstance(value, str) else None
