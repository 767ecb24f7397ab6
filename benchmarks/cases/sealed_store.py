"""Writing and reading large objects, sealed, against the same zarr with the same codecs on a LocalStore."""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from pathlib import Path

import numpy as np

from benchmarks.bench import Bench, Making, contender
from benchmarks.cases import ASKED
from benchmarks.cases.staging import StagingForBenchmarkError, secret_of
from benchmarks.comparing import Comparison, Contender, Goal, Skipped
from benchmarks.data import series

SEALED, PLAIN = "sealed", "plain LocalStore"
RATE = "mb-per-s"
_CODECS = (("blosc", "blosc-zstd, shuffle"), ("none", "no compression"))


def comparisons(bench: Bench) -> Generator[Comparison | Skipped, None, None]:
    size = bench.size
    slices = _slices(bench)
    goal = Goal("≥ 0.95 × plain", ASKED, peers=(PLAIN,), least=0.95)
    mib = size.object_bytes >> 20
    written: dict[tuple[str, str], Path] = {}
    for codec, words in _CODECS:

        def write(kind: str, dest: Path, codec: str = codec) -> tuple[str, ...]:
            more = (secret_of(bench),) if kind == "sealed" else ()
            return contender(
                "large_objects", "write", kind, codec, dest, size.objects, size.object_bytes, slices, *more
            )

        yield Comparison(
            f"write-{codec}",
            f"write {size.objects} objects of {mib} MiB (before coding), {words}",
            "MB/s",
            tuple(
                Contender(
                    name, write(kind, bench.out(f"{kind}-{codec}")), outputs=bench.out(f"{kind}-{codec}")
                )
                for name, kind in ((SEALED, "sealed"), (PLAIN, "plain"))
            ),
            (goal,),
            figure=RATE,
            better="higher",
            notes=("Sealing, its manifest included, and fsync of all files, are part of the time.",),
        )
        for kind in ("sealed", "plain"):
            written[kind, codec] = bench.scratch / f"read-{kind}-{codec}"
            done = subprocess.run(
                write(kind, written[kind, codec]), capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise StagingForBenchmarkError(done.stderr.strip().rpartition("\n")[2][:200])
        yield Comparison(
            f"read-{codec}",
            f"read {size.objects} objects of {mib} MiB, {words}, whole array",
            "MB/s",
            (
                Contender(
                    f"{SEALED}, through the agent",
                    contender(
                        "large_objects",
                        "read",
                        "sealed",
                        size.seconds,
                        written["sealed", codec],
                        secret_of(bench),
                    ),
                ),
                Contender(
                    PLAIN, contender("large_objects", "read", "plain", size.seconds, written["plain", codec])
                ),
            ),
            (goal,),
            figure=RATE,
            better="higher",
        )


def _slices(bench: Bench) -> Path:
    side = bench.size.ct_pixels

    def make(folder: Path, told: Making) -> None:
        np.save(folder / "slices.npy", series.ct_slices(side))

    return bench.made("ct-slices", {"pixels": side, "version": 1}, make) / "slices.npy"
