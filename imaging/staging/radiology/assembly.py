"""Instances of one series → ordered volumes, by geometry alone: not by file name or instance number.

Pure: no file, no key.  Coordinates are LPS millimetres (PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.staging.radiology.headers import Coordinate, FrameHeader, InstanceHeader

ORIENTATION_TOLERANCE = 1e-3
"""Direction cosines written with three decimals are still one orientation."""
POSITION_TOLERANCE_MM = 1e-2
"""Slices nearer than this along the normal lie at one position."""
SPACING_TOLERANCE = 0.02
"""Relative deviation of a gap from the median gap up to which slices are evenly spaced."""


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
class Volume:
    """Slices in order: ``slices[t][z]``, z ascending along the normal.  Every t has the same positions."""

    slices: tuple[tuple[Slice, ...], ...]
    origin_mm: tuple[float, float, float]
    row_direction: tuple[float, float, float]
    """Direction in which the column index (x) grows."""
    column_direction: tuple[float, float, float]
    """Direction in which the row index (y) grows."""
    step_mm: tuple[float, float, float]
    """From one slice to the next; not parallel to the normal where the gantry was tilted."""
    spacing_mm: tuple[float, float, float]
    """(z, y, x); z is measured along the normal."""
    uniform: bool
    """Whether slices are evenly spaced; otherwise only the positions tell where each lies."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x), or (t, z, y, x) with more than one time."""
        first = self.slices[0][0].instance.header
        space = (len(self.slices[0]), first.rows, first.columns)
        return space if len(self.slices) == 1 else (len(self.slices), *space)

    @property
    def positions_mm(self) -> list[tuple[float, float, float]]:
        """Image Position (Patient) of each z."""
        return [_position(slice_) for slice_ in self.slices[0]]

    @property
    def tilted(self) -> bool:
        """Whether slices are sheared against each other, as under a tilted gantry."""
        normal = np.cross(self.row_direction, self.column_direction)
        step = np.asarray(self.step_mm)
        return bool(np.linalg.norm(step - step.dot(normal) * normal) > 10 * POSITION_TOLERANCE_MM)

    def all_slices(self) -> list[Slice]:
        """All slices, t-major."""
        return [slice_ for time in self.slices for slice_ in time]


@dataclass(frozen=True, slots=True)
class Assembled:
    """``refused``: item number → reason code."""

    volumes: tuple[Volume, ...]
    refused: dict[int, str]


def assemble(instances: Sequence[Instance]) -> Assembled:
    """Split one series into volumes and order each; the result does not depend on the order given.

    Split by pixel format, size, frame of reference, spacing, orientation, image type, echo, kernel, stack.
    Repeated positions become a time axis if every position repeats equally often, else volumes of their own.
    """
    refused: dict[int, str] = {}
    slices: list[Slice] = []
    taken: set[str] = set()
    for instance in sorted(instances, key=lambda one: one.number):
        if instance.header.sop_instance in taken:
            refused[instance.number] = "duplicate-instance"
            continue
        fault = _geometry_fault(instance.header)
        if fault is not None:
            refused[instance.number] = fault
            continue
        taken.add(instance.header.sop_instance)
        slices.extend(Slice(instance, frame) for frame in range(len(instance.header.frames)))
    volumes: list[Volume] = []
    for group in _split(slices):
        volumes.extend(_volumes(group))
    volumes.sort(key=_volume_key)
    return Assembled(tuple(volumes), refused)


def _geometry_fault(header: InstanceHeader) -> str | None:
    for frame in header.frames:
        if frame.position_mm is None or frame.orientation is None or frame.spacing_mm is None:
            return "geometry-missing"
        row, column = np.asarray(frame.orientation[:3]), np.asarray(frame.orientation[3:])
        lengths = (float(np.linalg.norm(row)), float(np.linalg.norm(column)))
        if any(abs(length - 1) > 1e-2 for length in lengths) or abs(float(row.dot(column))) > 1e-2:
            return "geometry-invalid"
        if not all(0 < spacing < 1000 for spacing in frame.spacing_mm):
            return "geometry-invalid"
        if max(map(abs, frame.position_mm)) > 1e5:
            return "geometry-invalid"
    return None


def _split(slices: list[Slice]) -> list[list[Slice]]:
    exact: dict[Any, list[Slice]] = defaultdict(list)
    for slice_ in slices:
        header, frame = slice_.instance.header, slice_.header
        assert frame.spacing_mm is not None
        exact[
            (
                header.frame_of_reference,
                header.rows,
                header.columns,
                header.bits_allocated,
                header.signed,
                header.photometric,
                tuple(round(spacing, 4) for spacing in frame.spacing_mm),
                frame.split,
            )
        ].append(slice_)
    groups: list[list[Slice]] = []
    for _, members in sorted(exact.items(), key=lambda pair: repr(pair[0])):
        groups.extend(_by_orientation(members))
    return groups


