"""In which order windows are read: random for training, yet shard by shard, and split between ranks and workers.

Fully random order would open another shard for every patch.  So the shards come in random order, windows within one
in random order, and a buffer mixes those of the shards that are open.  The order is a function of seed and epoch:
every process works out the same one and takes its own part of it, so no window is read twice in an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

DEFAULT_BUFFER = 4096
_RUNS, _WITHIN, _BUFFER = range(3)  # what a random stream is for


def part_of(total: int, rank: int, world: int, worker: int = 0, workers: int = 1) -> range:
    """Positions in the epoch's order that are one worker's.  Every rank gets ``total // world``: a rank with one step
    more would wait for ever for the others' gradients."""
    each = total // world
    first = rank * each
    return range(first + each * worker // workers, first + each * (worker + 1) // workers)


def epoch_order(
    groups: NDArray[np.int64], seed: int, epoch: int, part: range | None = None, buffer: int = DEFAULT_BUFFER
) -> Iterator[int]:
    """Numbers of windows in the order of one epoch.

    ``groups`` are the bounds of runs of windows that lie in one shard (``PatchPlan.groups``); ``part`` are the
    positions wanted, all by default.  A ``buffer`` of 1 leaves the runs unmixed.
    """
    sizes = np.diff(groups)
    runs = np.random.default_rng([_RUNS, seed, epoch]).permutation(len(sizes))
    ends = np.cumsum(sizes[runs])
    wanted = range(int(ends[-1])) if part is None and len(ends) else part or range(0)
    return _mixed(_stream(groups, runs, ends, seed, epoch, wanted), [seed, epoch, wanted.start], buffer)


def _stream(
    groups: NDArray[np.int64],
    runs: NDArray[np.int64],
    ends: NDArray[np.int64],
    seed: int,
    epoch: int,
    wanted: range,
) -> Iterator[int]:
    for place in range(int(np.searchsorted(ends, wanted.start, side="right")), len(runs)):
        run = int(runs[place])
        first, size = int(groups[run]), int(groups[run + 1] - groups[run])
        begin = int(ends[place]) - size
        if begin >= wanted.stop:
            return
        # Whole, also where only a part is wanted: another worker has the rest of the same permutation.
        within = np.random.default_rng([_WITHIN, seed, epoch, run]).permutation(size)
        low, high = max(wanted.start - begin, 0), min(wanted.stop - begin, size)
        yield from (first + within[low:high]).tolist()


def _mixed(stream: Iterator[int], seeds: list[int], buffer: int) -> Iterator[int]:
    draw = np.random.default_rng([_BUFFER, *seeds])
    held: list[int] = []
    for number in stream:
        if len(held) < buffer:
            held.append(number)
            continue
        place = int(draw.integers(buffer))
        yield held[place]
        held[place] = number
    draw.shuffle(held)
    yield from held
