"""A slide's zarr attributes: NGFF 0.5, and our namespace for what NGFF can't say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imaging.deid.profiles import Profile
from imaging.deid.rules import Value
from imaging.layout import NAMESPACE, SLIDE_SCHEMA
from imaging.staging.ngff import multiscales, plain
from imaging.staging.pathology.headers import SlideHeader


def slide_attributes(
    header: SlideHeader,
    attributes: Mapping[str, Value],
    shapes: list[tuple[int, int]],
    derived: list[bool],
    profile: Profile,
) -> dict[str, Any]:
    """Attributes of a slide's group; ``shapes`` are (height, width) of the levels, largest first."""
    unit = {} if header.mpp is None else {"unit": "micrometer"}
    axes = [
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space", **unit},
        {"name": "x", "type": "space", **unit},
    ]
    size = header.mpp or 1.0
    factors = _downsamples(shapes, derived)
    scales = [[1.0, size * fy, size * fx] for fy, fx in factors]
    # A coarser pixel's centre lies half its size further in than a finer one's.
    shifts = [[0.0, size * (fy - 1) / 2, size * (fx - 1) / 2] for fy, fx in factors]
    ours = {
        "schema": SLIDE_SCHEMA,
        "format": header.format,
        "mpp": header.mpp,
        "levels": [
            {"path": str(level), "pixels": "derived" if made else "original-jpeg"}
            for level, made in enumerate(derived)
        ],
        "dicom": plain(attributes),
        "deidentification": profile.stamp(),
    }
    return {"ome": multiscales(axes, scales, shifts), NAMESPACE: ours}


def _downsamples(shapes: list[tuple[int, int]], derived: list[bool]) -> list[tuple[float, float]]:
    """(y, x) per level: of the scanner's levels by their sizes, of derived ones exactly twice the one above,
    whatever an odd edge did to their sizes."""
    found: list[tuple[float, float]] = []
    for (height, width), made in zip(shapes, derived, strict=True):
        if made:
            found.append((found[-1][0] * 2, found[-1][1] * 2))
        else:
            found.append((shapes[0][0] / height, shapes[0][1] / width))
    return found
