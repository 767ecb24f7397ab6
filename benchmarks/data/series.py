"""CT and MR series from the real slices that come with pydicom."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from benchmarks.bench import Bench, Making
from benchmarks.data.dicom_files import Template, number, uid

DISTINCT = 128
"""Slices with pixels of their own; then they come again, far enough apart that no codec of ours sees it."""
_CT_FILE, _MR_FILE = "J2K_pixelrep_mismatch.dcm", "MR_small.dcm"
_VERSION = 3
_FOLDERS = 500
"""Files a folder, as archives lay them out."""

Slices = NDArray[np.int16]


def ct_series(bench: Bench, encoding: str, slices: int | None = None, pixels: int | None = None) -> Path:
    """One CT series: ``slices`` axial slices of ``pixels`` × ``pixels``, 16 bits, 1 mm apart."""
    count, side = slices or bench.size.ct_slices, pixels or bench.size.ct_pixels
    parameters = {"encoding": encoding, "slices": count, "pixels": side, "version": _VERSION}
    return bench.made(f"ct-{encoding}", parameters, lambda to, told: _ct(to, told, encoding, count, side, 1))


def ct_archives(bench: Bench, sizes: Sequence[int]) -> list[Path]:
    """Archives of native CT of about so many bytes each, in series of ``ct_slices``.

    The smaller ones are the first series of the largest, as hard links: together they take its room only.
    """
    side, per = bench.size.ct_pixels, bench.size.ct_slices
    numbers = [max(1, round(size / (side * side * 2 * per))) for size in sizes]
    largest = max(numbers)
    parameters = {"slices": per, "series": largest, "pixels": side, "version": _VERSION}
    whole = bench.made(
        "ct-archive", parameters, lambda to, told: _ct(to, told, "native", per * largest, side, largest)
    )

    def linked(number: int, folder: Path, told: Making) -> None:
        for path in sorted(whole.rglob("IM*"))[: number * per]:
            (folder / path.parent.name).mkdir(exist_ok=True)
            os.link(path, folder / path.parent.name / path.name)

    return [
        whole
        if number == largest
        else bench.made("ct-archive", {**parameters, "first": number}, partial(linked, number))
        for number in numbers
    ]


def mr_series(bench: Bench) -> Path:
    """One functional MR series of many small files: ``mr_times`` × ``mr_slices`` of ``mr_pixels`` squared."""
    size = bench.size
    parameters = {
        "times": size.mr_times,
        "slices": size.mr_slices,
        "pixels": size.mr_pixels,
        "version": _VERSION,
    }
    return bench.made("mr-small-files", parameters, lambda to, told: _mr(to, told, size))


def small_series(bench: Bench, count: int) -> Path:
    """``count`` MR series of two slices of 64 × 64, four series a patient."""
    parameters = {"series": count, "version": _VERSION}
    return bench.made(f"series-{count}", parameters, lambda to, told: _small(to, told, count))


def ct_slices(side: int) -> Slices:
    """All distinct CT slices, (128, side, side)."""
    return variations(_ct_pixels(dcmread(_real(_CT_FILE))), side, DISTINCT)


def variations(base: NDArray[Any], side: int, count: int) -> Slices:
    """``count`` different (side, side) slices of one real one.

    Turned, mirrored and multiplied: noise stays noise, so that each compresses as the real one does, and none is
    found again in its neighbours.
    """
    size = max(base.shape)
    square = np.full((size, size), base.min(), base.dtype)
    square[: base.shape[0], : base.shape[1]] = base
    while size < side:
        square = np.block([[square, square[:, ::-1]], [square[::-1], square[::-1, ::-1]]])
        size *= 2
    square = square[:side, :side].astype(np.float32)
    low = square.min()
    made = np.empty((count, side, side), np.int16)
    for place in range(count):
        turned = np.rot90(square, place % 4)
        turned = turned[:, ::-1] if place // 4 % 2 else turned
        gain = 1 + 0.0011 * (place // 8) + 0.00013 * (place % 8)
        made[place] = np.rint((turned - low) * gain + low)
    return made


def _ct(folder: Path, told: Making, encoding: str, count: int, side: int, series: int) -> None:
    source = dcmread(_real(_CT_FILE))
    base = _ct_pixels(source)
    slices = variations(base, side, min(count, DISTINCT))
    streams = _encoded(slices, encoding)
    _set(
        source,
        {
            "Rows": side,
            "Columns": side,
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
            "Modality": "CT",
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [0.7, 0.7],
            "SliceThickness": 1,
            "RescaleSlope": 1,
            "RescaleIntercept": 0,
            "PatientID": "BENCH-1",
            "PatientName": "Bench^Mark",
            "BurnedInAnnotation": "NO",
        },
    )

    def varied(place: int) -> dict[str, Any]:
        which, slice_ = divmod(place, math.ceil(count / series))
        return {
            "SOPInstanceUID": uid(1, which, slice_),
            "SeriesInstanceUID": uid(2, which),
            "ImagePositionPatient": [number(-180.0), number(-180.0), number(slice_ * 1.0)],
            "SliceLocation": number(slice_ * 1.0),
            "InstanceNumber": f"{slice_ + 1:06d}",
        }

    _write(folder, told, source, encoding, count, varied, lambda place: streams[place % len(streams)])


def _mr(folder: Path, told: Making, size: Any) -> None:
    source = dcmread(_real(_MR_FILE))
    count = size.mr_times * size.mr_slices
    slices = variations(source.pixel_array, size.mr_pixels, min(count, DISTINCT))
    streams = _encoded(slices, "native")
    _as_mr(source, size.mr_pixels)

    def varied(place: int) -> dict[str, Any]:
        time, slice_ = divmod(place, size.mr_slices)
        return {
            "SOPInstanceUID": uid(3, time, slice_),
            "SeriesInstanceUID": uid(4, 1),
            "ImagePositionPatient": [number(-90.0), number(-90.0), number(slice_ * 3.0)],
            "InstanceNumber": f"{place + 1:06d}",
            "TemporalPositionIdentifier": f"{time + 1:06d}",
            "AcquisitionNumber": f"{time + 1:04d}",
        }

    source.NumberOfTemporalPositions = size.mr_times
    _write(folder, told, source, "native", count, varied, lambda place: streams[place % len(streams)])


def _small(folder: Path, told: Making, count: int) -> None:
    source = dcmread(_real(_MR_FILE))
    streams = _encoded(variations(source.pixel_array, 64, DISTINCT), "native")
    _as_mr(source, 64)

    def varied(place: int) -> dict[str, Any]:
        series, slice_ = divmod(place, 2)
        return {
            "SOPInstanceUID": uid(5, series, slice_),
            "SeriesInstanceUID": uid(6, series),
            "StudyInstanceUID": uid(7, series // 4),
            "PatientID": f"BENCH-{series // 4:08d}",
            "ImagePositionPatient": [number(-90.0), number(-90.0), number(slice_ * 3.0)],
            "InstanceNumber": f"{slice_ + 1:06d}",
        }

    _write(folder, told, source, "native", 2 * count, varied, lambda place: streams[place % len(streams)])


def _as_mr(source: Dataset, side: int) -> None:
    _set(
        source,
        {
            "Rows": side,
            "Columns": side,
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
            "PixelSpacing": [1.4, 1.4],
            "SliceThickness": 3,
            "SpacingBetweenSlices": 3,
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PatientID": "BENCH-2",
        },
    )


def _set(source: Dataset, attributes: dict[str, Any]) -> None:
    for keyword, value in attributes.items():
        setattr(source, keyword, value)


def _write(
    folder: Path,
    told: Making,
    source: Dataset,
    encoding: str,
    count: int,
    varied: Callable[[int], dict[str, Any]],
    pixels: Callable[[int], bytes],
) -> None:
    template = Template(source, encoding, varied(0))
    for place in range(count):
        if place % _FOLDERS == 0:
            below = folder / f"{place // _FOLDERS:04d}"
            below.mkdir()
        (below / f"IM{place % _FOLDERS:04d}").write_bytes(template.file(varied(place), pixels(place)))
        if place % 100 == 0:
            told(place, count)


def _encoded(slices: Slices, encoding: str) -> list[bytes]:
    encode: Callable[[Slices], bytes] = {
        "native": lambda pixels: pixels.tobytes(),
        # Both standards know signed samples as unsigned bits; DICOM's PixelRepresentation tells.
        "jpegls": lambda pixels: bytes(imagecodecs.jpegls_encode(pixels.view(np.uint16))),
        "j2k": lambda pixels: bytes(
            imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, level=0)
        ),
    }[encoding]
    with ThreadPoolExecutor(2) as pool:  # encoders let go of the interpreter's lock
        return list(pool.map(encode, slices))


def _ct_pixels(source: Dataset) -> NDArray[Any]:
    """The file is in pydicom's collection because its codestream calls 13-bit values unsigned that its header calls
    signed: the header is right."""
    frame = next(generate_frames(source.PixelData, number_of_frames=1))
    unsigned = np.asarray(imagecodecs.jpeg2k_decode(frame)).astype(np.int32)
    return ((unsigned + 4096) % 8192 - 4096).astype(np.int16)


def _real(name: str) -> str:
    found = get_testdata_file(name, download=False)
    if found is None:
        raise FileNotFoundError(name)
    return str(found)
