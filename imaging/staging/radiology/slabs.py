"""One shard of an array: frames decoded in parsers, put in their places, encoded.  In bounded memory, keyless."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import batched, groupby
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imaging.deid.pixels.blanking import blank
from imaging.deid.pixels.boxes import Box
from imaging.layout import level_path
from imaging.staging import answers
from imaging.staging.items import Bench, Made
from imaging.staging.radiology.arrays import ArrayPlan, Slab, stored_dtype
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.radiology.volume import Volume
from imaging.staging.refusals import ItemRefused, Refused

_READ_TOGETHER = 16
"""Files a piece of work."""
CLIPPED = "clipped"
"""What a part tells: how many values a lossy codec had set beyond what Bits Stored holds."""


@dataclass(frozen=True, slots=True)
class Plane:
    """A frame to decode, and the plane of a slab (t-major, z) where it goes.

    ``value``: 0 puts the frame's pixels there; else it is a binary segment, and this value goes where it is set.
    """

    at: int
    number: int
    frame: int
    value: int = 0
    stored: Stored | None = None
    """Where the frame lies bare in its file; None: a parser is asked for it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A frame's ``offset`` in its file, and by how many bits each value is shifted up, then down again, which clears
    what is not of it and keeps its sign (PS3.5 8.1.1)."""

    offset: int
    up: int
    down: int


class Removed(Protocol):
    """Voxels of a volume that are to go."""

    def slices(self, start: int, stop: int) -> NDArray[np.bool_]:
        """(z, y, x), at full resolution."""
        ...


@dataclass(frozen=True, slots=True)
class Cut:
    """What is taken out of a slab of slices ``start`` up to ``stop``, at each time, and the value left there."""

    mask: Removed
    value: float
    start: int = 0
    stop: int = 0


@dataclass(frozen=True, slots=True)
class SlabPart:
    """One shard.  Planes that no frame fills stay zero."""

    path: str
    array: ArrayPlan
    planes: tuple[Plane, ...]
    shape: tuple[int, ...]
    """Of the slab, in the order of the array's axes."""
    share: float
    blanks: tuple[tuple[int, tuple[Box, ...]], ...] = ()
    """What to paint over, by item number, on each of its frames."""
    padding: int | None = None
    cut: Cut | None = None
    inputs: tuple[str, ...] = ()

    @property
    def memory_bytes(self) -> int:
        """The slab, its encoded bytes, and a frame on its way into it."""
        return 3 * math.prod(self.shape) * self.array.itemsize

    def make(self, bench: Bench, inputs: Mapping[str, bytes]) -> Made:
        slab = empty_slab(self.array, self.shape)
        clipped = fill(slab, self.planes, bench, dict(self.blanks), self.padding)
        if self.cut is not None:
            gone = self.cut.mask.slices(self.cut.start, self.cut.stop)
            slab.reshape(-1, *gone.shape)[:, gone] = self.cut.value
        data = self.array.encoded(in_order(slab, self.array.axes, self.shape), bench.threads)
        return Made(data, {CLIPPED: clipped} if clipped else {})


def volume_array(volume: Volume) -> ArrayPlan:
    """The array that a volume becomes."""
    return ArrayPlan(volume.axes, volume.shape, stored_dtype(volume.header))


def slab_parts(
    path: str,
    volume: Volume,
    blanks: Mapping[int, tuple[Box, ...]],
    padding: int | None,
    cut: Cut | None = None,
) -> list[SlabPart]:
    """The shards of the array at ``path``/0, each a part.

    ``blanks``: boxes to paint over with ``padding`` (the least value of the type where None), by item number.
    ``cut``: voxels to take out, of the whole volume.
    """
    array = volume_array(volume)
    slabs = list(array.slabs())
    parts = []
    for slab in slabs:
        planes = _planes(volume, slab)
        here = tuple(
            (number, blanks[number]) for number in sorted({one.number for one in planes} & set(blanks))
        )
        z = slab.slices
        here_cut = None if cut is None else replace(cut, start=z.start, stop=z.stop)
        parts.append(
            SlabPart(
                slab.path(level_path(path)),
                array,
                planes,
                slab.shape,
                1 / len(slabs),
                here,
                padding,
                here_cut,
            )
        )
    return parts


def _planes(volume: Volume, slab: Slab) -> tuple[Plane, ...]:
    wanted = [one for time in slab.times for one in volume.slices[time][slab.slices.start : slab.slices.stop]]
    return tuple(
        Plane(at, one.instance.number, one.frame, stored=_stored(one.instance.header, one.frame))
        for at, one in enumerate(wanted)
    )


def _stored(header: InstanceHeader, frame: int) -> Stored | None:
    if header.bare is None:
        return None
    bits = header.bits_allocated
    size = header.rows * header.columns * bits // 8
    whole = header.value_type != "integer" or header.bits_stored == bits
    up, down = (0, 0) if whole else (bits - 1 - header.bare.high_bit, bits - header.bits_stored)
    return Stored(header.bare.offset + frame * size, max(0, up), max(0, down))


