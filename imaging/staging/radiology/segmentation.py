"""DICOM Segmentation and Label Map Segmentation → a label array on the grid of the images it was drawn on.

A segmentation stores only the frames in which a segment is; here each frame is put at its slice, the others stay
empty.  PS3.3 C.8.20.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from imaging.deid.codes import is_public
from imaging.staging.radiology.assembly import ORIENTATION_TOLERANCE
from imaging.staging.radiology.frames import Floats, Frames, Indices
from imaging.staging.radiology.headers import Code, InstanceHeader
from imaging.staging.radiology.stacks import geometry_of, places, triple
from imaging.staging.radiology.volume import Geometry, Instance, Slice

POSITION_TOLERANCE = 0.1
"""Part of a voxel by which a frame may miss the source's grid and still be on it."""
MAX_SLICES = 100_000


@dataclass(frozen=True, slots=True)
class Segmentation:
    """A segmentation's frames in the cells of a grid.

    ``cells``: (segment index, z) → frame; a label map's frames have segment index 0.  ``numbers``: the segment
    number of each segment index.  ``geometry`` is None where frames have no place: then z counts frames in stored
    order.
    """

    instance: Instance
    geometry: Geometry | None
    depth: int
    cells: dict[tuple[int, int], int]
    numbers: tuple[int, ...]
    on_source: bool

    @property
    def header(self) -> InstanceHeader:
        return self.instance.header

    @property
    def is_map(self) -> bool:
        """Whether its frames are label maps already."""
        return self.header.segmentation == "LABELMAP"

    @property
    def is_fractional(self) -> bool:
        return self.header.segmentation == "FRACTIONAL"


def segmentation_of(instance: Instance, sources: Sequence[Geometry]) -> Segmentation | str:
    """Place the frames on the first of ``sources`` (with this size of plane) that they fit, else on their own grid.

    Gives a reason code where frames can't be told apart.
    """
    header = instance.header
    frames = Frames.of([Slice(instance, number) for number in range(len(header.frames))])
    segments, numbers = _segments(header)
    if not (frames.placed & frames.believable).all():
        return _unplaced(instance, segments, numbers)
    for geometry in sources:
        where = on_grid(frames, geometry)
        if where is not None:
            return _filled(instance, geometry, segments, where, numbers, True)
    own = _own_grid(frames)
    if own is None:
        return "label-ambiguous"
    geometry, where = own
    return _filled(instance, geometry, segments, where, numbers, False)


def _segments(header: InstanceHeader) -> tuple[list[int], tuple[int, ...]]:
    """Of each frame its segment's index; and the number of each segment index."""
    if header.segmentation == "LABELMAP":
        return [0] * len(header.frames), ()
    told = [frame.segment or 0 for frame in header.frames]
    numbers = sorted(set(told))
    index = {number: at for at, number in enumerate(numbers)}
    return [index[number] for number in told], tuple(numbers)


def _unplaced(instance: Instance, segments: list[int], numbers: tuple[int, ...]) -> Segmentation | str:
    """Without places the nth frame of a segment is taken for the nth image, if all segments have as many."""
    cells: dict[tuple[int, int], int] = {}
    counts: dict[int, int] = defaultdict(int)
    for frame, segment in enumerate(segments):
        cells[(segment, counts[segment])] = frame
        counts[segment] += 1
    if len(set(counts.values())) != 1:
        return "geometry-missing"
    return Segmentation(instance, None, counts[segments[0]], cells, numbers, False)


def _filled(
    instance: Instance,
    geometry: Geometry,
    segments: list[int],
    where: Sequence[int],
    numbers: tuple[int, ...],
    on_source: bool,
) -> Segmentation | str:
    cells: dict[tuple[int, int], int] = {}
    for frame, cell in enumerate(zip(segments, where, strict=True)):
        if cell in cells:
            return "label-ambiguous"
        cells[cell] = frame
    return Segmentation(instance, geometry, len(geometry.positions_mm), cells, numbers, on_source)


