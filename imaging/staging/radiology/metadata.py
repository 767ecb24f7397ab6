"""A volume's zarr attributes: NGFF 0.5, and our namespace for what NGFF can't say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from imaging.deid.profiles import Profile
from imaging.deid.rules import Value
from imaging.layout import NAMESPACE, VOLUME_SCHEMA
from imaging.staging.ngff import multiscales, plain, plain_list
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
        "dicom": plain(attributes),
        "dicom_per_slice": {keyword: plain_list(values) for keyword, values in sorted(per_slice.items())},
        "deidentification": profile.stamp(),
    }
    return {
        "ome": multiscales(axes, [[1.0] * extra + [z, y, x]], [[0.0] * extra + translation]),
        NAMESPACE: ours,
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
