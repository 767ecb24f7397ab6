"""What may be said of a WSM instance besides its pixels: optical paths, sizes, attributes that are asked for."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydicom.dataset import Dataset

from imaging.staging.headers import Value
from imaging.staging.parsing.slides import icc
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.pathology.headers import ChannelHeader, OpticalPath

_TEXT = 1000


def optical_paths(dataset: Dataset) -> list[OpticalPath]:
    """Of the instance, in order; one without a name where none is listed."""
    items = list(dataset.get("OpticalPathSequence") or [])[:256]
    paths = [
        OpticalPath(
            identifier=text(item, "OpticalPathIdentifier"),
            channel=ChannelHeader(excitation_nm=_positive(item.get("IlluminationWaveLength"))),
        )
        for item in items
    ]
    return paths or [OpticalPath(identifier="", channel=ChannelHeader())]


def image_flavor(dataset: Dataset) -> str:
    """Value 3 of Image Type (PS3.3 C.8.12.4.1.1): VOLUME for levels; LABEL, OVERVIEW, THUMBNAIL, LOCALIZER.

    Raises :class:`Unreadable` where there is none: it may be a level.
    """
    kind = [str(part).strip(" \0").upper() for part in list(dataset.get("ImageType") or [])[:16]]
    if len(kind) < 3 or not kind[2]:
        raise Unreadable("required-attribute-missing", "ImageType")
    return kind[2]


def micrometres_per_pixel(dataset: Dataset, width: int, height: int) -> tuple[float, float] | None:
    """Pixel Spacing of the shared functional groups, else the imaged volume over the matrix; in µm."""
    for item in dataset.get("SharedFunctionalGroupsSequence") or []:
        for measures in item.get("PixelMeasuresSequence") or []:
            spacing = list(measures.get("PixelSpacing") or [])
            if len(spacing) == 2 and all(0 < float(one) * 1000 <= 1000 for one in spacing):
                return float(spacing[0]) * 1000, float(spacing[1]) * 1000
    wide, high = _positive(dataset.get("ImagedVolumeWidth")), _positive(dataset.get("ImagedVolumeHeight"))
    if wide is None or high is None:
        return None
    size = (high * 1000 / height, wide * 1000 / width)
    return size if all(0 < one <= 1000 for one in size) else None


def background(dataset: Dataset, color: bool) -> Literal["white", "black"]:
    """By Recommended Absent Pixel CIELab Value (0048,0015), else white for colour and black for channels."""
    value = dataset.get("RecommendedAbsentPixelCIELabValue")
    if value is not None and len(value) == 3 and color:
        return "white" if int(value[0]) >= 0x8000 else "black"
    return "white" if color else "black"


def color_profile(dataset: Dataset) -> str:
    """Of the first optical path, reduced; base64."""
    for item in dataset.get("OpticalPathSequence") or []:
        return icc.reduced(item.get("ICCProfile"))
    return ""


def attributes(dataset: Dataset, keywords: frozenset[str]) -> dict[str, Value]:
    """Raw attributes by keyword, with the objective's power wherever it stands."""
    found: dict[str, Value] = {}
    for keyword in sorted(keywords):
        value = _plain(_looked_up(dataset, keyword))
        if value is not None:
            found[keyword] = value
    found["Modality"] = "SM"
    for item in dataset.get("OpticalPathSequence") or []:
        power = _positive(item.get("ObjectiveLensPower"))
        if power is not None:
            found["ObjectiveLensPower"] = power
    return found


def _looked_up(dataset: Dataset, keyword: str) -> Any:
    """``A.B`` is attribute B of the first item of sequence A."""
    first, _, rest = keyword.partition(".")
    value = dataset.get(first)
    if not rest:
        return value
    return _looked_up(value[0], rest) if value is not None and len(value) else None


def _plain(value: Any) -> Value | None:
    if value is None or isinstance(value, bytes | Dataset):
        return None
    if isinstance(value, int | float):
        number = float(value)
        return (int(value) if isinstance(value, int) else number) if np.isfinite(number) else None
    if isinstance(value, list | tuple) or hasattr(value, "append"):
        parts = [str(part).strip(" \0") for part in list(value)[:64] if not isinstance(part, Dataset)]
        return tuple(part for part in parts if 0 < len(part) <= _TEXT) or None
    text = str(value).strip(" \0")
    return text if 0 < len(text) <= _TEXT else None


def required(dataset: Dataset, keyword: str) -> str:
    """A text that has to be there; raises :class:`Unreadable`."""
    value = text(dataset, keyword)
    if not value:
        raise Unreadable("required-attribute-missing", keyword)
    return value


def text(dataset: Dataset, keyword: str) -> str:
    """As text, "" where absent."""
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip(" \0")[:_TEXT]


def yes_no(dataset: Dataset, keyword: str) -> Literal["YES", "NO", ""]:
    """A code string of two values."""
    said = text(dataset, keyword).upper()
    return "YES" if said == "YES" else "NO" if said == "NO" else ""


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < 1e5 else None
