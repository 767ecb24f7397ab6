"""What assembling makes of a series: frames in order, where they lie, and what varies along t."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.staging.radiology.headers import Coordinate, FrameHeader, InstanceHeader
from imaging.staging.radiology.sop_classes import NATURES

TILT_TOLERANCE_MM = 0.1
"""Slices shifted against each other by less than this a step are not called tilted."""

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Instance:
    """A checked header with its item number (row of the inventory, from 1)."""

    number: int
    header: InstanceHeader


@dataclass(frozen=True, slots=True)
class Slice:
    """One frame of a volume."""

    instance: Instance
    frame: int

    @property
    def header(self) -> FrameHeader:
        return self.instance.header.frames[self.frame]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a volume lies: LPS millimetres (PS3.3 C.7.6.2.1.1); z ascends along row × column, so that the axes
    x, y, z are right-handed."""

    origin_mm: Triple
    row_direction: Triple
    """Direction in which the column index (x) grows."""
    column_direction: Triple
    """Direction in which the row index (y) grows."""
    step_mm: Triple
    """From one slice to the next; not parallel to the normal where the gantry was tilted."""
    spacing_mm: Triple
    """(z, y, x); z is measured along the normal, and the median of slices that are not evenly spaced."""
    uniform: bool
    """Whether slices are evenly spaced; otherwise only the positions tell where each lies."""
    positions_mm: tuple[Triple, ...]
    """Centre of the first voxel of each z."""

    @property
    def one_spacing_mm(self) -> tuple[float | None, float, float]:
        """(z, y, x), z None where no one number holds between all slices."""
        z, y, x = self.spacing_mm
        return (z if self.uniform else None, y, x)

    @property
    def gaps_mm(self) -> NDArray[np.float64]:
        """(z - 1,) from each slice to the next, along the normal."""
        return np.diff(np.asarray(self.positions_mm) @ self.normal)

    @property
    def normal(self) -> NDArray[np.float64]:
        return np.cross(self.row_direction, self.column_direction)

    @property
    def tilted(self) -> bool:
        """Whether slices are sheared against each other, as under a tilted gantry."""
        step = np.asarray(self.step_mm)
        return bool(np.linalg.norm(step - step.dot(self.normal) * self.normal) > TILT_TOLERANCE_MM)

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4): voxel (z, y, x, 1) → LPS millimetres."""
        _, y, x = self.spacing_mm
        affine = np.eye(4)
        affine[:3, 0] = self.step_mm
        affine[:3, 1] = np.asarray(self.column_direction) * y
        affine[:3, 2] = np.asarray(self.row_direction) * x
        affine[:3, 3] = self.origin_mm
        return affine


@dataclass(frozen=True, slots=True)
class AxisT:
    """What the axis t means: one value a t.  ``beside``: what else varies with t, e.g. gradient directions."""

    meaning: str
    unit: str
    values: tuple[float, ...]
    beside: tuple[AxisT, ...] = ()
    per_slice: bool = False
    """Each slice has a value of its own: these are the first of each t."""


@dataclass(frozen=True, slots=True)
class Volume:
    """Frames in order: ``slices[t][z]``.  Every t has the same positions.

    Without ``geometry`` the frames have no place in the patient: one z, which is no axis of the array.
    """

    slices: tuple[tuple[Slice, ...], ...]
    geometry: Geometry | None
    axis_t: AxisT | None = None
    notes: tuple[str, ...] = ()

    @property
    def header(self) -> InstanceHeader:
        """Of the first instance; size and pixel format are those of all."""
        return self.slices[0][0].instance.header

    @property
    def nature(self) -> str:
        return NATURES.get(self.header.sop_class, "projection")

    @property
    def axes(self) -> str:
        """Names of the array's axes, slowest first, in NGFF's order: some of ``tczyx``."""
        return "".join(
            (
                "t" if self.axis_t is not None else "",
                "c" if self.header.samples > 1 else "",
                "z" if self.geometry is not None else "",
                "yx",
            )
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """In the order of :attr:`axes`."""
        sizes = {
            "t": len(self.slices),
            "c": self.header.samples,
            "z": len(self.slices[0]),
            "y": self.header.rows,
            "x": self.header.columns,
        }
        return tuple(sizes[name] for name in self.axes)

    def all_slices(self) -> list[Slice]:
        """All slices, t-major."""
        return [slice_ for time in self.slices for slice_ in time]


UNITS: dict[Coordinate, tuple[str, str]] = {
    "temporal-position": ("temporal-position", ""),
    "time-offset-ms": ("time-offset-ms", "millisecond"),
    "trigger-time-ms": ("trigger-time-ms", "millisecond"),
    "cardiac-phase-percent": ("cardiac-phase-percent", "percent"),
    "respiratory-phase-percent": ("respiratory-phase-percent", "percent"),
    "b-value": ("b-value", "second/millimeter^2"),
    "gradient-x": ("gradient-x", ""),
    "gradient-y": ("gradient-y", ""),
    "gradient-z": ("gradient-z", ""),
    "echo-time-ms": ("echo-time-ms", "millisecond"),
    "tube-voltage-kv": ("tube-voltage-kv", "kilovolt"),
    "inversion-time-ms": ("inversion-time-ms", "millisecond"),
    "flip-angle-deg": ("flip-angle-deg", "degree"),
    "repetition-time-ms": ("repetition-time-ms", "millisecond"),
    "acquisition-number": ("acquisition", ""),
    "acquisition-time-s": ("time-s", "second"),
    "content-time-s": ("content-time-s", "second"),
    "mosaic-number": ("index", ""),
    "instance-number": ("index", ""),
    "frame-number": ("index", ""),
}
"""What ``axis_t`` calls a coordinate, and its unit (UDUNITS, as NGFF wants)."""
