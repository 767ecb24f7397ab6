"""Remove the face from a scan of the head, by geometry alone.

What goes: all in front of a coronal plane 40 mm behind the brow, from the roof of the orbits downwards (brow,
eyes, nose, mouth, cheeks, chin, and the air before them), and the ears with a shell of the temple below them.
What stays: the estimated brain with a margin, the skull above the orbits, the back of the head.  The cut is
flat, so that what is left does not repeat the face's shape at a depth.  The cut's form is that of facial-mask
defacers (pydeface; Bischoff-Grethe 2007, doi:10.1002/hbm.20312), the idea of placing it from the brain that of
Quickshear (Schimke & Hale 2011).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.deid.pixels.heads import GRID_MM, DefaceRefused, Mask, brain_of, head_of, to_patient_grid

__all__ = ["DefaceRefused", "Defaced", "deface"]

BRAIN_MARGIN_MM = 8.0
FACE_DEPTH_MM = 40.0
EAR_SHELL_MM = 8.0
_EARS_END = 0.72
"""Of the head's length from the front: behind it is the neck."""
_EAR_HALF_LONG_MM = 20.0
_EARS_ABOVE_BROW_MM = 16.0
_FACE_TALL_MM = 110.0
_FACE_HALF_WIDE_MM = 45.0
_LEAST_FACE_REMOVED = 0.95
_LEAST_IN_VIEW_MM = 5.0
_MODALITIES = frozenset({"CT", "MR"})


@dataclass(frozen=True)
class Defaced:
    """What to remove from a scan.

    ``face_in_view``: False where the scan ends above the eyes, so that nothing is removed.
    ``surface_removed``: part of the face's visible surface that goes, 0..1 (1 where none is in view).
    """

    face_in_view: bool
    surface_removed: float
    _removed: Mask
    _to_index: NDArray[np.float64]
    _shape: tuple[int, int, int]

    def mask_for(self, start: int, stop: int) -> Mask:
        """True where a voxel is to be removed: slices ``start`` up to ``stop``, (z, y, x), full resolution."""
        _, rows, columns = self._shape
        out = np.zeros((stop - start, rows, columns), bool)
        if not self._removed.any():
            return out
        y, x = np.arange(rows)[:, np.newaxis], np.arange(columns)
        for z in range(start, stop):
            places = []
            for axis in range(3):
                a, b, c, d = self._to_index[axis]
                index = np.rint(a * z + b * y + c * x + d).astype(np.int32)
                places.append(np.clip(index, 0, self._removed.shape[axis] - 1))
            out[z - start] = self._removed[tuple(places)]
        return out


def deface(
    volume: Any,
    affine: NDArray[np.float64],
    modality: str,
    *,
    slope: float = 1.0,
    intercept: float = 0.0,
) -> Defaced:
    """Find the face in ``volume``: (z, y, x) stored values, anything that gives one slice for ``volume[z]``.

    ``affine`` (4, 4): (z, y, x, 1) → LPS in mm, of any orientation.  CT needs ``slope`` and ``intercept`` to
    Hounsfield units.  Memory: one slice, and the scan at 2 mm in 32 bits a few times over.

    Raises :class:`DefaceRefused` (``deface-uncertain``) where head, brain or face were not found with confidence;
    such a scan has to be held for a person or refused.
    """
    if modality not in _MODALITIES:
        raise DefaceRefused("only CT and MR can be defaced")
    ct = modality == "CT"
    affine = np.asarray(affine, np.float64)
    grid = to_patient_grid(volume, slope, intercept, affine)
    head = head_of(grid.values, ct=ct)
    brain = brain_of(grid.values, head, ct=ct)
    to_index = grid.to_index @ affine
    shape = (int(volume.shape[0]), int(volume.shape[1]), int(volume.shape[2]))
    lowest, brow = _frontal_levels(brain)
    in_view = np.flatnonzero(np.isfinite(grid.values).any(axis=(1, 2)))
    # A scan through the frontal lobes ends above the orbits.
    if (lowest - int(in_view[0])) * GRID_MM < _LEAST_IN_VIEW_MM:
        return Defaced(False, 1.0, np.zeros_like(head), to_index, shape)
    removed = _face(head, brain, brow) | _ears(head, brain, brow)
    part = _surface_removed(head, removed, brain, brow)
    if part < _LEAST_FACE_REMOVED:
        raise DefaceRefused("part of the face would be left")
    return Defaced(True, part, removed, to_index, shape)


