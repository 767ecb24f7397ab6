"""Siemens mosaics: a volume's slices as tiles of one image, row by row, each then a frame of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from imaging.staging.parsing.dicom.phase_encoding import mosaic_times_s
from imaging.staging.parsing.dicom.pixel_format import PixelFormat
from imaging.staging.parsing.dicom.values import number, numbers, texts, vector
from imaging.staging.parsing.dicom.vendors import mosaic_normal, mosaic_tiles
from imaging.staging.radiology.headers import FrameHeader


@dataclass(frozen=True, slots=True)
class Mosaic:
    """``tiles`` images of ``rows`` × ``columns``, ``across`` of them in a row."""

    tiles: int
    across: int
    rows: int
    columns: int


def read_mosaic(dataset: Dataset, form: PixelFormat) -> Mosaic | None:
    """How the image is tiled, or None where it isn't, or doesn't say so well enough to be cut."""
    if form.samples != 1 or not _says_mosaic(dataset, form):
        return None
    tiles = mosaic_tiles(dataset)
    across = math.isqrt(tiles - 1) + 1 if tiles else 0
    if not across or form.rows % across or form.columns % across:
        return None
    return Mosaic(tiles, across, form.rows // across, form.columns // across)


def is_uncut(dataset: Dataset, form: PixelFormat, mosaic: Mosaic | None) -> bool:
    """Whether the image is a mosaic that nothing tells how to cut: its private elements were removed, say.

    Image Position then is no place of any voxel.  Tiles are not counted by Acquisition Matrix: the last ones may be
    empty, and an interpolated tile is larger than it.
    """
    return mosaic is None and _says_mosaic(dataset, form) and not _is_one_slice(dataset, form)


def _says_mosaic(dataset: Dataset, form: PixelFormat) -> bool:
    return form.frames == 1 and "MOSAIC" in texts(dataset, "ImageType")


def _is_one_slice(dataset: Dataset, form: PixelFormat) -> bool:
    """No larger than what was acquired (0018,1310): a tile that was cut out before, with its Image Type left."""
    acquired = numbers(dataset, "AcquisitionMatrix") or ()
    return max(form.rows, form.columns) <= max(acquired, default=0.0)


def mosaic_frames(
    dataset: Dataset, form: PixelFormat, mosaic: Mosaic, whole: FrameHeader
) -> list[FrameHeader]:
    """A header for each tile.

    Image Position of a mosaic is where its corner would lie if the mosaic were one slice as large as itself,
    with the same centre as the first tile.
    """
    common = {"frame-number": 0.0} | dict(whole.coordinates)
    ordinal = common.get("instance-number")
    if ordinal is not None:
        common["mosaic-number"] = ordinal
    positions = _positions(dataset, form, mosaic, whole)
    times = mosaic_times_s(dataset, mosaic.tiles)
    if times is not None:
        common.pop("slice-time-s", None)
    return [
        whole.model_copy(
            update={
                "position_mm": None if positions is None else positions[index],
                "coordinates": common
                | {"frame-number": float(index + 1)}
                | ({} if times is None else {"slice-time-s": times[index]}),
            }
        )
        for index in range(mosaic.tiles)
    ]


def _positions(
    dataset: Dataset, form: PixelFormat, mosaic: Mosaic, whole: FrameHeader
) -> list[tuple[float, float, float]] | None:
    gap = number(dataset, "SpacingBetweenSlices") or number(dataset, "SliceThickness")
    corner = vector(dataset, "ImagePositionPatient", 3)
    if corner is None or whole.orientation is None or whole.spacing_mm is None or not gap:
        return None
    row, column = np.asarray(whole.orientation[:3]), np.asarray(whole.orientation[3:])
    normal = np.cross(row, column)
    told = mosaic_normal(dataset)
    if told is not None and len(told) == 3 and float(np.dot(normal, told)) < 0:
        normal = -normal
    between_rows, between_columns = whole.spacing_mm
    first = (
        np.asarray(corner)
        + row * between_columns * (form.columns - mosaic.columns) / 2
        + column * between_rows * (form.rows - mosaic.rows) / 2
    )
    places = first + np.arange(mosaic.tiles)[:, None] * abs(gap) * normal
    return [(float(x), float(y), float(z)) for x, y, z in places]
