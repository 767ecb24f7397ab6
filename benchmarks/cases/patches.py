"""Random patches for training: sealed, through the agent, against readers of the source and of plain copies."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
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


def comparisons(bench: Bench) -> Generator[Comparison | Skipped, None, None]:
    source = slides.svs(bench, bench.size.slide_tiles)
    copy = staged(bench, source, "slide")
    plain = _only_slide(unsealed(bench, copy, "slide"))
    levels = ",".join(map(str, range(_LEVELS)))
    at = _Readable(copy, source / "slide.svs", plain)
    for asked in (
        _Asked(224, "inside", "0", 1),
        _Asked(224, "inside", "0", 2),
        _Asked(224, "anywhere", "0", 1),
        _Asked(224, "anywhere", "0", 2),
        _Asked(256, "anywhere", "0", 1),
        _Asked(224, "anywhere", levels, 1),
    ):
        yield _jpeg(bench, asked, at)
    yield from _zstd(bench)


@dataclass(frozen=True, slots=True)
class _Readable:
    """One slide, sealed, as its source file, and as plain zarr."""

    copy: Path
    file: Path
    plain: Path


@dataclass(frozen=True, slots=True)
class _Asked:
    """Side of a patch, where it lies (``inside`` a tile or ``anywhere``), levels, processes."""

    size: int
    where: str
    levels: str
    processes: int

    @property
    def name(self) -> str:
        return f"{self.size}-{self.where}-levels-{self.levels.replace(',', '')}-x{self.processes}"

    @property
    def title(self) -> str:
        level = (
            f"level {self.levels}" if self.levels.isdecimal() else f"levels {self.levels.replace(',', ', ')}"
        )
        processes = "one process" if self.processes == 1 else f"{self.processes} processes"
        return f"{self.size}², {_WHERE[self.where]}, {level}, {processes}"


def _jpeg(bench: Bench, asked: _Asked, at: _Readable) -> Comparison:
    least = 6.0 if asked.where == "inside" else 4.0

    def reading(mode: str, *source: Path) -> tuple[str, ...]:
        words = (asked.size, asked.where, asked.levels, bench.size.seconds, asked.processes)
        return contender("patches", mode, *words, *source)

    return Comparison(
        f"jpeg-{asked.name}",
        asked.title,
        "patches/s",
        (
            Contender("hdrs-hpc, sealed", reading("sealed", at.copy, secret_of(bench))),
            Contender(OPENSLIDE, reading("openslide", at.file), needs=("openslide",)),
            Contender(ZARR, reading("zarr", at.plain)),
            Contender(FUSED, reading("zarr-fused", at.plain)),
        ),
        (
            Goal(
                f"≥ {least:.0f} × zarr-python and OpenSlide",
                ASKED,
                peers=(OPENSLIDE, ZARR, FUSED),
                least=least,
            ),
        ),
        figure=RATE,
        better="higher",
    )


def _zstd(bench: Bench) -> Generator[Comparison, None, None]:
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


def _only_slide(plain: Path) -> Path:
    (found,) = (path for path in (plain / "slides").iterdir() if path.is_dir())
    return found