def on_grid(frames: Frames, geometry: Geometry) -> list[int] | None:
    """The z of each frame, if all lie on the grid: orientation, spacing and corner within a tenth of a voxel."""
    wanted = np.concatenate((geometry.row_direction, geometry.column_direction))
    _, y, x = geometry.spacing_mm
    if np.abs(frames.orientation - wanted).max() > ORIENTATION_TOLERANCE:
        return None
    if (np.abs(frames.spacing / (y, x) - 1) > 1e-3).any():
        return None
    positions = np.asarray(geometry.positions_mm)
    distances, along = positions @ geometry.normal, frames.position @ geometry.normal
    where = (
        np.abs(distances[None, :] - along[:, None]).argmin(axis=1)
        if len(distances) < 64
        else _nearest(distances, along)
    )
    off = frames.position - positions[where]
    gap = geometry.spacing_mm[0]
    if np.abs(off @ geometry.normal).max() > POSITION_TOLERANCE * gap:
        return None
    in_plane = max(
        float(np.abs(off @ np.asarray(geometry.row_direction)).max()) / x,
        float(np.abs(off @ np.asarray(geometry.column_direction)).max()) / y,
    )
    return None if in_plane > POSITION_TOLERANCE else [int(place) for place in where]


def _nearest(ascending: Floats, values: Floats) -> Indices:
    right = np.clip(np.searchsorted(ascending, values), 1, len(ascending) - 1)
    left_is_nearer = np.abs(values - ascending[right - 1]) < np.abs(values - ascending[right])
    return np.asarray(np.where(left_is_nearer, right - 1, right), dtype=np.intp)


def _own_grid(frames: Frames) -> tuple[Geometry, list[int]] | None:
    """The frames' own positions; if all gaps are multiples of one, slices without a frame are filled in."""
    wanted = frames.orientation[0]
    if (
        np.abs(frames.orientation - wanted).max() > ORIENTATION_TOLERANCE
        or np.ptp(frames.spacing, axis=0).max() > 1e-3
    ):
        return None
    place = places(frames)
    _, first = np.unique(place, return_index=True)
    geometry, _ = geometry_of(frames, first)
    index = (
        None if geometry.uniform else _multiples(frames.slices[0], frames.position[first] @ geometry.normal)
    )
    if index is None:
        return geometry, [int(at) for at in place]
    start = frames.position[first[0]]
    step = (frames.position[first[-1]] - start) / index[-1]
    filled = replace(
        geometry,
        uniform=True,
        step_mm=triple(step),
        spacing_mm=(round(float(step @ geometry.normal), 6), *geometry.spacing_mm[1:]),
        positions_mm=tuple(triple(start + step * at) for at in range(int(index[-1]) + 1)),
    )
    return filled, [int(at) for at in index[place]]


def _multiples(slice_: Slice, ascending: Floats) -> Indices | None:
    """Numbers of slices, if all gaps are multiples of the spacing that is told, else of the smallest gap."""
    gaps = np.diff(ascending)
    for gap in (_told_gap(slice_), float(gaps.min())):
        if gap is None:
            continue
        steps = gaps / gap
        if np.abs(steps - steps.round()).max() <= POSITION_TOLERANCE and steps.round().min() >= 1:
            index = np.concatenate(([0], np.cumsum(steps.round()))).astype(np.intp)
            if index[-1] < MAX_SLICES:
                return index
    return None


def _told_gap(slice_: Slice) -> float | None:
    value = slice_.instance.header.attributes.get("SpacingBetweenSlices")
    return float(value) if isinstance(value, int | float) and 0 < value < 1000 else None


def described(segmentation: Segmentation) -> list[dict[str, object]]:
    """What each segment is, by number and public code; its free-text label stays behind."""
    told = {segment.number: segment for segment in segmentation.header.segments}
    numbers = segmentation.numbers or tuple(sorted(told))
    return [
        {
            "number": number,
            "category": public_code(told[number].category) if number in told else None,
            "type": public_code(told[number].type) if number in told else None,
            "algorithm": told[number].algorithm
            if number in told and told[number].algorithm in ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")
            else None,
        }
        for number in numbers
    ]


def public_code(code: Code | None) -> dict[str, str] | None:
    """A code of a public scheme, else None."""
    if code is None or not is_public(code.scheme, code.value):
        return None
    return {"scheme": code.scheme, "value": code.value}
