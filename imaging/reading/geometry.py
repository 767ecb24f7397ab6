"""Where a volume lies in the patient: DICOM's LPS millimetres, in ITK's and in the array's order of axes.

PS3.3 C.7.6.2.1.1 (Image Plane) gives position and orientation of a slice; a volume's affine is those of its first
slice, and the step from slice to slice, which need not stand square on them (gantry tilt).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """Voxel indices → world, centres of voxels, millimetres, LPS (x to the left, y to the back, z to the head).

    ``affine_zyx`` (4, 4) takes (z, y, x, 1).  Where ``uniform`` is false it holds at z = 0 only, and
    ``positions`` (z, 3), the centre of each slice's first voxel, tells the rest: use :meth:`world`.
    ``tilted``: slices are sheared against each other, so directions are not orthogonal.
    """

    affine_zyx: Floats
    positions: Floats
    uniform: bool
    tilted: bool

    @property
    def affine_xyz(self) -> Floats:
        """The same for (x, y, z, 1), the order of ITK's and NIfTI's indices."""
        return self.affine_zyx[:, [2, 1, 0, 3]]

    @property
    def affine_ras_xyz(self) -> Floats:
        """For (x, y, z, 1) to RAS, as NIfTI and nibabel have it: x and y point the other way."""
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ self.affine_xyz

    @property
    def origin(self) -> Floats:
        """(3,) centre of the first voxel, as ITK's ``GetOrigin()``."""
        return self.affine_zyx[:3, 3]

    @property
    def spacing_xyz(self) -> Floats:
        """(3,) as ITK's ``GetSpacing()``; along z the median where ``uniform`` is false: see :attr:`gaps`."""
        return np.asarray(np.linalg.norm(self.affine_xyz[:3, :3], axis=0), dtype=np.float64)

    @property
    def gaps(self) -> Floats:
        """(z - 1,) millimetres from each slice to the next, along their normal."""
        normal = np.cross(self.affine_xyz[:3, 0], self.affine_xyz[:3, 1])
        return np.asarray(np.diff(self.positions @ (normal / np.linalg.norm(normal))), dtype=np.float64)

    @property
    def direction(self) -> Floats:
        """(3, 3), unit columns along x, y, z of the volume, as ITK's ``GetDirection()`` reshaped."""
        return self.affine_xyz[:3, :3] / self.spacing_xyz

    def world(self, zyx: Any) -> Floats:
        """(…, 3) voxel indices in the array's order → (…, 3) LPS millimetres.

        Between slices that are not evenly spaced it interpolates; outside them it goes on by the affine's step.
        """
        index = np.asarray(zyx, dtype=np.float64)
        in_plane = index[..., 1:] @ self.affine_zyx[:3, 1:3].T
        if self.uniform or len(self.positions) < 2:
            return np.asarray(in_plane + index[..., :1] * self.affine_zyx[:3, 0] + self.origin)
        place = index[..., 0]
        last = len(self.positions) - 1
        inside = np.clip(place, 0, last)
        origins = np.stack(
            [np.interp(inside, np.arange(last + 1), self.positions[:, axis]) for axis in range(3)], axis=-1
        )
        return np.asarray(origins + (place - inside)[..., None] * self.affine_zyx[:3, 0] + in_plane)


def geometry_of(ours: Mapping[str, Any]) -> Geometry | None:
    """From a series' attributes in our namespace; None where the images state no place in the patient."""
    affine = ours.get("affine_lps_mm")
    if affine is None:
        return None
    positions = np.asarray(ours.get("slice_positions_mm") or [], dtype=np.float64).reshape(-1, 3)
    return Geometry(
        np.asarray(affine, dtype=np.float64),
        positions,
        bool(ours.get("uniform_spacing", True)),
        bool(ours.get("tilted", False)),
    )
