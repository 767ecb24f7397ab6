"""Slide → sealed pyramid, against a copy of the file and against those that decode.

How long the largest level takes shows where a file stores the levels below: they are kept too, and what is derived
below the smallest is about a thousandth of the pixels.  So that one is held against ``cp`` of the file.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

from benchmarks.bench import Bench, bytes_only, contender, ours
from benchmarks.cases import ASKED
from benchmarks.cases.staging import NOBODY, secret_of
from benchmarks.comparing import GROWN, Comparison, Contender, Goal, Published, Skipped
from benchmarks.data import slides
from benchmarks.data.tiles import TILE

CP, OME, WSI, WSI_KEEP = (
    "cp",
    "OpenSlide + ome-zarr",
    "wsidicomizer (decoding)",
    "wsidicomizer (keeping tiles)",
)
LEICA_PIXELS = 36_832 * 38_432
"""Of Leica-1.scn of OpenSlide's test data, its main image."""


def comparisons(bench: Bench) -> Generator[Comparison | Skipped, None, None]:
    tiles = bench.size.slide_tiles
    edge = f"{tiles * TILE:,}"
    single = slides.svs(bench, tiles, levels=1)
    crop = slides.svs(bench, bench.size.crop_tiles, levels=1)
    title = f"{edge}² pixels, SVS of one level, whole pyramid derived"
    yield _pyramid(bench, single, crop / "slide.svs", "svs-derived", title)
    crop = slides.svs(bench, bench.size.crop_tiles)
    title = f"{edge}² pixels, SVS of three levels, whole pyramid"
    yield _pyramid(bench, slides.svs(bench, tiles), crop / "slide.svs", "svs", title)
    crop = slides.wsm(bench, bench.size.crop_tiles)
    title = f"{edge}² pixels, DICOM of three levels, whole pyramid"
    yield _pyramid(bench, slides.wsm(bench, tiles), crop / "level-0.dcm", "dicom", title)


def _pyramid(bench: Bench, source: Path, first: Path, name: str, title: str) -> Comparison:
    size = bench.size
    # ``first`` is the file that a peer is given: what decodes 1.7 gigapixels takes
    # minutes, so it gets a smaller slide of the same tiles.
    scale = (size.slide_tiles / size.crop_tiles) ** 2
    edge = f"{size.crop_tiles * TILE:,}"
    remark = f"on {edge}² pixels, × {scale:.1f}"
    pixels = (size.slide_tiles * TILE) ** 2
    cores = len(os.sched_getaffinity(0))
    contenders = [
        Contender(
            "hdrs-hpc",
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
            CP,
            ("cp", "-r", str(source), str(bench.out("cp"))),
            needs=("bin:cp",),
            inputs=(source,),
            outputs=bench.out("cp"),
        ),
        Contender(
            OME,
            contender("openslide_ome_zarr", first, bench.out("ome-zarr")),
            needs=("openslide", "ome_zarr"),
            inputs=(first.parent,),
            outputs=bench.out("ome-zarr"),
            scale=scale,
            remark=remark,
        ),
        bytes_only(bench, (source,), bench.out("staged")),
    ]
    if name != "dicom":
        contenders[3:3] = [
            Contender(
                label,
                contender("wsidicomize", first, bench.out(f"wsi-{mode}"), mode, cores),
                needs=("wsidicomizer", *more_needs),
                inputs=(first.parent,),
                outputs=bench.out(f"wsi-{mode}"),
                scale=scale,
                remark=remark + more,
            )
            for label, mode, more, more_needs in (
                (WSI, "transcode", "", ()),
                (WSI_KEEP, "keep", ", decodes no tile", ("lib:turbojpeg",)),
            )
        ]
    goals = [
        Goal("≥ 10 × the fastest decoding peer", ASKED, peers=(OME, WSI), least=10.0),
        Goal("bytes ≤ 1.4 × the source", ASKED, limit=1.4, figure=GROWN, better="lower"),
    ]
    if name != "svs-derived":
        goals.insert(
            0, Goal("level 0 and all that is stored within 2 × of cp", ASKED, peers=(CP,), least=0.5)
        )
    return Comparison(
        f"pyramid-{name}",
        title,
        "s",
        tuple(contenders),
        tuple(goals),
        cache="cold",
        notes=(
            "Of a peer that got a smaller slide, all but its start (interpreter, imports) is scaled by pixels.",
        ),
        published=(
            Published(
                "bioformats2raw",
                70 * pixels / LEICA_PIXELS,
                181 * pixels / LEICA_PIXELS,
                "its authors' 70 to 181 s for Leica-1.scn, on their machine, by pixels",
            ),
        ),
    )
