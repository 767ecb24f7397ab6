"""In which order windows are read: random for training, yet shard by shard, and split between ranks and workers.

Fully random order would open another shard for every patch.  So the shards come in random order, windows within one
in random order, and those of neighbouring shards are mixed.  The order is a function of seed and epoch: every process
works out the same one and takes its own part of it, so no window is read twice in an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

DEFAULT_MIXED = 4096
"""Windows that are mixed with each other."""
_RUNS, _WITHIN, _MIXED = range(3)  # what a random stream is for


def part_of(total: int, rank: int, world: int, worker: int = 0, workers: int = 1) -> range:
    """Positions in the epoch's order that are one worker's.  Every rank gets ``total // world``: a rank with one step
    more would wait for ever for the others' gradients."""
    each = total // world
    first = rank * each
    return range(first + each * worker // workers, first + each * (worker + 1) // workers)


def run_order(groups: NDArray[np.int64], seed: int, epoch: int, part: range | None = None) -> Iterator[int]:
    """Numbers of windows, run after run.

    ``groups`` are the bounds of runs of windows that lie together (``PatchPlan.groups``); ``part`` are the positions
    wanted, all by default.
    """
    sizes = np.diff(groups)
    runs = np.random.default_rng([_RUNS, seed, epoch]).permutation(len(sizes))
    ends = np.cumsum(sizes[runs])
    wanted = range(int(ends[-1])) if part is None and len(ends) else part or range(0)
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


def mixed_order(
    total: int, seed: int, epoch: int, groups: NDArray[np.int64] | None = None, mixed: int = DEFAULT_MIXED
) -> NDArray[np.int64]:
    """The whole order of one epoch: a permutation of ``total`` numbers.

    With ``groups`` runs come in random order, and what stands in them is permuted among ``mixed`` neighbours.
    """
    draw = np.random.default_rng([_MIXED, seed, epoch])
    if groups is None:
        return draw.permutation(total)
    starts = groups[:-1]
    runs = draw.permutation(len(starts))
    sizes = np.diff(groups)[runs]
    first = np.repeat(starts[runs] - np.cumsum(sizes) + sizes, sizes)
    order = first + np.arange(total)
    # Blocks begin at a random place, else the same neighbours would never meet.
    shift = int(draw.integers(mixed)) if mixed > 1 else 0
    block = (np.arange(total) + shift) // mixed
    return np.asarray(order[np.lexsort((draw.random(total), block))], np.int64)
