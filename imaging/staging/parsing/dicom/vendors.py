"""What vendors keep in private elements of single-frame images: diffusion, phase images, mosaics."""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping

from pydicom.dataset import Dataset

from imaging.staging.parsing.dicom.values import as_numbers, number, numbers, private
from imaging.staging.radiology.headers import Coordinate

_CSA_TAGS = 1000


def csa_header(dataset: Dataset) -> Mapping[str, tuple[str, ...]]:
    """Elements of Siemens' CSA image header by name; empty where there is none or it is broken.

    The layout is not published by Siemens; what is known of it is told by nibabel's documentation.
    """
    raw = private(dataset, 0x0029, "SIEMENS CSA HEADER", 0x10)
    return _csa_or_none(raw) if isinstance(raw, bytes) and len(raw) >= 16 else {}


@functools.lru_cache(1)  # asked for several things of one file
def _csa_or_none(raw: bytes) -> Mapping[str, tuple[str, ...]]:
    try:
        return _csa_elements(raw)
    except (struct.error, ValueError):
        return {}


def _csa_elements(raw: bytes) -> dict[str, tuple[str, ...]]:
    second = raw[:4] == b"SV10"
    at = 8 if second else 0
    count, _ = struct.unpack_from("<2I", raw, at)
    at += 8
    if not 0 < count <= _CSA_TAGS:
        raise ValueError("not a CSA header")
    found: dict[str, tuple[str, ...]] = {}
    base = 0
    for number_ in range(count):
        name_, _, _, _, parts, _ = struct.unpack_from("<64si4s3i", raw, at)[:6]
        at += 84
        if number_ == 0:
            base = parts
        values = []
        for _ in range(min(parts, _CSA_TAGS)):
            lengths = struct.unpack_from("<4i", raw, at)
            at += 16
            # The first version counts lengths from the number of items of the first element.
            length = lengths[1] if second else lengths[0] - base
            if length < 0 or at + length > len(raw):
                raise ValueError("an element longer than the header")
            value = raw[at : at + length].split(b"\0")[0].decode("latin-1").strip()
            if value:
                values.append(value)
            at += (length + 3) // 4 * 4
        found[name_.split(b"\0")[0].decode("latin-1")] = tuple(values)
    return found


def diffusion(dataset: Dataset) -> dict[Coordinate, float]:
    """b-value in s/mm² and gradient direction (LPS unit vector) of a single-frame image, where told.

    GE's own gradient elements are not read: they are in the scanner's axes and their signs depend on the
    scanner's software; newer scanners write the standard attribute.
    """
    b_value, gradient = number(dataset, "DiffusionBValue"), numbers(dataset, "DiffusionGradientOrientation")
    for group, creator, b_element, gradient_elements in _DIFFUSION:
        if b_value is None:
            told = as_numbers(private(dataset, group[0], creator[0], b_element))
            b_value = told[0] if told else None
        if gradient is None and gradient_elements:
            parts = [as_numbers(private(dataset, group[1], creator[1], one)) for one in gradient_elements]
            gradient = tuple(part for one in parts for part in one or ())
            gradient = gradient if len(gradient) == 3 else None
    if b_value is None:
        b_value, gradient = _other_diffusion(dataset, gradient)
    if b_value is None or not 0 <= b_value < 1e6:
        return {}
    found: dict[Coordinate, float] = {"b-value": b_value}
    if b_value > 0 and gradient is not None and len(gradient) == 3 and 0.5 < sum(x * x for x in gradient) < 2:
        found |= {"gradient-x": gradient[0], "gradient-y": gradient[1], "gradient-z": gradient[2]}
    return found


_DIFFUSION = (
    ((0x0019, 0x0019), ("SIEMENS MR HEADER", "SIEMENS MR HEADER"), 0x0C, (0x0E,)),
    ((0x2001, 0x2005), ("Philips Imaging DD 001", "Philips MR Imaging DD 001"), 0x03, (0xB0, 0xB1, 0xB2)),
    ((0x0065, 0x0065), ("Image Private Header", "Image Private Header"), 0x09, (0x37,)),  # United Imaging
)
"""(groups, creators, element) of the b-value and of the gradient."""


def _other_diffusion(
    dataset: Dataset, gradient: tuple[float, ...] | None
) -> tuple[float | None, tuple[float, ...] | None]:
    """From Siemens' CSA header, or GE's image parameters."""
    csa = csa_header(dataset)
    told = as_numbers(csa.get("B_value") or None)
    if told:
        return told[0], gradient or as_numbers(csa.get("DiffusionGradientDirection") or None)
    parameters = as_numbers(private(dataset, 0x0043, "GEMS_PARM_01", 0x39))
    # GE adds 10⁹ where directions come from a file.
    return (parameters[0] % 100_000 if parameters else None), gradient


def complex_component(dataset: Dataset) -> str:
    """MAGNITUDE, PHASE, REAL or IMAGINARY where a private element alone tells; else ""."""
    kind = private(dataset, 0x0043, "GEMS_PARM_01", 0x2F)
    told = as_numbers(kind)
    names = {0: "MAGNITUDE", 1: "PHASE", 2: "REAL", 3: "IMAGINARY"}
    return names.get(int(told[0]), "") if told else ""


def mosaic_tiles(dataset: Dataset) -> int:
    """Number of images in a Siemens mosaic; 0 where it isn't told."""
    told = as_numbers(private(dataset, 0x0019, "SIEMENS MR HEADER", 0x0A))
    if not told:
        told = as_numbers(csa_header(dataset).get("NumberOfImagesInMosaic") or None)
    return int(told[0]) if told and 0 < told[0] < 65536 else 0


def mosaic_normal(dataset: Dataset) -> tuple[float, ...] | None:
    """Direction in which a mosaic's tiles follow each other."""
    return as_numbers(csa_header(dataset).get("SliceNormalVector") or None)
