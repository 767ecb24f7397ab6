"""One slide file, or one DICOM instance of a slide, as its parser describes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from imaging.staging.headers import Attributes, Header


class LevelHeader(Header):
    """One resolution level of a slide that is stored as JPEG tiles."""

    page: Annotated[int, Field(ge=0, le=10_000)]
    width: Annotated[int, Field(ge=1, le=10_000_000)]
    height: Annotated[int, Field(ge=1, le=10_000_000)]
    tile_width: Annotated[int, Field(ge=16, le=8192)]
    tile_height: Annotated[int, Field(ge=16, le=8192)]


class SlideHeader(Header):
    """One whole-slide image."""

    kind: Literal["slide"] = "slide"
    format: Literal["svs"]
    levels: Annotated[tuple[LevelHeader, ...], Field(min_length=1, max_length=32)]
    mpp: Annotated[FiniteFloat, Field(gt=0, le=1000)] | None
    """Micrometres per pixel at level 0."""
    attributes: Attributes
