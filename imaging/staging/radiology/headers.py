"""One DICOM image instance as its parser describes it: identity, pixel format, and where each frame lies.

A frame here is one 2-D image that the parser's ``frames`` operation gives: a stored frame, or one tile of a
Siemens mosaic (then Rows and Columns are the tile's).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from imaging.staging.headers import Attributes, Header, Text, Uid, Vector3, Vector6

Coordinate = Literal[
    "temporal-position",  # Temporal Position Identifier (0020,0100) or Index (0020,9128): an ordinal
    "time-offset-ms",  # Temporal Position Time Offset (0020,930D), Frame Reference Time (0054,1300), Frame Time (cine)
    "trigger-time-ms",  # Trigger Time (0018,1060), Nominal Cardiac Trigger Delay Time (0020,9153)
    "cardiac-phase-percent",  # Nominal Percentage of Cardiac (R-R) Phase (0020,9241)
    "respiratory-phase-percent",  # Nominal Percentage of Respiratory Phase (0020,9245)
    "b-value",  # Diffusion b-value (0018,9087) or the vendor's element, s/mm²
    "gradient-x",  # Diffusion Gradient Orientation (0018,9089), LPS
    "gradient-y",
    "gradient-z",
    "echo-time-ms",  # Echo Time, Effective Echo Time
    "echo-number",
    "tube-voltage-kv",  # KVP (0018,0060)
    "inversion-time-ms",
    "flip-angle-deg",
    "repetition-time-ms",
    "slice-time-s",  # within its volume, from an unknown moment: only differences mean anything
    "acquisition-number",
    "acquisition-time-s",  # seconds of the day: raw, so only differences may reach a copy
    "content-time-s",
    "instance-number",  # Instance Number (0020,0013), else Image Index of PET (0054,1330)
    "frame-number",  # from 1, in stored order
    "mosaic-number",  # from 1: which mosaic of the series, where one instance is a whole volume
]
"""What a frame can be told apart by from others at its position."""


class FrameHeader(Header):
    """One frame's place in space and in its series."""

    position_mm: Vector3 | None = None
    """Image Position (Patient): centre of the first voxel, LPS."""
    orientation: Vector6 | None = None
    """Image Orientation (Patient): direction of a row, then of a column."""
    spacing_mm: tuple[FiniteFloat, FiniteFloat] | None = None
    """Between rows (y), between columns (x): Pixel Spacing, else Imager Pixel Spacing, Nominal Scanned Pixel
    Spacing, Image Plane Pixel Spacing (RT Image), or the one ultrasound region's calibration."""
    slope: FiniteFloat = 1.0
    intercept: FiniteFloat = 0.0
    """Rescale, Real World Value Mapping (parametric map) or Dose Grid Scaling, in this order of need."""
    coordinates: dict[Coordinate, FiniteFloat] = Field(default_factory=dict)
    split: Annotated[tuple[Text, ...], Field(max_length=16)] = ()
    """What separates volumes of one series whatever their place: Image Type, kernel, stack, complex
    component, acquisition contrast, segment number of a segmentation."""
    phase_encoding: Annotated[str, Field(pattern=r"^((row|column)[+-]?)?$")] = ""
    """Along a row or a column, towards larger indices (+) or smaller ones (-), as far as told."""
    acquired: Annotated[str, Field(max_length=16)] = ""
    """A digest of how it was taken and reconstructed (sequence, options, coil, contrast agent, thickness …): what parts
    images of one position."""
    segment: Annotated[int, Field(ge=0, le=65535)] | None = None
    """Referenced Segment Number of a BINARY or FRACTIONAL segmentation's frame."""


class Code(Header):
    """A coded concept without its meaning, which is text."""

    value: Annotated[str, Field(max_length=64)]
    scheme: Annotated[str, Field(max_length=32)]


class Segment(Header):
    """One segment (0062,0002); its free-text label is not told."""

    number: Annotated[int, Field(ge=0, le=65535)]
    category: Code | None = None
    type: Code | None = None
    algorithm: Annotated[str, Field(max_length=16)] = ""


class ModalityLut(Header):
    """Modality LUT Sequence (0028,3000): ``values[v - first]`` for a stored value v, clamped at both ends."""

    first: int
    values: Annotated[
        tuple[Annotated[int, Field(ge=0, le=65535)], ...], Field(min_length=1, max_length=65536)
    ]


class Region(Header):
    """One ultrasound region (0018,6011): inclusive pixel rectangle; spacing where its unit is cm."""

    x0: int
    y0: int
    x1: int
    y1: int
    spacing_mm: tuple[FiniteFloat, FiniteFloat] | None = None
    spatial_format: Annotated[int, Field(ge=0, le=65535)] = 0
    """Region Spatial Format (0018,6012): 1 2-D, 2 M-mode, 3 spectral, 4 waveform, 5 graphics."""


class Bare(Header):
    """Uncompressed frames that lie one after another in the file, each exactly as an array of the type that the
    header's other fields give, little-endian: the stager may read them itself.  A parser that lies here gains
    nothing: it could as well give the same bytes as pixels, and sees no more of the file than is read."""

    offset: Annotated[int, Field(ge=0, lt=1 << 62)]
    """Of the first frame, in bytes from the beginning of the file."""
    high_bit: Annotated[int, Field(ge=0, le=63)]
    """As stored: bits above it are no part of a value (old files keep overlay graphics there)."""


class InstanceHeader(Header):
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
    """Samples per pixel *as given by the parser's frames*: 1, or 3 (RGB) for colour and palette colour."""
    photometric: Text
    """As stored.  The parser gives MONOCHROME1/2 untouched and all colour as RGB."""
    value_type: Literal["integer", "float32", "float64", "bit"] = "integer"
    """Pixel Data, Float Pixel Data, Double Float Pixel Data; ``bit`` is Bits Allocated 1, given as uint8 0/1."""
    bits_allocated: Annotated[int, Field(ge=1, le=64)]
    bits_stored: Annotated[int, Field(ge=1, le=64)]
    high_bit: Annotated[int, Field(ge=0, le=63)]
    signed: bool
    lossy: bool = False
    """Lossy Image Compression (0028,2110) is 01, or the transfer syntax may lose."""
    padding: tuple[int, int] | None = None
    """Pixel Padding Value and Range Limit (equal where there is no limit)."""
    modality_lut: ModalityLut | None = None
    burned_in: Literal["YES", "NO", ""] = ""
    """Burned In Annotation (0028,0301)."""
    recognizable: Literal["YES", "NO", ""] = ""
    """Recognizable Visual Features (0028,0302)."""
    image_type: Annotated[tuple[Text, ...], Field(max_length=16)] = ()
    conversion_type: Text = ""
    regions: Annotated[tuple[Region, ...], Field(max_length=64)] = ()
    segmentation: Literal["BINARY", "FRACTIONAL", "LABELMAP", ""] = ""
    segments: Annotated[tuple[Segment, ...], Field(max_length=4096)] = ()
    units: Code | None = None
    """Unit of slope and intercept's result where coded: Measurement Units of a real world mapping."""
    source_series: Annotated[tuple[Uid, ...], Field(max_length=64)] = ()
    """Series (by UID) that a segmentation, dose or parametric map says it was made of."""
    source_instances: Annotated[tuple[Uid, ...], Field(max_length=100_000)] = ()
    frames: Annotated[tuple[FrameHeader, ...], Field(min_length=1, max_length=100_000)]
    bare: Bare | None = None
    """None: frames come from a parser."""
    attributes: Attributes
