"""Random patches a second: ``MODE SIZE inside|anywhere LEVELS SECONDS PROCESSES SOURCE [SECRET]``.

Modes: ``sealed`` (a copy, through its agent, as a data set reads), ``openslide`` (the source file), ``zarr``,
``zarr-fused`` and ``zarrs`` (a folder of plain zarr arrays).  All read the same windows.  ``inside``: a window lies
in one tile; ``anywhere``: it does not care.  LEVELS: ``0`` or ``0,1,2``, each window at one of them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import tell

BATCH = 64
"""Windows asked for at once, where a reader takes many; a loader's batch."""
CHECKED = 16
"""Windows whose sum is told, so that it shows that all read the same."""
_PIPELINES = {
    "zarr": "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "zarr-fused": "zarr.core.codec_pipeline.FusedCodecPipeline",
    "zarrs": "zarrs.ZarrsCodecPipeline",
}

type PatchOrigin = tuple[int, int, int]
"""(which of the levels, y, x)."""
type Read = Callable[[list[PatchOrigin]], int]
"""Reads windows; gives the sum of the first window's pixels."""


@dataclass(frozen=True, slots=True)
class Asked:
    mode: str
    size: int
    inside: bool
    levels: tuple[int, ...]
    seconds: float
    source: str


def main(asked: Asked, processes: int, secret: Path | None) -> None:
    with contextlib.ExitStack() as stack:
        if secret is not None:
            from benchmarks.contenders.job import job

            stack.enter_context(job({"slide": Path(asked.source)}, secret))
        if processes == 1:
            rates = [measured(asked, 0, lambda: None)]
        else:
            context = multiprocessing.get_context("spawn")
            barrier = context.Barrier(processes)
            pool = stack.enter_context(context.Pool(processes, _take, (barrier,)))
            rates = pool.starmap(_in_worker, [(asked, seed) for seed in range(processes)], chunksize=1)
    tell(patches_per_s=sum(rate for rate, _ in rates), checksum=rates[0][1])


_barrier: Any = None


def _take(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _in_worker(asked: Asked, seed: int) -> tuple[float, float]:
    return measured(asked, seed, lambda: _barrier.wait(60))


def measured(asked: Asked, seed: int, start: Callable[[], object]) -> tuple[float, float]:
    """Patches a second of this process after a warm-up, and the check sum."""
    read, extents, tile = OPENERS[asked.mode](asked)
    checked = list(_places(asked, extents, tile, np.random.default_rng(99), CHECKED))
    total = float(sum(read([place]) for place in checked))
    drawn = np.random.default_rng(seed)
    read(list(_places(asked, extents, tile, drawn, BATCH)))
    start()
    count, begun = 0, time.perf_counter()
    while (taken := time.perf_counter() - begun) < asked.seconds:
        read(list(_places(asked, extents, tile, drawn, BATCH)))
        count += BATCH
    return count / taken, total


def _places(
    asked: Asked, extents: list[tuple[int, int]], tile: int, drawn: np.random.Generator, count: int
) -> Iterator[PatchOrigin]:
    for _ in range(count):
        which = int(drawn.integers(len(extents)))
        high, wide = extents[which]
        if asked.inside:
            row, column = drawn.integers(high // tile), drawn.integers(wide // tile)
            dy, dx = drawn.integers(0, tile - asked.size, 2, endpoint=True)
            yield which, int(row * tile + dy), int(column * tile + dx)
        else:
            yield (
                which,
                int(drawn.integers(high - asked.size, endpoint=True)),
                int(drawn.integers(wide - asked.size, endpoint=True)),
            )


type Opened = tuple[Read, list[tuple[int, int]], int]
"""Reader, (y, x) extents of the levels, side of a tile."""


def _sealed(asked: Asked) -> Opened:
    from imaging.reading import open_staged
    from imaging.reading.patches import BatchedPatchReader
    from imaging.reading.windows import PatchImage, Window

    copy = open_staged("slide")
    (slide,) = copy.slides()
    arrays = [copy.slide(slide, level) for level in asked.levels]
    images = [
        PatchImage(
            f"slides/{slide}",
            "",
            level,
            "cyx",
            tuple(array.shape),
            tuple(array.shards or array.chunks),
            (1, asked.size, asked.size),
        )
        for level, array in zip(asked.levels, arrays, strict=True)
    ]
    # The reader that the data sets of imaging.reading.torch_data use, which need PyTorch.
    reader = BatchedPatchReader(copy, images)

    def read(places: list[PatchOrigin]) -> int:
        got = reader.read([Window(which, 0, 0, y, x) for which, y, x in places])
        return int(got[0].sum())

    return read, [(array.shape[-2], array.shape[-1]) for array in arrays], arrays[0].chunks[-1]


def _openslide(asked: Asked) -> Opened:
    import openslide

    slide = openslide.OpenSlide(asked.source)
    factors = [slide.level_downsamples[level] for level in asked.levels]

    def one(which: int, y: int, x: int) -> NDArray[Any]:
        where = (round(x * factors[which]), round(y * factors[which]))
        region = slide.read_region(where, asked.levels[which], (asked.size, asked.size))
        return np.asarray(region)[..., :3]

    def read(places: list[PatchOrigin]) -> int:
        got = [one(*place) for place in places]
        return int(got[0].sum())

    extents = [slide.level_dimensions[level][::-1] for level in asked.levels]
    return read, extents, int(slide.properties["openslide.level[0].tile-width"])


def _zarr(asked: Asked) -> Opened:
    import zarr

    zarr.config.set({"codec_pipeline.path": _PIPELINES[asked.mode]})
    arrays: list[Any] = [zarr.open_array(f"{asked.source}/{level}", mode="r") for level in asked.levels]
    size = asked.size

    def read(places: list[PatchOrigin]) -> int:
        got = [arrays[which][:, y : y + size, x : x + size] for which, y, x in places]
        return int(got[0].sum())

    return read, [(array.shape[-2], array.shape[-1]) for array in arrays], arrays[0].chunks[-1]


OPENERS: dict[str, Callable[[Asked], Opened]] = {
    "sealed": _sealed,
    "openslide": _openslide,
    "zarr": _zarr,
    "zarr-fused": _zarr,
    "zarrs": _zarr,
}


if __name__ == "__main__":
    _mode, _size, _where, _levels, _seconds, _processes, _source, *_secret = sys.argv[1:]
    main(
        Asked(
            _mode,
            int(_size),
            _where == "inside",
            tuple(int(level) for level in _levels.split(",")),
            float(_seconds),
            _source,
        ),
        int(_processes),
        Path(_secret[0]) if _secret else None,
    )
