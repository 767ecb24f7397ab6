"""Whole volumes, slabs and boxes, sealed, against plain zarr and HDF5."""

from __future__ import annotations

from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from benchmarks.bench import Bench, contender
from benchmarks.cases import ASKED
from benchmarks.cases.staging import secret_of, staged, unsealed
from benchmarks.comparing import Comparison, Contender, Goal, Skipped
from benchmarks.data import series

ZARR, FLAT, LZF = "plain zarr, LocalStore", "HDF5, uncompressed", "HDF5, shuffle and lzf"
_WHAT = (("whole", "whole volume"), ("slab", "8 slices at random places"), ("box", "64³ at random places"))


def comparisons(bench: Bench) -> Generator[Comparison | Skipped, None, None]:
    source = series.ct_series(bench, "native")
    copy = staged(bench, source, "ct")
    (item,) = (path for path in (unsealed(bench, copy, "ct") / "series").iterdir() if path.is_dir())
    plain = item / "0"
    files = {name: _hdf5(bench, plain, name) for name in ("flat", "lzf")} if find_spec("h5py") else {}
    seconds = bench.size.seconds
    for what, words in _WHAT:
        yield Comparison(
            f"volume-{what}",
            f"CT of {bench.size.ct_slices} × {bench.size.ct_pixels}², {words}",
            "MB/s",
            (
                Contender(
                    "hdrs-hpc, sealed", contender("volumes", "sealed", what, seconds, copy, secret_of(bench))
                ),
                Contender(ZARR, contender("volumes", "zarr", what, seconds, plain)),
                *(
                    Contender(
                        label,
                        contender("volumes", "hdf5", what, seconds, files.get(name, plain)),
                        needs=("h5py",),
                        remark="same chunks; h5py's own wheel has no blosc",
                    )
                    for label, name in ((FLAT, "flat"), (LZF, "lzf"))
                ),
            ),
            (Goal("≥ 1 × plain zarr", ASKED, peers=(ZARR,), least=1.0),),
            figure="mb-per-s",
            better="higher",
            notes=(
                "Plain zarr reads the same bytes that are sealed: same chunks, shards and codecs.",
                "Uncompressed HDF5 takes more than twice the room, and all of it comes out of the page cache here.",
            ),
        )


def _hdf5(bench: Bench, plain: Path, name: str) -> Path:
    """The same voxels in an HDF5 file of the same chunks."""
    import h5py

    path = bench.scratch / f"volume-{name}.h5"
    array: zarr.Array[Any] = zarr.open_array(str(plain), mode="r")
    more = {"compression": "lzf", "shuffle": True} if name == "lzf" else {}
    with h5py.File(path, "w") as file:
        made = file.create_dataset("volume", array.shape, array.dtype, chunks=array.chunks, **more)
        step = (array.shards or array.chunks)[0]
        for start in range(0, array.shape[0], step):
            made[start : start + step] = np.asarray(array[start : start + step])
    return path
