"""Slides for tests, written as scanners write them: Hamamatsu's TIFF, DICOM whole-slide instances."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from archive import tissue, uid
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    VLWholeSlideMicroscopyImageStorage,
)

Pixels = NDArray[np.uint8]
LABEL_CANARY = "LABEL-CANARY-4711"


def picture_of_text(text: str, height: int = 96, width: int = 128) -> Pixels:
    """Pixels whose bytes are a text again and again: a label that can be searched for."""
    raw = np.frombuffer((text.encode() * (height * width * 3 // len(text) + 1)), np.uint8)
    return raw[: height * width * 3].reshape(height, width, 3).copy()


def jpeg(pixels: Pixels, *, subsampling: int = 1, restart: int = 0) -> bytes:
    """``subsampling`` by Pillow: 0 is 4:4:4, 1 is 4:2:2, 2 is 4:2:0.  ``restart``: MCUs an interval."""
    buffer = io.BytesIO()
    more = {"restart_marker_blocks": restart} if restart else {}
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85, subsampling=subsampling, **more)
    return buffer.getvalue()


def restart_starts(stream: bytes) -> list[int]:
    """Where each restart interval begins."""
    scan = stream.index(b"\xff\xda")
    first = scan + 2 + int.from_bytes(stream[scan + 2 : scan + 4], "big")
    return [first, *(first + match.end() for match in re.finditer(rb"\xff[\xd0-\xd7]", stream[first:]))]


def ndpi(
    path: Path,
    levels: Sequence[Pixels],
    *,
    interval_px: int = 256,
    heights_um: Sequence[float] = (0.0,),
    mcu_starts: bool = True,
    uneven_px: int = 0,
    serial: str = "SN-CANARY-88",
) -> None:
    """A slide of 20×: each level as one JPEG of 4:2:2 for each focal plane, then macro and map.

    ``uneven_px``: intervals of the last level, which then do not end with its rows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pages: list[tuple[bytes, tuple[int, int], float, float, bool]] = []
    for place, pixels in enumerate(levels):
        for height in heights_um:
            shown = np.roll(pixels, int(height), axis=0)
            blocks = interval_px // 16
            # As the scanner does: levels whose rows are no whole number of intervals are one interval a row.
            if -(-pixels.shape[1] // 16) % blocks:
                blocks = -(-pixels.shape[1] // 16)
            if uneven_px and place == len(levels) - 1:
                blocks = uneven_px // 16
            stream = jpeg(shown, restart=blocks)
            pages.append((stream, pixels.shape[:2], 20 / 2**place, height, True))
    label = picture_of_text(LABEL_CANARY)
    pages.append((jpeg(label), (96, 128), -1.0, 0.0, False))
    pages.append((jpeg(label), (96, 128), -2.0, 0.0, False))
    out = bytearray(b"II*\0" + bytes(8))
    directories = []
    for stream, (height_px, width_px), lens, height_um, cut in pages:
        at = len(out)
        out += stream
        starts = restart_starts(stream) if cut and mcu_starts else []
        entries: list[tuple[int, int, Any]] = [
            (256, 4, width_px),
            (257, 4, height_px),
            (258, 3, (8, 8, 8)),
            (259, 3, 7),
            (262, 3, 6),
            (271, 2, b"Hamamatsu\0"),
            (273, 4, at),
            (277, 3, 3),
            (278, 4, height_px),
            (279, 4, len(stream)),
            (282, 5, (44_000, 1)),
            (283, 5, (44_000, 1)),
            (296, 3, 3),
            (306, 2, b"1999:12:31 23:59:59\0"),
            (65420, 4, 1),
            (65421, 11, lens),
            (65422, 9, 0),
            (65423, 9, 0),
            (65424, 9, int(height_um * 1000)),
            (65427, 2, f"REF-{serial}\0".encode()),
            (65442, 2, f"{serial}\0".encode()),
        ]
        if starts:
            entries.append((65426, 4, tuple(starts)))
        directories.append(sorted(entries))
    link = 4
    for entries in directories:
        values = [_packed(kind, value, out) for _, kind, value in entries]
        out += bytes(len(out) % 2)
        struct.pack_into("<Q", out, link, len(out))
        out += struct.pack("<H", len(entries))
        for (tag, kind, _), (count, low) in zip(entries, values, strict=True):
            out += struct.pack("<HHI", tag, kind, count) + low
        link = len(out)
        out += bytes(8) + bytes(4 * len(entries))
    path.write_bytes(bytes(out))


def _packed(kind: int, value: Any, out: bytearray) -> tuple[int, bytes]:
    """Count and the four bytes of an entry; larger values are appended to ``out``."""
    if kind == 2:
        raw, count = value, len(value)
    elif kind == 5:
        raw, count = struct.pack("<II", *value), 1
    else:
        many = value if isinstance(value, tuple) else (value,)
        raw = struct.pack(f"<{len(many)}" + {3: "H", 4: "I", 9: "i", 11: "f"}[kind], *many)
        count = len(many)
    if len(raw) <= 4 and kind != 2:
        return count, raw.ljust(4, b"\0")
    out += bytes(len(out) % 2)
    at = len(out)
    out += raw
    return count, struct.pack("<I", at)


def wsm(
    path: Path,
    pixels: Pixels,
    *,
    tile: int = 256,
    name: str = "s",
    level: int = 0,
    patient: str = "PATIENT-1",
    kind: str = "VOLUME",
    frames: Sequence[bytes] | None = None,
    syntax: str = JPEGBaseline8Bit,
    sparse: Sequence[tuple[int, int, float, str]] | None = None,
    mpp: float = 0.25,
    **attributes: Any,
) -> Dataset:
    """One level as one instance.  ``frames``: encoded, else JPEG tiles of ``pixels``.  ``sparse``: (row, column,
    height in µm, optical path) of each frame, rows and columns of tiles."""
    height, width = pixels.shape[:2]
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    sop = uid(name, level, kind, path.name)
    meta.MediaStorageSOPInstanceUID = sop
    dataset = FileDataset(
        str(path),
        {},
        file_meta=meta,
        preamble=b"\0" * 128,
        is_implicit_VR=syntax == ImplicitVRLittleEndian,
        is_little_endian=syntax != ExplicitVRBigEndian,
    )
    color = pixels.ndim == 3
    dataset.update(
        {
            "SOPClassUID": VLWholeSlideMicroscopyImageStorage,
            "SOPInstanceUID": sop,
            "StudyInstanceUID": uid(name, "study"),
            "SeriesInstanceUID": uid(name, "series"),
            "FrameOfReferenceUID": uid(name, "frame"),
            "PatientID": patient,
            "PatientName": "CANARY^JANE",
            "ContainerIdentifier": f"BARCODE-{name}",
            "Modality": "SM",
            "ImageType": ["ORIGINAL", "PRIMARY", kind, "NONE"],
            "DimensionOrganizationType": "TILED_SPARSE" if sparse else "TILED_FULL",
            "TotalPixelMatrixRows": height,
            "TotalPixelMatrixColumns": width,
            "Rows": tile,
            "Columns": tile,
            "SamplesPerPixel": 3 if color else 1,
            "PhotometricInterpretation": "YBR_FULL_422" if color else "MONOCHROME2",
            "BitsAllocated": 8 * pixels.itemsize,
            "BitsStored": 8 * pixels.itemsize,
            "HighBit": 8 * pixels.itemsize - 1,
            "PixelRepresentation": 0,
        }
    )
    if color:
        dataset.PlanarConfiguration = 0
    measures, shared, path_item = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [mpp / 1000, mpp / 1000]
    dataset.ImagedVolumeWidth, dataset.ImagedVolumeHeight = width * mpp / 1000, height * mpp / 1000
    shared.PixelMeasuresSequence = Items([measures])
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    path_item.OpticalPathIdentifier = "1"
    path_item.ObjectiveLensPower = 40
    dataset.OpticalPathSequence = Items([path_item])
    encoded = list(frames) if frames is not None else [jpeg(part) for part in tiles_of(pixels, tile)]
    dataset.NumberOfFrames = len(encoded)
    if sparse:
        dataset.PerFrameFunctionalGroupsSequence = Items(
            [_frame_group(row * tile, column * tile, z, name) for row, column, z, name in sparse]
        )
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        if all(encoded):
            dataset.PixelData = encapsulate(encoded)
        else:  # pydicom writes no empty frames
            items = [b"", *(one + bytes(len(one) % 2) for one in encoded)]
            dataset.PixelData = b"".join(
                b"\xfe\xff\x00\xe0" + struct.pack("<I", len(one)) + one for one in items
            )
        dataset["PixelData"].VR = "OB"
    else:
        raw = b"".join(encoded)
        dataset.PixelData = raw + bytes(len(raw) % 2)
        dataset["PixelData"].VR = "OW" if pixels.itemsize == 2 else "OB"
    dataset.save_as(path, enforce_file_format=True)
    return dataset


def tiles_of(pixels: NDArray[Any], tile: int) -> list[NDArray[Any]]:
    """Row-major, filled up at the edge by repeating."""
    height, width = pixels.shape[:2]
    more = [(0, -height % tile), (0, -width % tile)] + [(0, 0)] * (pixels.ndim - 2)
    whole = np.pad(pixels, more, mode="edge")
    return [
        np.ascontiguousarray(whole[y : y + tile, x : x + tile])
        for y in range(0, whole.shape[0], tile)
        for x in range(0, whole.shape[1], tile)
    ]


def _frame_group(y: int, x: int, z: float, path: str) -> Dataset:
    group, position, identification = Dataset(), Dataset(), Dataset()
    position.RowPositionInTotalImagePixelMatrix = y + 1
    position.ColumnPositionInTotalImagePixelMatrix = x + 1
    position.ZOffsetInSlideCoordinateSystem = z
    group.PlanePositionSlideSequence = Items([position])
    identification.OpticalPathIdentifier = path
    group.OpticalPathIdentificationSequence = Items([identification])
    return group


def pyramid(pixels: Pixels, count: int = 3) -> list[Pixels]:
    """``pixels`` and its halves."""
    return [np.ascontiguousarray(pixels[:: 2**level, :: 2**level]) for level in range(count)]


def he(height: int, width: int) -> Pixels:
    """Tissue, as :func:`archive.tissue`."""
    return tissue(height, width)


def without_tiles(
    path: Path, page: int, tiles: Sequence[int] | None = None, *, sub_ifd: int | None = None
) -> None:
    """Give tiles of a TIFF's page (by number, all by default) the length zero, as some scanners do where they made
    none.  ``sub_ifd``: of that page's SubIFDs."""
    with tifffile.TiffFile(path) as tiff:
        found = tiff.pages[page] if sub_ifd is None else tiff.pages[page].pages[sub_ifd]
        counts = found.tags[325]
        size, at = counts.valuebytecount // counts.count, counts.valueoffset
        numbers = range(counts.count) if tiles is None else tiles
    with path.open("r+b") as file:
        for number in numbers:
            file.seek(at + size * number)
            file.write(bytes(size))
