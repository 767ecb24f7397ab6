"""The straight script with OpenSlide and ome-zarr: ``SRC DEST``, levels halved down to 512 pixels, JPEG not kept.

Read in blocks of 2048 on Dask's threads, written by ome-zarr with its defaults.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import openslide
from ome_zarr.writer import write_image

from benchmarks.contenders import tell

BLOCK = 2048


def main(source: Path, dest: Path) -> None:
    slide = openslide.OpenSlide(str(source))
    width, height = slide.dimensions

    def block(block_info: Any) -> Any:
        (_, _), (top, bottom), (left, right) = block_info[None]["array-location"]
        region = slide.read_region((left, top), 0, (right - left, bottom - top))
        return np.asarray(region)[..., :3].transpose(2, 0, 1)

    chunks = ((3,), _sizes(height), _sizes(width))
    meta = np.empty((0, 0, 0), np.uint8)
    image = dask.array.map_blocks(block, chunks=chunks, dtype=np.uint8, meta=meta)  # type: ignore[no-untyped-call]
    factors = []
    factor = 2
    while max(height, width) // factor >= 256:
        factors.append(factor)
        factor *= 2
    write_image(
        image, str(dest), scale_factors=factors, axes="cyx", storage_options={"chunks": (3, 512, 512)}
    )


def _sizes(extent: int) -> tuple[int, ...]:
    return tuple(min(BLOCK, extent - start) for start in range(0, extent, BLOCK))


if __name__ == "__main__":
    _started = time.perf_counter()
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    tell(work_s=time.perf_counter() - _started)