def _frontal_levels(brain: Mask) -> tuple[int, int]:
    """Indices along s at the under side of the frontal lobes near their front: the lowest, and the orbits' roof."""
    levels, fronts, _ = np.nonzero(brain)
    front = float(np.percentile(fronts, 0.5))
    lobe = levels[fronts <= front + 24 / GRID_MM]
    return int(lobe.min()), int(np.percentile(lobe, 3))


def _face(head: Mask, brain: Mask, brow: int) -> Mask:
    surface = _front(head[max(0, brow - 2) : brow + 3].any(axis=0))
    middle = _middle(brain)
    half = int(30 / GRID_MM)
    near = surface[max(0, middle - half) : middle + half]
    near = near[near >= 0]
    if not near.size:
        raise DefaceRefused("no skin was found at the brow")
    plane = int(np.percentile(near, 10) + FACE_DEPTH_MM / GRID_MM)
    removed = np.zeros_like(head)
    removed[: brow + int(4 / GRID_MM) + 1, : plane + 1] = True
    return removed & ~_protected(brain)


def _ears(head: Mask, brain: Mask, brow: int) -> Mask:
    """A shell of the head's sides with the ears, from the brow to the chin, and the air beside it."""
    from scipy import ndimage

    low = max(0, brow - int(_FACE_TALL_MM / GRID_MM))
    sides = np.zeros_like(head)
    # The head without its ears: what is left when all that is narrower than an ear is long is cut off, level by level.
    for level in range(low, min(head.shape[0], brow + int(_EARS_ABOVE_BROW_MM / GRID_MM) + 1)):
        trunk = _opened(head[level], _EAR_HALF_LONG_MM / GRID_MM)
        if not trunk.any():
            continue
        core = ndimage.distance_transform_edt(np.pad(trunk, 1))[1:-1, 1:-1] * GRID_MM > EAR_SHELL_MM
        if core.any():
            front, back = (int(index) for index in np.flatnonzero(trunk.any(axis=1))[[0, -1]])
            behind = front + round(_EARS_END * (back - front))
            sides[level, front:behind] = ~_between(core)[front:behind]
    return sides & ~_protected(brain)


def _between(mask: Mask) -> Mask:
    """From the first to the last of each row."""
    return np.asarray(np.maximum.accumulate(mask, 1) & np.maximum.accumulate(mask[:, ::-1], 1)[:, ::-1], bool)


def _opened(level: Mask, radius: float) -> Mask:
    from scipy import ndimage

    inner = ndimage.distance_transform_edt(np.pad(level, 1))[1:-1, 1:-1] > radius
    if not inner.any():
        return np.zeros_like(level)
    return np.asarray(ndimage.distance_transform_edt(~inner) <= radius, bool)


def _protected(brain: Mask) -> Mask:
    from scipy import ndimage

    return np.asarray(ndimage.distance_transform_edt(~brain) * GRID_MM <= BRAIN_MARGIN_MM, bool)


def _middle(brain: Mask) -> int:
    return int(np.median(np.nonzero(brain)[2]))


def _front(plan: Mask) -> NDArray[np.int64]:
    """The most anterior index of each column of a plan (p, l); -1 where there is none."""
    return np.where(plan.any(axis=0), plan.argmax(axis=0), -1)


def _surface_removed(head: Mask, removed: Mask, brain: Mask, brow: int) -> float:
    """Of the rays from the front that meet the head where a face is, the part whose first voxel goes."""
    middle, half = _middle(brain), int(_FACE_HALF_WIDE_MM / GRID_MM)
    levels = slice(max(0, brow - int(_FACE_TALL_MM / GRID_MM)), brow + 1)
    columns = slice(max(0, middle - half), middle + half)
    seen, gone = head[levels, :, columns], removed[levels, :, columns]
    first = seen.argmax(axis=1)
    met = seen.any(axis=1)
    if not met.any():
        return 1.0
    hit = np.take_along_axis(gone, first[:, np.newaxis, :], axis=1)[:, 0, :]
    return float(hit[met].mean())
