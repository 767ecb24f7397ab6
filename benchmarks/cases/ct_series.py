"""DICOM series → de-identified sealed volume, whole process against whole process."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from benchmarks.bench import Bench, bytes_only, contender, ours
from benchmarks.cases import ASKED
from benchmarks.cases.staging import NOBODY, secret_of
from benchmarks.comparing import Comparison, Contender, Goal, Skipped
from benchmarks.data import series

US, SCRIPT, NGFF = "hdrs-hpc", "pydicom + zarr script", "ngff-zarr"
_NOTES = (
    "Ours is de-identified, hashed, authenticated and sealed; the others are plain copies of the pixels.",
    "The limit reads the input once and writes as many bytes as our copy has, and does nothing else.",
)


def comparisons(bench: Bench) -> Generator[Comparison | Skipped, None, None]:
    goal = Goal("≥ 3 × the script", ASKED, peers=(SCRIPT,), least=3.0)
    native = series.ct_series(bench, "native")
    slices = bench.size.ct_slices
    for cache in ("cold", "warm"):
        yield Comparison(
            f"ct-native-{cache}",
            f"{slices} native CT slices, {cache} cache",
            "s",
            _contenders(bench, native, ngff=cache == "warm"),
            (goal,),
            cache="cold" if cache == "cold" else "warm",
            notes=_NOTES,
        )
    for encoding, title in (("jpegls", "JPEG-LS"), ("j2k", "JPEG 2000")):
        yield Comparison(
            f"ct-{encoding}",
            f"{slices} CT slices, {title}",
            "s",
            _contenders(bench, series.ct_series(bench, encoding), ngff=False),
            (goal,),
            notes=_NOTES,
        )
    files = bench.size.mr_times * bench.size.mr_slices
    yield Comparison(
        "mr-small-files",
        f"{files} small MR files",
        "s",
        _contenders(bench, series.mr_series(bench), ngff=False),
        (goal,),
        notes=_NOTES,
    )


def _contenders(bench: Bench, source: Path, *, ngff: bool) -> tuple[Contender, ...]:
    made = [
        Contender(
            US,
            ours(
                "imaging",
                "stage",
                source,
                bench.out("staged"),
                "--secret",
                secret_of(bench),
                *NOBODY,
                "--json",
            ),
            inputs=(source,),
            outputs=bench.out("staged"),
        ),
        Contender(
            SCRIPT,
            contender("pydicom_zarr", source, bench.out("script")),
            inputs=(source,),
            outputs=bench.out("script"),
        ),
        bytes_only(bench, (source,), bench.out("staged")),
    ]
    if ngff:
        made.insert(
            2,
            Contender(
                NGFF,
                contender("ngff_zarr_dicom", source, bench.out("ngff")),
                needs=("ngff_zarr",),
                inputs=(source,),
                outputs=bench.out("ngff"),
                remark="reading by pydicom, writing by ngff-zarr",
            ),
        )
    return tuple(made)
