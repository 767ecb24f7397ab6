"""What a header says that bears on burned-in text: read in the parser, checked again by the stager."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from imaging.deid.pixels.boxes import Box

Text = Annotated[str, Field(max_length=256)]
Pixel = Annotated[int, Field(ge=0, le=2**31)]
Count = Annotated[int, Field(ge=0, le=65535)]

_MAX_REGIONS = 64
_MAX_VALUES = 32


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Region(_Message):
    """One item of Sequence of Ultrasound Regions (PS3.3 C.8.5.5): both corners lie in the region."""

    x0: Pixel
    y0: Pixel
    x1: Pixel
    y1: Pixel
    spatial_format: Annotated[int, Field(ge=0, le=65535)] = 0
    """1: 2-D, 2: M-mode, 3: spectral, 4: waveform, 5: graphics (C.8.5.5.1.1)."""

    @property
    def box(self) -> Box:
        return Box(self.y0, self.x0, self.y1 + 1, self.x1 + 1)


class Facts(_Message):
    """Header facts of one instance; an absent attribute is "" or empty."""

    sop_class: Text = ""
    modality: Text = ""
    manufacturer: Text = ""
    model: Text = ""
    image_type: Annotated[tuple[Text, ...], Field(max_length=_MAX_VALUES)] = ()
    conversion_type: Text = ""
    burned_in: Literal["yes", "no", "absent"] = "absent"
    """Burned In Annotation (0028,0301); a value other than YES and NO counts as absent."""
    photometric: Text = ""
    samples: Count = 1
    rows: Count
    columns: Count
    placed: bool = False
    """Whether it has a place in the patient (Image Position): scanned, rather than captured from a screen."""
    regions: Annotated[tuple[Region, ...], Field(max_length=_MAX_REGIONS)] = ()

    @property
    def colour(self) -> bool:
        return self.samples > 1 or self.photometric == "PALETTE COLOR"


def facts_of(dataset: Any, *, placed: bool) -> Facts:
    """The facts in a ``pydicom.Dataset``.  ``placed``: what the geometry's reader found.

    Regions that are broken are left out, which can only make an image more suspect.  Raises ValueError,
    TypeError or AttributeError as pydicom does where the header is broken in other places.
    """
    burned_in = _text(dataset, "BurnedInAnnotation").upper()
    return Facts(
        sop_class=_text(dataset, "SOPClassUID"),
        modality=_text(dataset, "Modality").upper(),
        manufacturer=_text(dataset, "Manufacturer"),
        model=_text(dataset, "ManufacturerModelName"),
        image_type=tuple(str(part)[:256] for part in _many(dataset.get("ImageType"))[:_MAX_VALUES]),
        conversion_type=_text(dataset, "ConversionType").upper(),
        burned_in="yes" if burned_in == "YES" else "no" if burned_in == "NO" else "absent",
        photometric=_text(dataset, "PhotometricInterpretation").upper(),
        samples=int(dataset.get("SamplesPerPixel") or 1),
        rows=int(dataset.get("Rows") or 0),
        columns=int(dataset.get("Columns") or 0),
        placed=placed,
        regions=_regions(dataset),
    )


def _regions(dataset: Any) -> tuple[Region, ...]:
    found: list[Region] = []
    items = list(dataset.get("SequenceOfUltrasoundRegions") or [])
    for item in items[:_MAX_REGIONS]:
        try:
            found.append(
                Region(
                    x0=int(item.RegionLocationMinX0),
                    y0=int(item.RegionLocationMinY0),
                    x1=int(item.RegionLocationMaxX1),
                    y1=int(item.RegionLocationMaxY1),
                    spatial_format=int(item.get("RegionSpatialFormat") or 0),
                )
            )
        except (ValueError, TypeError, AttributeError):
            continue
    return tuple(found)


def _text(dataset: Any, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip(" \0")[:256]


def _many(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str | bytes) else list(value)
