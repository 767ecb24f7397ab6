"""Ultrasound regions and their calibration (PS3.3 C.8.5.5)."""

from __future__ import annotations

from pydicom.dataset import Dataset

from imaging.staging.parsing.dicom.values import integer, items, number
from imaging.staging.radiology.headers import Region

_CM = 3
_MAX_REGIONS = 64


def read_regions(dataset: Dataset) -> list[Region]:
    """The regions that are well told, in stored order."""
    regions = []
    for item in items(dataset, "SequenceOfUltrasoundRegions")[:_MAX_REGIONS]:
        corners = [
            integer(item, name)
            for name in (
                "RegionLocationMinX0",
                "RegionLocationMinY0",
                "RegionLocationMaxX1",
                "RegionLocationMaxY1",
            )
        ]
        if any(corner is None or corner < 0 for corner in corners):
            continue
        x0, y0, x1, y1 = (corner or 0 for corner in corners)
        kind = integer(item, "RegionSpatialFormat") or 0
        regions.append(
            Region(
                x0=x0,
                y0=y0,
                x1=x1,
                y1=y1,
                spacing_mm=_spacing(item),
                spatial_format=kind if 0 <= kind <= 65535 else 0,
            )
        )
    return regions


def _spacing(item: Dataset) -> tuple[float, float] | None:
    if integer(item, "PhysicalUnitsXDirection") != _CM or integer(item, "PhysicalUnitsYDirection") != _CM:
        return None
    x, y = number(item, "PhysicalDeltaX"), number(item, "PhysicalDeltaY")
    if not x or not y:
        return None
    return abs(y) * 10, abs(x) * 10
