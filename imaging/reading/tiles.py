"""Reads many boxes of sharded arrays at once: each inner chunk is fetched and decoded once, on several threads.

A box is cut into the chunks it touches by arithmetic on whole batches; chunks are taken in the order in which they
lie in their shards, neighbours in one range; then each thread asks for some ranges, decodes them where they lie in
shared memory, and pastes what is wanted into the boxes.  Fetching and decoding overlap: while one thread waits for
the agent, another decodes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdrs_hpc.protocol.datasocket import Range
from imaging.reading.ranges import LendsRanges
from imaging.reading.shards import ShardDamagedError, ShardedArray, ShardIndices

TASK_BYTES, LEAST_TASK_BYTES = 2 << 20, 128 << 10
"""What a thread asks for at a time, at most and at least."""
MAX_TASK_RANGES = 1024

type Rows = list[list[int]]


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes of one array: ``starts``, ``stops`` (n, axes) within its shape, none empty; ``targets``: arrays of
    their shapes, filled here."""

    array: ShardedArray
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    targets: Sequence[NDArray[Any]]


class TileReader:
    """Reads boxes of the arrays of one copy.  Thread safe.  ``threads``: that decode; by default one a core that
    this process may use."""

    def __init__(self, source: LendsRanges, threads: int | None = None) -> None:
        self._source = source
        self._indices = ShardIndices()
        self._threads = threads

    def __reduce__(self) -> tuple[Any, ...]:
        return (TileReader, (self._source, self._threads))

    def read(self, boxes: Iterable[Boxes], threads: int | None = None) -> None:
        """Fill all targets, on ``threads`` if given.  Raises ShardDamagedError, and what the source raises."""
        work = [task for each in boxes if len(each.starts) for task in self._tasks(each)]
        threads = min(threads or self._threads or cores(), len(work))
        if threads <= 1:
            for task in work:
                task.run(self._source)
            return
        queue = deque(work)
        running = [_pool(threads, os.getpid()).submit(self._drain, queue) for _ in range(threads)]
        try:
            for each in running:
                each.result()
        finally:
            queue.clear()  # after a failure the others stop at the next task
            for each in running:
                each.exception()  # nobody may write to the targets once this has returned

    def _drain(self, queue: deque[_Task]) -> None:
        while True:
            try:
                task = queue.popleft()
            except IndexError:
                return
            task.run(self._source)

    def _tasks(self, boxes: Boxes) -> list[_Task]:
        pieces = _pieces(boxes)
        array = boxes.array
        edges = _edges(pieces.shard)
        numbers = pieces.shard[edges[:-1]]
        extents = np.empty((len(pieces.shard), 2), np.int64)
        paths: list[str] = []
        indices = self._indices.of(array, numbers.tolist(), self._source)
        for (low, high), number, index in zip(
            pairwise(edges.tolist()), numbers.tolist(), indices, strict=True
        ):
            extents[low:high] = -1 if index is None else index[pieces.inner[low:high]]
            paths.append(array.object_of(number))
        self._fill(boxes, pieces, np.flatnonzero(extents[:, 0] < 0))
        there = np.flatnonzero(extents[:, 0] >= 0)
        if not len(there):
            return []
        which = np.repeat(np.arange(len(numbers)), np.diff(edges))[there]
        order = np.lexsort((extents[there, 0], which))
        there, which = there[order], which[order]
        return _cut(boxes, pieces, there, which, extents[there], paths, self._threads or cores())

    @staticmethod
    def _fill(boxes: Boxes, pieces: _Pieces, absent: NDArray[np.int64]) -> None:
        for number in absent.tolist():
            into = tuple(map(slice, pieces.into[number].tolist(), pieces.until[number].tolist()))
            boxes.targets[int(pieces.box[number])][into] = boxes.array.fill


@dataclass(frozen=True, slots=True)
class _Pieces:
    """What each box takes from each chunk, sorted by shard and chunk: arrays with a row a piece.

    ``low``, ``high``: in the chunk; ``into``, ``until``: in the box.
    """

    box: NDArray[np.int64]
    shard: NDArray[np.int64]
    inner: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    into: NDArray[np.int64]
    until: NDArray[np.int64]


