"""Slides as their parsers describe them: one file that holds a pyramid, or one DICOM instance of a slide."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, FiniteFloat, model_validator

from imaging.staging.headers import Attributes, Header, Text, Uid
from imaging.staging.pathology.fluorophores import known

Encoding = Literal["jpeg", "jpeg2000", "lossy", "lossless"]
"""``jpeg``, ``jpeg2000``: codestreams that can be kept as they are.  ``lossy``, ``lossless``: the parser gives
pixels, and has them from a source that had lost some, or none."""
SlideFormat = Literal[
    "svs", "ndpi", "ome-tiff", "philips-tiff", "scn", "qptiff", "tiff", "openslide", "dicom-wsm"
]
Micrometres = Annotated[FiniteFloat, Field(gt=0, le=1000)]
Nanometres = Annotated[FiniteFloat, Field(gt=0, le=100_000)]
Byte = Annotated[int, Field(ge=0, le=255)]


def _fluorophore(name: str) -> str:
    if known(name) != name:
        raise ValueError("not in the list")
    return name


class LevelHeader(Header):
    """One resolution level: a grid of tiles, the same for all its planes."""

    width: Annotated[int, Field(ge=1, le=10_000_000)]
    height: Annotated[int, Field(ge=1, le=10_000_000)]
    tile_width: Annotated[int, Field(ge=1, le=65_535)]
    tile_height: Annotated[int, Field(ge=1, le=65_535)]
    encoding: Encoding
    quality: Annotated[int, Field(ge=1, le=100)] | None = None
    """Of ``jpeg``, by the scale of the usual encoders."""

    @model_validator(mode="after")
    def _no_larger_than_glass(self) -> LevelHeader:
        """A slide of 25 × 75 mm at 0.1 µm has 2¹⁸ × 2²⁰ pixels: more is no slide but endless work."""
        if self.width * self.height > 1 << 40:
            raise ValueError("larger than any slide")
        return self


class ChannelHeader(Header):
    """What a plane's light was; everything may be unknown.  ``fluorophore`` is a word of a closed list."""

    fluorophore: Annotated[str, AfterValidator(_fluorophore)] | None = None
    excitation_nm: Nanometres | None = None
    emission_nm: Nanometres | None = None
    color: tuple[Byte, Byte, Byte] | None = None
    """RGB by which to show it."""


class ImageHeader(Header):
    """What both kinds of slide say of their pixels.  A level's planes are ordered channel by channel, each
    with all its focal planes."""

    samples: Literal[1, 3]
    """Of one plane's pixel: 3 is RGB."""
    dtype: Literal["uint8", "uint16", "float32"]
    focal_um: Annotated[tuple[FiniteFloat, ...], Field(min_length=1, max_length=1024)] = (0.0,)
    """Height of each focal plane, ascending."""
    focal_known: bool = True
    """False where the source tells focal planes without their distance: ``focal_um`` then merely counts them."""
    mpp: tuple[Micrometres, Micrometres] | None
    """Micrometres per pixel at this header's first level: (y, x)."""
    background: Literal["white", "black"]
    """What is seen where the scanner stored no tile."""
    icc: Annotated[str, Field(max_length=1 << 18)] = ""
    """The ICC profile reduced to what colours need, base64."""
    attributes: Attributes


class SlideHeader(ImageHeader):
    """A file that holds a whole slide."""

    kind: Literal["slide"] = "slide"
    format: SlideFormat
    levels: Annotated[tuple[LevelHeader, ...], Field(min_length=1, max_length=32)]
    """Largest first, each smaller than the one before."""
    largest_missing: bool = False
    """Whether the scan had a larger level that the file lacks, or that can't be read."""
    channels: Annotated[tuple[ChannelHeader, ...], Field(min_length=1, max_length=256)]


class OpticalPath(Header):
    """One optical path of a DICOM slide (0048,0105): a channel with its identifier in the slide."""

    identifier: Text
    channel: ChannelHeader


class WsmHeader(ImageHeader):
    """One VL Whole Slide Microscopy instance: one level (or a part of it) of one slide."""

    kind: Literal["wsm"] = "wsm"
    sop_instance: Uid
    study: Uid
    series: Uid
    frame_of_reference: Uid
    pyramid: Uid
    """Pyramid UID (0008,0019)."""
    concatenation: Uid
    """Concatenation UID (0020,9161): its instances hold frames of one level."""
    container: Text
    """Container Identifier (0040,0512), a barcode: for grouping and the opt-out list only."""
    patient_id: Text
    issuer: Text
    image_type: Annotated[tuple[Text, ...], Field(max_length=16)]
    burned_in: Literal["YES", "NO", ""]
    label_in_image: bool
    """Specimen Label in Image (0048,0010) is YES."""
    lossy: bool
    level: LevelHeader
    paths: Annotated[tuple[OpticalPath, ...], Field(min_length=1, max_length=256)]
