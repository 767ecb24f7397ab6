"""Parallel frames → stacks: which lie at one position, and how far one slice is from the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imaging.staging.radiology.frames import Floats, Frames, Indices, near, runs
from imaging.staging.radiology.volume import Geometry, Slice, Triple

POSITION_TOLERANCE_MM = 1e-2
"""Slices nearer than this along the normal lie at one position (nearer still where pixels are microscopic)."""
IN_PLANE_TOLERANCE_MM = 0.1
"""Images at one distance whose corners are further apart than this lie side by side, not on each other."""
SPACING_TOLERANCE = 0.02
"""Relative deviation of a gap from the median gap up to which slices are evenly spaced."""


def axes_of(frames: Frames) -> tuple[Floats, Floats, Floats]:
    """Unit vectors along rows, along columns, and their normal, by the first frame."""
    row, column = frames.orientation[0, :3], frames.orientation[0, 3:]
    row, column = row / np.linalg.norm(row), column / np.linalg.norm(column)
    return row, column, np.cross(row, column)


def position_tolerance(frames: Frames) -> float:
    """Millimetres."""
    return min(POSITION_TOLERANCE_MM, 0.1 * float(frames.spacing[0].min()))


def places(frames: Frames) -> Indices:
    """(n,) which position along the normal each frame has, ascending from 0."""
    _, _, normal = axes_of(frames)
    return runs(frames.position @ normal, position_tolerance(frames))


def side_by_side(frames: Frames, place: Indices) -> Indices:
    """(n,) labels of stacks that lie beside each other in one plane; all 0 where images cover each other.

    Sheared stacks (gantry tilt) also move in the plane, but never within one position.
    """
    row, column, _ = axes_of(frames)
    corner = frames.position @ np.column_stack((row, column))
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    spread = np.maximum.reduceat(corner[order], starts) - np.minimum.reduceat(corner[order], starts)
    tolerance = max(
        10 * position_tolerance(frames), min(IN_PLANE_TOLERANCE_MM, float(frames.spacing[0].min()))
    )
    if spread.max() <= tolerance:
        return np.zeros(len(frames), dtype=np.intp)
    return near(corner, tolerance)


def evenly(positions: Floats, normal: Floats) -> tuple[Floats, float, bool]:
    """Step from slice to slice (3,), gap along the normal, and whether slices are evenly spaced.

    ``positions`` (z, 3) in order, two at least.  Of uneven slices the gap is the median.
    """
    gaps = np.diff(positions @ normal)
    gap = float(np.median(gaps))
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    allowed = max(SPACING_TOLERANCE * gap, min(POSITION_TOLERANCE_MM, 0.1 * gap))
    uniform = bool(np.abs(gaps - gap).max() <= allowed and np.abs(positions - expected).max() <= 10 * allowed)
    if uniform:
        return step, float(step @ normal), True
    return step * (gap / float(step @ normal)), gap, False  # a shear stays in it


def geometry_of(frames: Frames, column: Indices) -> tuple[Geometry, bool]:
    """Geometry of the frames named by ``column`` (z,), in order; and whether a thickness had to be assumed."""
    row, down, normal = axes_of(frames.take(column[:1]))
    positions = frames.position[column]
    assumed = False
    if len(positions) == 1:
        gap, assumed = _thickness(frames.slices[column[0]])
        step, uniform = normal * gap, True
    else:
        step, gap, uniform = evenly(positions, normal)
    between_rows, between_columns = (float(part) for part in frames.spacing[column[0]])
    geometry = Geometry(
        origin_mm=triple(positions[0]),
        row_direction=triple(row),
        column_direction=triple(down),
        step_mm=triple(step),
        spacing_mm=(round(gap, 6), between_rows, between_columns),
        uniform=uniform,
        positions_mm=tuple(map(triple, positions)),
    )
    return geometry, assumed


def _thickness(slice_: Slice) -> tuple[float, bool]:
    """A single slice's extent: what the header says of it, else 1 mm (and True)."""
    for keyword in ("SliceThickness", "SpacingBetweenSlices"):
        value = slice_.instance.header.attributes.get(keyword)
        if isinstance(value, int | float) and 0 < value < 1000:
            return float(value), False
    return 1.0, True


def triple(vector: NDArray[np.float64]) -> Triple:
    x, y, z = (float(part) for part in vector)
    return (x, y, z)
