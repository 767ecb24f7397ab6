"""In which direction an MR image was phase-encoded, towards which end, and when each slice was taken.

Distortions of echo-planar images run along this axis and turn round with its polarity, so that a pair of opposite ones
undistorts both.  The standard tells the axis; the polarity is in vendors' elements, whose meaning is known from the
tools dicm2nii and dcm2niix.  Philips and Canon write none.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable

from pydicom.dataset import Dataset

from imaging.staging.parsing.dicom.values import as_numbers, number, private, text, texts
from imaging.staging.parsing.dicom.vendors import csa_header

_AXES = {"ROW": "row", "COL": "column", "COLUMN": "column"}
_SIEMENS_XA = ((0x0021, "SIEMENS MR SDI 02"), 0x1C)
_UNITED_IMAGING = ((0x0065, "Image Private Header"), 0x58)
_REORDERED = {"LINEAR": "-", "REVERSE_LINEAR": "+"}
"""Rectilinear Phase Encode Reordering (0018,9034) as GE's echo-planar sequences write it."""


def phase_encoding(axis: str, told: Iterable[Dataset]) -> str:
    """``row`` or ``column`` (along which the phase was encoded), followed by ``+`` where it was encoded towards larger
    indices, ``-`` towards smaller ones; without a sign where the polarity is not told, "" where nothing is.

    ``axis``: In-plane Phase Encoding Direction (0018,1312).  ``told``: where the vendor's elements may be.
    """
    along = _AXES.get(axis.strip().upper(), "")
    if not along:
        return ""
    return along + next((sign for one in told if (sign := _sign(one))), "")


def _sign(dataset: Dataset) -> str:
    siemens = as_numbers(private(dataset, *_SIEMENS_XA[0], _SIEMENS_XA[1]))
    if not siemens:
        siemens = as_numbers(csa_header(dataset).get("PhaseEncodingDirectionPositive") or None)
    if siemens:
        return {1: "+", 0: "-"}.get(int(siemens[0]), "")
    united_imaging = as_numbers(private(dataset, *_UNITED_IMAGING[0], _UNITED_IMAGING[1]))
    if united_imaging:
        return {1: "-", 0: "+"}.get(int(united_imaging[0]), "")
    if _is_ge_echo_planar(dataset):
        return _REORDERED.get(text(dataset, "RectilinearPhaseEncodeReordering").upper(), "")
    return ""


def siemens_frame(group: Dataset) -> list[Dataset]:
    """Of a frame's functional groups the items with the vendor's own elements (0021,11FE)."""
    found = private(group, 0x0021, "SIEMENS MR SDI 02", 0xFE)
    return [one for one in found or () if isinstance(one, Dataset)]


def slice_time_s(dataset: Dataset) -> float | None:
    """Seconds since an unknown moment of the volume, where a vendor tells them for an image by itself: GE's
    echo-planar sequences as Trigger Time."""
    if not _is_ge_echo_planar(dataset):
        return None
    milliseconds = number(dataset, "TriggerTime")
    return None if milliseconds is None else milliseconds / 1000


def mosaic_times_s(dataset: Dataset, tiles: int) -> list[float] | None:
    """The same of each tile of a Siemens mosaic."""
    told = as_numbers(private(dataset, 0x0019, "SIEMENS MR HEADER", 0x29))
    if not told or len(told) < tiles:
        told = as_numbers(csa_header(dataset).get("MosaicRefAcqTimes") or None)
    if not told or len(told) < tiles:
        return None
    return [milliseconds / 1000 for milliseconds in told[:tiles]]


def _is_ge_echo_planar(dataset: Dataset) -> bool:
    return text(dataset, "Manufacturer").upper().startswith("GE") and "EP" in texts(
        dataset, "ScanningSequence"
    )


def acquired_by(*settings: str) -> str:
    """How an image was taken, as a short digest: it serves to be compared only."""
    return _digest(settings) if any(settings) else ""


@functools.lru_cache(64)
def _digest(settings: tuple[str, ...]) -> str:
    return hashlib.blake2b("\0".join(settings).encode(), digest_size=8).hexdigest()
