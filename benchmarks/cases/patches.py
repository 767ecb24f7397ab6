"""Random patches for training: sealed, through the agent, against readers of the source and of plain copies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench, contender
from benchmarks.cases import ASKED
from benchmarks.cases.staging import by_hand, secret_of, staged, unsealed
from benchmarks.comparing import Comparison, Contender, Goal, Skipped
from benchmarks.data import slides

OPENSLIDE, ZARR, FUSED, ZARRS = "OpenSlide", "zarr", "zarr (fused)", "zarrs"
RATE = "patches-per-s"
_LEVELS = 3
"""Stored ones, of which a window is at any."""


def comparisons(bench: Bench) -> Iterator[Comparison | Skipped]:
    source = slides.svs(bench, bench.size.slide_tiles)
    copy = staged(bench, source, "slide")
    plain = _only_slide(unsealed(bench, copy, "slide"))
    levels = ",".join(map(str, range(_LEVELS)))
    for size, where, which, processes in (
        (224, "inside", "0", 1),
        (224, "inside", "0", 2),
        (224, "anywhere", "0", 1),
        (224, "anywhere", "0", 2),
        (256, "anywhere", "0", 1),
        (224, "anywhere", levels, 1),
    ):
        least = 6.0 if where == "inside" else 4.0

        def one(
            name: str, mode: str, at: Path, needs: tuple[str, ...] = (), *more: Path
        ) -> Contender:
            words = (mode, size, where, which, bench.size.seconds, processes, at, *more)
            return Contender(name, contender("patches", *words), needs=needs)

        yield Comparison(
            f"jpeg-{size}-{where}-levels-{which.replace(',', '')}-x{processes}",
            f"{size}², {_WHERE[where]}, {_level_words(which)}, {_process_words(processes)}",
            "patches/s",
            (
                one("hdrs-hpc, sealed", "sealed", copy, (), secret_of(bench)),
                one(OPENSLIDE, "openslide", source / "slide.svs", ("openslide",)),
                one(ZARR, "zarr", plain),
                one(FUSED, "zarr-fused", plain),
            ),
            (Goal(f"≥ {least:.0f} × zarr-python and OpenSlide", ASKED, peers=(OPENSLIDE, ZARR, FUSED), least=least),),
            figure=RATE,
            better="higher",
        )
    yield from _zstd(bench)


def _zstd(bench: Bench) -> Iterator[Comparison]:
    """zarrs decodes no JPEG: a slide coded with zstd."""
    plain = slides.zstd_zarr(bench)
    copy = by_hand(bench, plain, "slides/zstd", "zstd")
    for where in ("inside", "anywhere"):
        words = (224, where, "0", bench.size.seconds, 1)
        yield Comparison(
            f"zstd-224-{where}-x1",
            f"224² of a slide coded with zstd, {_WHERE[where]}, level 0, one process",
            "patches/s",
            (
                Contender("hdrs-hpc, sealed", contender("patches", "sealed", *words, copy, secret_of(bench))),
                Contender(ZARRS, contender("patches", "zarrs", *words, plain), needs=("zarrs",)),
                Contender(ZARR, contender("patches", "zarr", *words, plain)),
            ),
            (Goal("≥ 2 × zarrs", ASKED, peers=(ZARRS,), least=2.0),),
            figure=RATE,
            better="higher",
        )


_WHERE = {"inside": "inside one tile", "anywhere": "anywhere"}


def _level_words(which: str) -> str:
    return f"level {which}" if which.isdecimal() else f"levels {which.replace(',', ', ')}"


def _process_words(processes: int) -> str:
    return "one process" if processes == 1 else f"{processes} processes"


def _only_slide(plain: Path) -> Path:
    (found,) = (path for path in (plain / "slides").iterdir() if path.is_dir())
    return found
