"""What a parser tells about a file: checked again by the stager, since a parser's word is not trusted.

Values are raw (real dates, real ids): they live in the stager's memory only and never reach a copy, a journal
or a report.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

Text = Annotated[str, Field(max_length=1024)]
Uid = Annotated[str, Field(max_length=128)]
Scalar = Text | int | FiniteFloat
Value = Scalar | Annotated[tuple[Scalar, ...], Field(max_length=64)]
Vector3 = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
Vector6 = tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FrameHeader(_Message):
    """One frame's place in space and in its series."""

    position_mm: Vector3 | None = None
    """Image Position (Patient): centre of the first voxel, LPS."""
    orientation: Vector6 | None = None
    """Image Orientation (Patient): direction of a row, then of a column."""
    spacing_mm: tuple[FiniteFloat, FiniteFloat] | None = None
    """Pixel Spacing in DICOM's order: between rows (y), between columns (x)."""
    slope: FiniteFloat = 1.0
    intercept: FiniteFloat = 0.0
    order: Annotated[tuple[FiniteFloat, ...], Field(max_length=8)] = ()
    """Sort key among frames at one position: temporal position, b-value, trigger time, time, number."""
    split: Annotated[tuple[Text, ...], Field(max_length=16)] = ()
    """What separates volumes of one series: image type, echo, kernel, stack."""


class InstanceHeader(_Message):
    """One DICOM image instance."""

    kind: Literal["instance"] = "instance"
    sop_class: Uid
    sop_instance: Uid
    transfer_syntax: Uid
    study: Uid
    series: Uid
    frame_of_reference: Uid
    patient_id: Text
    issuer: Text
    modality: Text
    rows: Annotated[int, Field(ge=1, le=65535)]
    columns: Annotated[int, Field(ge=1, le=65535)]
    samples: Annotated[int, Field(ge=1, le=4)]
    photometric: Text
    bits_allocated: Annotated[int, Field(ge=1, le=64)]
    bits_stored: Annotated[int, Field(ge=1, le=64)]
    high_bit: Annotated[int, Field(ge=0, le=63)]
    signed: bool
    burned_in: bool
    frames: Annotated[tuple[FrameHeader, ...], Field(min_length=1, max_length=100_000)]
    attributes: Annotated[dict[Text, Value], Field(max_length=256)]


class LevelHeader(_Message):
    """One resolution level of a slide that is stored as JPEG tiles."""

    page: Annotated[int, Field(ge=0, le=10_000)]
    width: Annotated[int, Field(ge=1, le=10_000_000)]
    height: Annotated[int, Field(ge=1, le=10_000_000)]
    tile_width: Annotated[int, Field(ge=16, le=8192)]
    tile_height: Annotated[int, Field(ge=16, le=8192)]


class SlideHeader(_Message):
    """One whole-slide image."""

    kind: Literal["slide"] = "slide"
    format: Literal["svs"]
    levels: Annotated[tuple[LevelHeader, ...], Field(min_length=1, max_length=32)]
    mpp: Annotated[FiniteFloat, Field(gt=0, le=1000)] | None
    """Micrometres per pixel at level 0."""
    attributes: Annotated[dict[Text, Value], Field(max_length=64)]