def empty_slab(array: ArrayPlan, shape: tuple[int, ...]) -> NDArray[Any]:
    """(planes, y, x) or, with channels in a frame, (planes, c, y, x); zero.  Channels that are segments are planes."""
    sizes = dict(zip(array.axes, shape, strict=True))
    planes = sizes.get("t", 1) * sizes.get("z", 1)
    if "c" in sizes and not array.is_label:
        return np.zeros((planes, sizes["c"], sizes["y"], sizes["x"]), dtype=array.dtype)
    return np.zeros((planes * sizes.get("c", 1), sizes["y"], sizes["x"]), dtype=array.dtype)


def in_order(slab: NDArray[Any], axes: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Planes as the array's axes have them: a frame's channels come before z."""
    if "c" in axes and "z" in axes and slab.ndim == 4:
        sizes = dict(zip(axes, shape, strict=True))
        split = slab.reshape(sizes.get("t", 1), sizes["z"], *slab.shape[1:])
        slab = np.ascontiguousarray(split.transpose(0, 2, 1, 3, 4))
    return slab.reshape(shape)


def fill(
    slab: NDArray[Any],
    planes: Sequence[Plane],
    bench: Bench,
    blanks: Mapping[int, tuple[Box, ...]],
    padding: int | None,
) -> int:
    """Decode into ``slab``, asking once per run of frames of one instance, in parallel; gives how many values were
    clipped.

    Segments that share a plane are of one instance and come one after the other: the later lies on top.
    """

    def filled(runs: Sequence[list[Plane]]) -> int:
        clipped = 0
        for run in runs:
            work = _fill_run if run[0].stored is None else _read_run
            clipped += work(slab, run, run[0].number, bench, blanks.get(run[0].number, ()), padding)
        return clipped

    runs = [list(run) for _, run in groupby(planes, key=lambda plane: plane.number)]
    # Reading is quick: handing out one by one would take as long.
    each = _READ_TOGETHER if all(run[0].stored is not None for run in runs) else 1
    under_way: list[Future[int]] = [bench.threads.submit(filled, some) for some in batched(runs, each)]
    failures = [future.exception() for future in under_way]  # all have ended: nobody writes on
    for failure in failures:
        if failure is not None:
            raise failure
    return sum(future.result() for future in under_way)


def _fill_run(
    slab: NDArray[Any],
    planes: list[Plane],
    number: int,
    bench: Bench,
    boxes: tuple[Box, ...],
    padding: int | None,
) -> int:
    got = clipped = 0
    try:
        for header, blob in bench.reader.ask(number, "frames", frames=[plane.frame for plane in planes]):
            if got == len(planes):
                raise Refused("parser-crashed")
            plane = planes[got]
            target = slab[plane.at]
            pixels = checked(header, blob, target.shape, np.dtype(np.uint8) if plane.value else slab.dtype)
            if plane.value:
                target[pixels != 0] = plane.value
            else:
                target[...] = pixels
            if boxes:
                _blank(target, boxes, padding)
            got += 1
            clipped += _clipped(header, pixels.size)
    except Refused as refused:
        raise ItemRefused(number, refused.code) from None
    if got != len(planes):
        raise ItemRefused(number, "truncated-pixel-data")
    return clipped


def _clipped(header: bytes, most: int) -> int:
    """What a parser says of :data:`CLIPPED`, if it may be so."""
    told = answers.said(header).get(CLIPPED, 0)
    return told if isinstance(told, int) and 0 <= told <= most else 0


def _read_run(
    slab: NDArray[Any],
    planes: list[Plane],
    number: int,
    bench: Bench,
    boxes: tuple[Box, ...],
    padding: int | None,
) -> int:
    """The same of frames that lie bare in their file: straight into their places."""
    wanted = [
        (plane.stored.offset, memoryview(slab[plane.at]).cast("B"))
        for plane in planes
        if plane.stored is not None
    ]
    try:
        bench.reader.read_into(number, wanted)
    except Refused as refused:
        raise ItemRefused(number, refused.code) from None
    for plane in planes:
        target = slab[plane.at]
        if plane.stored is not None and (plane.stored.up or plane.stored.down):
            np.left_shift(target, plane.stored.up, out=target)
            np.right_shift(target, plane.stored.down, out=target)
        if boxes:
            _blank(target, boxes, padding)
    return 0


def _blank(target: NDArray[Any], boxes: tuple[Box, ...], padding: int | None) -> None:
    """Paint over boxes of a frame (y, x) or (c, y, x), in place."""
    if target.ndim == 2:
        target[...] = blank(target, boxes, padding)
    else:
        target[...] = blank(target.transpose(1, 2, 0), boxes).transpose(2, 0, 1)


def checked(header: bytes, blob: bytearray, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A parser's frame, if it is of the promised size and type; widened where the codec gave fewer bits.

    ``shape`` is (y, x), or (c, y, x) where the parser gives (y, x, c).
    """
    try:
        said = answers.said(header)
        found = np.dtype(str(said["dtype"]))
        size = tuple(int(part) for part in said["shape"])
    except answers.LIES:
        raise Refused("parser-crashed") from None
    colour = len(shape) == 3
    if size != ((*shape[1:], shape[0]) if colour else shape) or found.kind not in "iuf":
        raise Refused("decode-failed")
    if len(blob) != math.prod(shape) * found.itemsize:
        raise Refused("parser-crashed")
    if not np.can_cast(found, dtype, "safe"):
        raise Refused("decode-failed")
    pixels = np.frombuffer(blob, dtype=found).reshape(size)
    return pixels.transpose(2, 0, 1) if colour else pixels