def _pieces(boxes: Boxes) -> _Pieces:
    array = boxes.array
    chunk, grid = np.asarray(array.chunk), np.asarray(array.grid)
    first = boxes.starts // chunk
    counts = -(-boxes.stops // chunk) - first
    totals = counts.prod(axis=1)
    box = np.repeat(np.arange(len(totals)), totals)
    rest = np.arange(len(box)) - np.repeat(np.cumsum(totals) - totals, totals)
    tile = np.empty((len(box), len(chunk)), np.int64)
    counts = counts[box]
    for axis in reversed(range(len(chunk))):
        rest, tile[:, axis] = np.divmod(rest, counts[:, axis])
    tile += first[box]
    place, inner = np.divmod(tile, grid)
    shard = np.ravel_multi_index(tuple(place.T), array.shards)
    within = np.ravel_multi_index(tuple(inner.T), array.grid)
    order = np.lexsort((within, shard))
    box, tile, shard, within = box[order], tile[order], shard[order], within[order]
    corner = tile * chunk
    starts = boxes.starts[box]
    low = np.maximum(starts, corner)
    high = np.minimum(boxes.stops[box], corner + chunk)
    return _Pieces(box, shard, within, low - corner, high - corner, low - starts, high - starts)


def _edges(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bounds of the runs of equal values, the end included."""
    return np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1, [len(values)]])


def _cut(
    boxes: Boxes,
    pieces: _Pieces,
    there: NDArray[np.int64],
    which: NDArray[np.int64],
    extents: NDArray[np.int64],
    paths: list[str],
    threads: int,
) -> list[_Task]:
    """Tasks over the pieces ``there``, which are sorted by object (``which`` of ``paths``) and place in it."""
    new_chunk = np.concatenate([[True], (np.diff(which) != 0) | (np.diff(extents[:, 0]) != 0)])
    heads = np.flatnonzero(new_chunk)
    bounds = np.append(heads, len(there))
    low = np.minimum.reduceat(pieces.low[there], heads, axis=0)
    high = np.maximum.reduceat(pieces.high[there], heads, axis=0)
    start, stop, of = extents[heads, 0], extents[heads, 1], which[heads]
    # Chunks that touch come in one range; a range ends with its task.
    weight = np.cumsum(stop - start)
    size = int(np.clip(weight[-1] // (4 * threads), LEAST_TASK_BYTES, TASK_BYTES))
    # A task is the chunks whose sum of bytes ends in the same multiple of ``size``; at most so many ranges.
    task = np.maximum((weight - 1) // size, np.arange(len(heads)) // MAX_TASK_RANGES)
    new_range = np.concatenate([[True], (np.diff(of) != 0) | (start[1:] != stop[:-1]) | (np.diff(task) != 0)])
    numbers = np.cumsum(new_range) - 1
    firsts = np.flatnonzero(new_range)
    offset = start - start[firsts][numbers]
    range_stops = stop[np.append(firsts[1:], len(heads)) - 1]
    range_rows = list(zip(of[firsts].tolist(), start[firsts].tolist(), range_stops.tolist(), strict=True))
    flat = _Flat(
        pieces.box[there].tolist(),
        pieces.low[there].tolist(),
        pieces.high[there].tolist(),
        pieces.into[there].tolist(),
        pieces.until[there].tolist(),
    )
    chunks = [
        _Chunk(*row)
        for row in zip(
            numbers.tolist(),
            offset.tolist(),
            (offset + stop - start).tolist(),
            low.tolist(),
            high.tolist(),
            bounds[:-1].tolist(),
            bounds[1:].tolist(),
            strict=True,
        )
    ]
    tasks = []
    for begin, end in pairwise(_edges(task).tolist()):
        first, last = chunks[begin].range, chunks[end - 1].range + 1
        ranges = [Range(paths[at], low, high - low) for at, low, high in range_rows[first:last]]
        tasks.append(_Task(boxes, flat, ranges, first, chunks[begin:end]))
    return tasks


@dataclass(frozen=True, slots=True)
class _Flat:
    """The columns of :class:`_Pieces` as lists: a thread takes their rows one by one."""

    box: list[int]
    low: Rows
    high: Rows
    into: Rows
    until: Rows


class _Chunk:
    """A chunk: bytes ``at`` to ``end`` of a range, and its pieces ``first`` to ``stop``."""

    __slots__ = ("at", "end", "first", "high", "low", "range", "stop")

    def __init__(
        self, number: int, at: int, end: int, low: list[int], high: list[int], first: int, stop: int
    ) -> None:
        self.range, self.at, self.end = number, at, end
        self.low, self.high = low, high
        self.first, self.stop = first, stop


@dataclass(frozen=True, slots=True)
class _Task:
    """Some ranges and the chunks in them; ``skipped``: ranges of the tasks before."""

    boxes: Boxes
    flat: _Flat
    ranges: list[Range]
    skipped: int
    chunks: list[_Chunk]

    def run(self, source: LendsRanges) -> None:
        with source.lent(self.ranges) as views:
            for chunk in self.chunks:
                self._paste(chunk, views[chunk.range - self.skipped])

    def _paste(self, chunk: _Chunk, view: memoryview | None) -> None:
        """In a function of its own: once it returns nothing refers to what was lent."""
        if view is None or len(view) < chunk.end:
            raise ShardDamagedError("a chunk lies beyond the end of its shard")
        targets, flat = self.boxes.targets, self.flat
        try:
            pixels = self.boxes.array.decoder.decode(view[chunk.at : chunk.end], chunk.low, chunk.high)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ShardDamagedError("a chunk can't be decoded") from error
        for piece in range(chunk.first, chunk.stop):
            into = tuple(map(slice, flat.into[piece], flat.until[piece]))
            cut = tuple(map(slice, flat.low[piece], flat.high[piece]))
            targets[flat.box[piece]][into] = pixels[cut]


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))


@lru_cache(maxsize=4)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Of this process: a fork does not inherit threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix="decode")