def _by_orientation(slices: list[Slice]) -> list[list[Slice]]:
    """Group by nearness to the first slice of a group: rounding alone would split values at a boundary."""
    groups: list[tuple[NDArray[np.float64], list[Slice]]] = []
    for slice_ in slices:
        orientation = np.asarray(slice_.header.orientation, dtype=np.float64)
        for reference, members in groups:
            if np.abs(reference - orientation).max() <= ORIENTATION_TOLERANCE:
                members.append(slice_)
                break
        else:
            groups.append((orientation, [slice_]))
    return [members for _, members in groups]


def _volumes(slices: list[Slice]) -> list[Volume]:
    orientation = np.asarray(slices[0].header.orientation, dtype=np.float64)
    normal = np.cross(orientation[:3], orientation[3:])
    places: list[tuple[float, list[Slice]]] = []
    for distance, slice_ in sorted(
        ((float(np.dot(normal, _position(one))), one) for one in slices),
        key=lambda pair: (pair[0], _order_key(pair[1])),
    ):
        if places and distance - places[-1][0] <= POSITION_TOLERANCE_MM:
            places[-1][1].append(slice_)
        else:
            places.append((distance, [slice_]))
    for _, members in places:
        members.sort(key=_order_key)
    repeats = Counter(len(members) for _, members in places)
    if len(repeats) == 1:
        (count,) = repeats
        return [_volume(tuple(tuple(members[time] for _, members in places) for time in range(count)))]
    # Uneven repeats: the nth image of each position that has one, each such set a volume of its own.
    ranks = range(max(repeats))
    return [
        _volume((tuple(members[rank] for _, members in places if len(members) > rank),)) for rank in ranks
    ]


def _volume(slices: tuple[tuple[Slice, ...], ...]) -> Volume:
    first = slices[0][0]
    orientation = np.asarray(first.header.orientation, dtype=np.float64)
    row = orientation[:3] / np.linalg.norm(orientation[:3])
    column = orientation[3:] / np.linalg.norm(orientation[3:])
    normal = np.cross(row, column)
    positions = np.asarray([_position(one) for one in slices[0]], dtype=np.float64)
    assert first.header.spacing_mm is not None
    between_rows, between_columns = first.header.spacing_mm
    if len(positions) == 1:
        gap = _thickness(first)
        step, uniform = normal * gap, True
    else:
        gaps = np.diff(positions @ normal)
        gap = float(np.median(gaps))
        step = (positions[-1] - positions[0]) / (len(positions) - 1)
        expected = positions[0] + np.arange(len(positions))[:, None] * step
        allowed = max(SPACING_TOLERANCE * gap, POSITION_TOLERANCE_MM)
        uniform = bool(
            np.abs(gaps - gap).max() <= allowed and np.abs(positions - expected).max() <= 10 * allowed
        )
        if uniform:
            gap = float(step @ normal)
    return Volume(
        slices=slices,
        origin_mm=_triple(positions[0]),
        row_direction=_triple(row),
        column_direction=_triple(column),
        step_mm=_triple(step),
        spacing_mm=(round(gap, 6), between_rows, between_columns),
        uniform=uniform,
    )


def _thickness(slice_: Slice) -> float:
    """A single slice's extent: what the header says of it, else 1 mm."""
    for keyword in ("SliceThickness", "SpacingBetweenSlices"):
        value = slice_.instance.header.attributes.get(keyword)
        if isinstance(value, int | float) and 0 < value < 1000:
            return float(value)
    return 1.0


def _position(slice_: Slice) -> tuple[float, float, float]:
    position = slice_.header.position_mm
    assert position is not None
    return position


_ORDER: tuple[Coordinate, ...] = (
    "temporal-position",
    "b-value",
    "trigger-time-ms",
    "acquisition-number",
    "instance-number",
    "frame-number",
)


def _order_key(slice_: Slice) -> tuple[Any, ...]:
    told = slice_.header.coordinates
    return (*(told.get(name, 0.0) for name in _ORDER), slice_.instance.header.sop_instance, slice_.frame)


def _volume_key(volume: Volume) -> tuple[Any, ...]:
    """Largest first, then by geometry and instance: numbering volumes of a series is stable over runs."""
    first = volume.slices[0][0]
    return (
        -int(np.prod(volume.shape)),
        tuple(round(part, 3) for part in volume.origin_mm),
        first.instance.header.sop_instance,
        first.frame,
    )


def _triple(vector: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(part) for part in vector)
    return (x, y, z)
