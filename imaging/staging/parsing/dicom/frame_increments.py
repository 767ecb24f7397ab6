"""Frames of multi-frame objects without functional groups: doses, nuclear medicine, cine (PS3.3 C.7.6.6)."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from imaging.staging.parsing.dicom.values import first, number, numbers, vector
from imaging.staging.radiology.headers import Coordinate, FrameHeader


def increment_frames(dataset: Dataset, count: int, whole: FrameHeader) -> list[FrameHeader]:
    """One header a frame.  Without a rule for its place a frame has none: the object has but one position."""
    positions = _dose_positions(dataset, count, whole)
    orientation: tuple[float, ...] | None = whole.orientation
    if positions is None and _vector(dataset, "SliceVector", count) is not None:
        positions, orientation = _nuclear_positions(dataset, count, whole)
    times = _times(dataset, count)
    slots = _slots(dataset, count)
    splits = _splits(dataset, count)
    frames = []
    for index in range(count):
        coordinates: dict[Coordinate, float] = dict(whole.coordinates) | {"frame-number": index + 1.0}
        if times is not None:
            coordinates["time-offset-ms"] = times[index]
        coordinates |= slots[index]
        frames.append(
            whole.model_copy(
                update={
                    "position_mm": None if positions is None else positions[index],
                    "orientation": None if positions is None else orientation,
                    "coordinates": coordinates,
                    "split": (*whole.split, splits[index]),
                }
            )
        )
    return frames


def _vector(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    found = numbers(dataset, keyword)
    return found if found is not None and len(found) == count else None


Positions = list[tuple[float, float, float]] | None


def _dose_positions(dataset: Dataset, count: int, whole: FrameHeader) -> Positions:
    """Grid Frame Offset Vector (C.8.8.3.2): offsets along the normal from the position, or, where it does not
    begin with 0, z coordinates of the patient."""
    offsets = _vector(dataset, "GridFrameOffsetVector", count)
    if offsets is None or whole.position_mm is None or whole.orientation is None:
        return None
    first_place = np.asarray(whole.position_mm)
    direction = (
        np.cross(whole.orientation[:3], whole.orientation[3:])
        if offsets[0] == 0
        else np.array([0.0, 0.0, 1.0])
    )
    return _placed(first_place, direction, np.asarray(offsets) - offsets[0])


def _nuclear_positions(
    dataset: Dataset, count: int, whole: FrameHeader
) -> tuple[Positions, tuple[float, ...] | None]:
    """Reconstructed slices (C.8.4.10, C.8.4.15): the detector's position is that of slice 1."""
    detector = first(dataset, "DetectorInformationSequence") or Dataset()
    corner = vector(detector, "ImagePositionPatient", 3) or whole.position_mm
    orientation = vector(detector, "ImageOrientationPatient", 6) or whole.orientation
    gap = number(dataset, "SpacingBetweenSlices") or number(dataset, "SliceThickness")
    slices = _vector(dataset, "SliceVector", count)
    if corner is None or orientation is None or not gap or slices is None:
        return None, None
    normal = np.cross(orientation[:3], orientation[3:])
    return _placed(np.asarray(corner), normal, (np.asarray(slices) - 1) * gap), orientation


def _placed(corner: NDArray[Any], direction: NDArray[Any], offsets: NDArray[Any]) -> Positions:
    return [(float(x), float(y), float(z)) for x, y, z in corner + offsets[:, None] * direction]


def _times(dataset: Dataset, count: int) -> list[float] | None:
    """Milliseconds since the first frame: Frame Time Vector, else Frame Time (C.7.6.5)."""
    steps = _vector(dataset, "FrameTimeVector", count)
    if steps is not None:
        return [total - steps[0] for total in accumulate(steps)]
    step = number(dataset, "FrameTime")
    if step and step > 0 and count > 1:
        return [index * step for index in range(count)]
    return None


def _slots(dataset: Dataset, count: int) -> list[dict[Coordinate, float]]:
    """Where in time a nuclear medicine frame belongs: gated time slots, dynamic phases and their slices."""
    found: list[dict[Coordinate, float]] = [{} for _ in range(count)]
    slots = _vector(dataset, "TimeSlotVector", count)
    if slots is not None:
        gate = first(dataset, "GatedInformationSequence") or Dataset()
        step = number(first(gate, "DataInformationSequence") or Dataset(), "FrameTime")
        for index, slot in enumerate(slots):
            found[index]["temporal-position"] = slot
            if step and step > 0:
                found[index]["trigger-time-ms"] = (slot - 1) * step
        return found
    phases, within = _vector(dataset, "PhaseVector", count), _vector(dataset, "TimeSliceVector", count)
    if within is not None:
        most = max(within)
        for index in range(count):
            found[index]["temporal-position"] = ((phases[index] - 1) * most if phases else 0) + within[index]
    elif phases is not None:
        for index, phase in enumerate(phases):
            found[index]["temporal-position"] = phase
    return found


def _splits(dataset: Dataset, count: int) -> list[str]:
    """Energy window, detector and R-R interval: images of their own."""
    names = ("EnergyWindowVector", "DetectorVector", "RRIntervalVector")
    vectors = [found for name in names if (found := _vector(dataset, name, count)) is not None]
    return ["/".join(f"{part:g}" for part in parts) for parts in zip(*vectors, strict=True)] or [""] * count
