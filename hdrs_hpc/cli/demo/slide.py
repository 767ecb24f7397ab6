"""An Aperio slide (SVS) of real tissue, with canaries in its description, on its label and in its tiles.

The tissue is the real H&E tile (240 × 240 pixels) that the package ``wsidicom-data`` carries (Apache-2.0), mirrored
into a larger slide.  As in Aperio's files, each tile is an abbreviated JPEG codestream in RGB without colour
marker, whose tables stand once in the TIFF tag JPEGTables (TIFF Technical Note 2).
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hdrs_hpc.cli.demo.identities import Canaries, Identities, Patient
from hdrs_hpc.cli.demo.series import pick_windows

TILE = 240
MIRRORS = 2
"""How often the region is repeated along each side, each time mirrored so that edges meet."""
QUALITY = 78
LEVEL_FACTOR = 4
MICRONS_PER_PIXEL = 0.499

_JPEG_TABLES = 347
_SOI, _EOI, _SOS = b"\xff\xd8", b"\xff\xd9", 0xDA
_TABLE_MARKERS = {0xDB, 0xC4}


def write_slide(path: Path, patient: Patient, seed: int, identities: Identities, canaries: Canaries) -> None:
    """One slide: two tiled levels, thumbnail, label and macro, in Aperio's order of pages."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    region = _mirrored(_mirrored(_real_tile()))
    # A stain never comes out twice the same; this also keeps the codestreams apart from any other use of it.
    stain = np.array(chance.sample(range(-6, 7), 3), np.int16)
    stained = np.clip(region.astype(np.int16) + stain, 0, 255).astype(np.uint8)
    whole = np.tile(_mirrored(stained), (MIRRORS // 2, MIRRORS // 2, 1))
    height, width = whole.shape[:2]
    small = _shrunk(whole, LEVEL_FACTOR)
    tissue_block = identities.code("BLK", "tissue-block")
    description = _description(patient, tissue_block, identities, width, height)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as tiff:
        _write_level(tiff, whole, description, canaries, chance)
        thumbnail = f"Aperio Image Library v11.2.1 \n{width}x{height} -> 480x480 - ;{description}"
        _write_plain(tiff, _shrunk(whole, width // 480), thumbnail, canaries, chance)
        _write_level(tiff, small, f"{description}|Level = 1", canaries, chance)
        label = _label(patient, tissue_block)
        _write_label(tiff, label, canaries, chance)
        macro = np.full((label.shape[0], 1280, 3), 240, np.uint8)
        macro[:, : label.shape[1]] = label
        macro[60:340, 600:880] = _shrunk(whole, width // 280)[:280, :280]
        _write_plain(
            tiff, macro, "Aperio Image Library v11.2.1 \nmacro 1280x431", canaries, chance, subfile=9
        )


def _real_tile() -> NDArray[np.uint8]:
    """(240, 240, 3) RGB.  Found without importing its package, which would bring half a DICOM stack along."""
    spec = find_spec("wsidicom_data")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("wsidicom_data", name="wsidicom_data")
    with Image.open(Path(spec.submodule_search_locations[0], "data", "test_tile.png")) as image:
        return np.asarray(image.convert("RGB"))


def _mirrored(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Twice as large along each side, edges meeting."""
    top, bottom = np.hstack([pixels, pixels[:, ::-1]]), np.hstack([pixels[::-1], pixels[::-1, ::-1]])
    return np.vstack([top, bottom])


def _description(patient: Patient, block: str, known: Identities, width: int, height: int) -> str:
    """Aperio's first page's description; the real ones hold user, barcode, serial and file names too."""
    fields = {
        "AppMag": "20",
        "StripeWidth": "2040",
        "ScanScope ID": known.code("SS", "scanner-serial"),
        "Filename": known.code("FN", "file-name"),
        "Title": patient.name,
        "Barcode": known.code("BC", "barcode"),
        "Patient": patient.nhs_number,
        "Block": block,
        "Date": "03/12/84",
        "Time": known.time("slide-time"),
        "User": known.code("USR", "user"),
        "MPP": f"{MICRONS_PER_PIXEL:.4f}",
        "OriginalWidth": str(width),
        "Originalheight": str(height),
    }
    head = f"Aperio Image Library v11.2.1 \r\n{width}x{height} [0,0 {width}x{height}] "
    tail = "|".join(f"{key} = {value}" for key, value in fields.items())
    return f"{head}({TILE}x{TILE}) JPEG/RGB Q={QUALITY}|{tail}"


def _write_level(
    tiff: tifffile.TiffWriter,
    pixels: NDArray[np.uint8],
    description: str,
    canaries: Canaries,
    chance: random.Random,
) -> None:
    streams = [_split(_jpeg(tile)) for tile in _tiles(pixels)]
    tables = streams[0][0]
    if any(found != tables for found, _ in streams):
        raise ValueError("tiles of one level with different JPEG tables")
    for _, stream in streams:
        for window in pick_windows(stream[len(stream) // 4 :], 2, chance):
            canaries.plant_window(window, "tile")
    _write(
        tiff,
        iter([stream for _, stream in streams]),
        pixels.shape,
        description,
        tile=(TILE, TILE),
        extratags=[(_JPEG_TABLES, 7, len(tables), tables, True)],
    )


def _write_plain(
    tiff: tifffile.TiffWriter,
    pixels: NDArray[np.uint8],
    description: str,
    canaries: Canaries,
    chance: random.Random,
    subfile: int = 0,
) -> None:
    """An untiled JPEG page, as thumbnail and macro are."""
    stream = _jpeg(np.ascontiguousarray(pixels))
    for window in pick_windows(stream[len(stream) // 4 :], 4, chance):
        canaries.plant_window(window, "picture")
    _write(tiff, iter([stream]), pixels.shape, description, rowsperstrip=pixels.shape[0], subfiletype=subfile)


def _write(
    tiff: tifffile.TiffWriter, data: Iterator[bytes], shape: tuple[int, ...], description: str, **more: Any
) -> None:
    tiff.write(
        data,
        shape=shape,
        dtype="uint8",
        photometric="rgb",
        compression="jpeg",
        compressionargs={"outcolorspace": "RGB"},
        subsampling=(1, 1),
        description=description.encode("utf-8"),
        metadata=None,
        software=False,
        **more,
    )


def _write_label(
    tiff: tifffile.TiffWriter, pixels: NDArray[np.uint8], canaries: Canaries, chance: random.Random
) -> None:
    for window in pick_windows(pixels.tobytes(), 16, chance):
        canaries.plant_window(window, "label")
    height, width = pixels.shape[:2]
    tiff.write(
        pixels,
        photometric="rgb",
        compression="adobe_deflate",
        rowsperstrip=height,
        subfiletype=1,
        description=f"Aperio Image Library v11.2.1 \nlabel {width}x{height}".encode(),
        metadata=None,
        software=False,
    )


def _label(patient: Patient, tissue_block: str) -> NDArray[np.uint8]:
    """What is printed on the glass, as a picture; grained like a photograph, shape (431, 480, 3)."""
    picture = Image.new("RGB", (480, 431), (250, 248, 235))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(22)
    lines = (patient.name, patient.nhs_number, patient.patient_id, tissue_block)
    for row, line in enumerate(lines):
        draw.text((12, 40 + 80 * row), line, fill=(20, 20, 60), font=font)
    grain = np.random.default_rng(len(patient.name)).integers(-9, 10, size=(431, 480, 3))
    grained: NDArray[np.uint8] = np.clip(np.asarray(picture, np.int16) + grain, 0, 255).astype(np.uint8)
    return grained


def _tiles(pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for top in range(0, pixels.shape[0], TILE):
        for left in range(0, pixels.shape[1], TILE):
            yield np.ascontiguousarray(pixels[top : top + TILE, left : left + TILE])


def _shrunk(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """The mean of factor × factor pixels."""
    height, width = (size // factor * factor for size in pixels.shape[:2])
    cells = pixels[:height, :width].reshape(height // factor, factor, width // factor, factor, 3)
    shrunk: NDArray[np.uint8] = np.ascontiguousarray(cells.mean(axis=(1, 3)).astype(np.uint8))
    return shrunk


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    return bytes(
        imagecodecs.jpeg8_encode(
            pixels, level=QUALITY, colorspace="rgb", outcolorspace="rgb", subsampling="444", optimize=False
        )
    )


def _split(stream: bytes) -> tuple[bytes, bytes]:
    """A whole codestream as (tables, abbreviated stream), each from SOI to EOI; drops APPn markers.

    ITU-T T.81, B.2.4 and B.5: tables may stand apart from the image that uses them.
    """
    tables = rest = _SOI
    at = 2
    while True:
        marker, length = struct.unpack_from(">xBH", stream, at)
        segment = stream[at : at + 2 + length]
        if marker == _SOS:
            return tables + _EOI, rest + stream[at:]
        if marker in _TABLE_MARKERS:
            tables += segment
        elif not 0xE0 <= marker <= 0xEF:
            rest += segment
        at += 2 + length
