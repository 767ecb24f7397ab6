"""Volumes read whole or in slabs: ``sealed|zarr|hdf5 whole|slab|box SECONDS SOURCE [SECRET]``; MB/s of voxels.

``slab``: eight slices at a random place; ``box``: 64 voxels along each axis, at a random place.  The same places for
all.  SOURCE is a copy, the folder of a plain zarr array, or an HDF5 file with the data set ``volume``.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders import tell

SLAB, BOX = 8, 64


def main(mode: str, what: str, seconds: float, source: Path, secret: Path | None) -> None:
    with contextlib.ExitStack() as stack:
        array = _opened(mode, source, secret, stack)
        shape = array.shape[-3:]
        drawn = np.random.default_rng(7)
        first = np.asarray(array[(..., *_box(what, shape, np.random.default_rng(5)))])
        total, count, begun = 0, 0, time.perf_counter()
        while (taken := time.perf_counter() - begun) < seconds or count < 2:
            total += np.asarray(array[(..., *_box(what, shape, drawn))]).nbytes
            count += 1
        tell(mb_per_s=total / taken / 1e6, checksum=float(first.sum(dtype=np.int64)))


def _opened(mode: str, source: Path, secret: Path | None, stack: contextlib.ExitStack) -> Any:
    if mode == "sealed":
        assert secret is not None
        from benchmarks.contenders.job import job

        stack.enter_context(job({"ct": source}, secret))
        from imaging.reading import open_staged

        copy = open_staged("ct")
        (item,) = copy.series()
        return copy.volume(item)
    if mode == "zarr":
        import zarr

        return zarr.open_array(str(source), mode="r")
    import h5py

    file = stack.enter_context(h5py.File(source, "r"))
    return file["volume"]


def _box(what: str, shape: tuple[int, ...], drawn: np.random.Generator) -> Iterator[slice]:
    sizes = {"whole": shape, "slab": (SLAB, *shape[1:]), "box": (BOX, BOX, BOX)}[what]
    for extent, size in zip(shape, sizes, strict=True):
        start = int(drawn.integers(max(0, extent - size), endpoint=True))
        yield slice(start, min(extent, start + size))


if __name__ == "__main__":
    _mode, _what, _seconds, _source, *_secret = sys.argv[1:]
    main(_mode, _what, float(_seconds), Path(_source), Path(_secret[0]) if _secret else None)
