"""A volume's and a slide's zarr attributes: NGFF 0.5, and our namespace for what NGFF can't say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from imaging.deid.profiles import Profile
from imaging.deid.rules import Value
from imaging.layout import NAMESPACE, NGFF_VERSION, SLIDE_SCHEMA, VOLUME_SCHEMA
from imaging.staging.headers import SlideHeader
from imaging.staging.radiology.assembly import Volume


def volume_axes(volume: Volume) -> list[dict[str, str]]:
    """Axes of the array, slowest first."""
    space = [{"name": name, "type": "space", "unit": "millimeter"} for name in ("z", "y", "x")]
    return space if len(volume.slices) == 1 else [{"name": "t", "type": "time"}, *space]


def volume_attributes(
    volume: Volume, attributes: Mapping[str, Value], per_slice: Mapping[str, list[Value]], profile: Profile
) -> dict[str, Any]:
    """Attributes of a series' group.

    ``affine_lps_mm`` maps (z, y, x, 1) voxel indices to LPS millimetres; where ``uniform_spacing`` is false
    it holds for the slice at z = 0 only, and ``slice_positions_mm`` tells each slice's origin.
    NGFF's translation is the first voxel's position read along z, y, x of the array: it knows no rotation.
    """
    axes = volume_axes(volume)
    extra = len(axes) - 3
    z, y, x = volume.spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = volume.step_mm
    affine[:3, 1] = np.asarray(volume.column_direction) * y
    affine[:3, 2] = np.asarray(volume.row_direction) * x
    affine[:3, 3] = volume.origin_mm
    normal = np.cross(volume.row_direction, volume.column_direction)
    origin = np.asarray(volume.origin_mm)
    translation = [
        float(origin @ normal),
        float(origin @ np.asarray(volume.column_direction)),
        float(origin @ np.asarray(volume.row_direction)),
    ]
    ours: dict[str, Any] = {
        "schema": VOLUME_SCHEMA,
        "direction": {"row": list(volume.row_direction), "column": list(volume.column_direction)},
        "affine_lps_mm": affine.tolist(),
        "slice_positions_mm": [list(position) for position in volume.positions_mm],
        "uniform_spacing": volume.uniform,
        "tilted": volume.tilted,
        "rescale": _rescale(volume),
        "dicom": _plain(attributes),
        "dicom_per_slice": {keyword: _plain_list(values) for keyword, values in sorted(per_slice.items())},
        "deidentification": profile.stamp(),
    }
    return {
        "ome": _multiscales(axes, [[1.0] * extra + [z, y, x]], [[0.0] * extra + translation]),
        NAMESPACE: ours,
    }


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
        "dicom": _plain(attributes),
        "deidentification": profile.stamp(),
    }
    return {"ome": _multiscales(axes, scales, shifts), NAMESPACE: ours}


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


def _multiscales(
    axes: list[dict[str, str]], scales: list[list[float]], translations: list[list[float]]
) -> dict[str, Any]:
    return {
        "version": NGFF_VERSION,
        "multiscales": [
            {
                "name": "image",
                "axes": axes,
                "datasets": [
                    {
                        "path": str(level),
                        "coordinateTransformations": [
                            {"type": "scale", "scale": scale},
                            {"type": "translation", "translation": translation},
                        ],
                    }
                    for level, (scale, translation) in enumerate(zip(scales, translations, strict=True))
                ],
            }
        ],
    }


def _rescale(volume: Volume) -> dict[str, Any]:
    """Stored value × slope + intercept; lists (t-major, as the slices) where they differ by slice."""
    slopes = [one.header.slope for one in volume.all_slices()]
    intercepts = [one.header.intercept for one in volume.all_slices()]
    same = len(set(slopes)) == 1 and len(set(intercepts)) == 1
    return {
        "slope": slopes[0] if same else slopes,
        "intercept": intercepts[0] if same else intercepts,
        "per_slice": not same,
    }


def _plain(attributes: Mapping[str, Value]) -> dict[str, Any]:
    return {
        keyword: list(value) if isinstance(value, tuple) else value
        for keyword, value in sorted(attributes.items())
    }


def _plain_list(values: list[Value]) -> list[Any]:
    return [list(value) if isinstance(value, tuple) else value for value in values]
