"""Instances of one series → ordered volumes, by geometry alone: not by file name or instance number.

Pure: no file, no key.  Coordinates are LPS millimetres (PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imaging.staging.radiology.frames import Frames, Indices, near, runs
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.radiology.repeats import TOLERANCE, Grid, arrange, contrasts
from imaging.staging.radiology.sop_classes import EACH_BY_ITSELF, NATURES
from imaging.staging.radiology.stacks import geometry_of, places, side_by_side
from imaging.staging.radiology.volume import AxisT, Instance, Slice, Volume

ORIENTATION_TOLERANCE = 1e-3
"""Direction cosines written with three decimals are still one orientation."""
IN_PLANE_SPACING_TOLERANCE_MM = 1e-4
_FEWEST = 3
"""Slices that a stack must have before even spacing says that it belongs together."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """``refused``: item number → reason code.  ``notes``: what happened to the series as a whole, counted."""

    volumes: tuple[Volume, ...]
    refused: dict[int, str]
    notes: Counter[str]


def assemble(instances: Sequence[Instance]) -> Assembled:
    """Split one series into volumes and order each; the result does not depend on the order given.

    Split by object kind, pixel format, size, frame of reference, spacing, orientation, image type, kernel, stack,
    echo, tube voltage, and by acquisition where this makes even stacks of uneven ones.  Repeated positions become an
    axis t (:mod:`repeats`).  Frames without a place in the patient are images of their own, or a cine.
    """
    refused: dict[int, str] = {}
    taken: dict[str, Instance] = {}
    for instance in sorted(instances, key=lambda one: one.number):
        if instance.header.sop_instance in taken:
            refused[instance.number] = "duplicate-instance"
        else:
            taken[instance.header.sop_instance] = instance
    notes: Counter[str] = Counter()
    volumes: list[Volume] = []
    for _, group in sorted(_alike(taken.values()).items(), key=lambda pair: repr(pair[0])):
        volumes += _group(group, notes)
    if len({one.header.frame_of_reference for one in taken.values()} - {""}) > 1:
        notes["several-frames-of-reference"] += 1
    if len(volumes) > 1:
        notes["split-series"] += 1
    volumes.sort(key=_volume_key)
    return Assembled(tuple(volumes), refused, Counter(dict.fromkeys(notes, 1)))


def _alike(instances: Iterable[Instance]) -> dict[Any, list[Slice]]:
    """Frames by what must be equal within one array, in an order that file names have no part in."""
    found: dict[Any, list[Slice]] = defaultdict(list)
    for instance in sorted(instances, key=lambda one: one.header.sop_instance):
        header = instance.header
        key = _pixel_format(header)
        for number, frame in enumerate(header.frames):
            found[(*key, frame.split)].append(Slice(instance, number))
    return found


def _pixel_format(header: InstanceHeader) -> tuple[Any, ...]:
    nature = NATURES.get(header.sop_class, "projection")
    lut = header.modality_lut
    return (
        nature,
        header.sop_instance if nature in EACH_BY_ITSELF else "",
        header.frame_of_reference,
        header.rows,
        header.columns,
        header.samples,
        header.value_type,
        header.bits_allocated,
        header.signed,
        header.photometric if header.samples == 1 else "RGB",
        None if lut is None else (lut.first, hash(lut.values)),
    )


def _group(slices: list[Slice], notes: Counter[str]) -> list[Volume]:
    frames = Frames.of(slices)
    placed, believable = frames.placed, frames.believable
    volumes = _unplaced(frames.take(~placed), "geometry-missing")
    volumes += _unplaced(frames.take(placed & ~believable), "geometry-invalid")
    there = frames.take(placed & believable)
    if len(there) == 0:
        return volumes
    for one_size in there.parts(near(there.spacing, IN_PLANE_SPACING_TOLERANCE_MM)):
        for parallel in one_size.parts(near(one_size.orientation, ORIENTATION_TOLERANCE)):
            volumes += _parallel(parallel, notes)
    return volumes


def _unplaced(frames: Frames, why: str) -> list[Volume]:
    """A single image by itself; frames of one instance as a sequence in stored order."""
    by_instance: dict[int, list[int]] = defaultdict(list)
    for index, one in enumerate(frames.slices):
        by_instance[one.instance.number].append(index)
    volumes = []
    for indices in by_instance.values():
        header = frames.slices[indices[0]].instance.header
        expected = why == "geometry-invalid" or NATURES.get(header.sop_class) != "projection"
        uncut = why == "geometry-missing" and "MOSAIC" in header.image_type and len(header.frames) == 1
        noted = ("mosaic-uncut",) if uncut else (why,) if expected else ()
        sequence = sorted(indices, key=lambda index: frames.slices[index].frame)
        ordered = tuple((frames.slices[index],) for index in sequence)
        axis = _stored_order(frames.take(sequence)) if len(ordered) > 1 else None
        volumes.append(Volume(ordered, None, axis, (*noted, *(("cine",) if axis else ()))))
    return volumes


def _stored_order(frames: Frames) -> AxisT:
    """Time since the first frame where it is told and ascends, else a count."""
    times = frames.coordinates.get("time-offset-ms")
    if times is not None and (np.diff(times) > 0).all():
        return AxisT("time-offset-ms", "millisecond", tuple(float(time) for time in times))
    return AxisT("index", "", tuple(float(number) for number in range(len(frames))))


def _parallel(frames: Frames, notes: Counter[str]) -> list[Volume]:
    """Frames of one orientation and size."""
    place = places(frames)
    beside = side_by_side(frames, place)
    if beside.any():
        notes["in-plane-offset"] += 1
        return [one for part in frames.parts(beside) for one in _stack(part, places(part), notes)]
    return _stack(frames, place, notes)


def _stack(frames: Frames, place: Indices, notes: Counter[str]) -> list[Volume]:
    parted = contrasts(frames, place)
    if parted is not None:
        labels, note = parted
        notes[note] += 1
        return [one for part in frames.parts(labels) for one in _stack(part, places(part), notes)]
    if len(set(place)) < len(frames):
        arranged = arrange(frames, place)
        notes.update(arranged.notes)
        grids = list(arranged.grids)
    else:
        grids = [Grid(np.argsort(place, kind="stable")[None, :], None)]
    return [volume for grid in grids for volume in _even(frames, grid, notes)]


def _even(frames: Frames, grid: Grid, notes: Counter[str]) -> list[Volume]:
    """The volume of a grid; or the volumes of an uneven stack, if a coordinate parts it into even ones.

    So two passes over one range whose slices do not coincide, and times between which positions moved.
    """
    volume = _volume(frames, grid)
    assert volume.geometry is not None
    if volume.geometry.uniform or len(grid.cells) > 1:
        return [volume]
    column = grid.cells[0]
    for name, tolerance in TOLERANCE.items():
        values = frames.coordinates.get(name)
        if values is None or not np.isfinite(values[column]).all():
            continue
        labels = runs(values[column], tolerance)
        sizes = np.bincount(labels)
        if len(sizes) == 1 or sizes.min() < _FEWEST:
            continue
        parts = [_volume(frames, Grid(column[labels == label][None, :], None)) for label in range(len(sizes))]
        if all(part.geometry is not None and part.geometry.uniform for part in parts):
            notes["interleaved-stacks"] += 1
            return parts
    return [volume]


def _volume(frames: Frames, grid: Grid) -> Volume:
    geometry, assumed = geometry_of(frames, grid.cells[0])
    slices = tuple(tuple(frames.slices[index] for index in time) for time in grid.cells)
    noted = []
    if assumed:
        noted.append("thickness-assumed")
    if not geometry.uniform:
        noted.append("uneven-spacing")
    elif geometry.tilted:
        noted.append("tilted")
    if grid.axis_t is not None:
        noted.append("time-axis")
    if not slices[0][0].instance.header.frame_of_reference:
        noted.append("frame-of-reference-missing")
    return Volume(slices, geometry, grid.axis_t, tuple(noted))


def _volume_key(volume: Volume) -> tuple[Any, ...]:
    """Largest first, then by geometry and instance: numbering volumes of a series is stable over runs."""
    first = volume.slices[0][0]
    origin = () if volume.geometry is None else volume.geometry.origin_mm
    return (
        -int(np.prod(volume.shape)),
        tuple(round(part, 3) for part in origin),
        first.instance.header.sop_instance,
        first.frame,
    )
