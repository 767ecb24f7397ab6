"""Staged copies as files, for programs that need files: zarr as it was staged, or one NIfTI a series.

They lie in the sandbox's ``/tmp``, which is private memory and gone with the attempt.  Sizes are added up before
anything is written, so nothing is ever larger than the spec says.
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imaging.reading import StagedCopy, open_staged
from imaging.reading.client import client_here

INDEX = "index.parquet"
"""Of a copy (``imaging/layout.py``)."""
LEFT_OUT = "left-out.json"
NIFTI_HEADER_BYTES = 352


class TooLargeError(Exception):
    """The files would be larger than the spec says, or memory does not hold them."""


def materialise(inputs: Mapping[str, str], folder: Path, most_bytes: int) -> None:
    """Write each of ``inputs`` (name → ``zarr`` or ``nifti``) below ``folder/<name>``.

    Raises TooLargeError, before anything is written where the size is known by then.
    """
    writers = {"zarr": (_zarr_bytes, _write_zarr), "nifti": (_nifti_bytes, _write_nifti)}
    if sum(writers[how][0](name) for name, how in inputs.items()) > most_bytes:
        raise TooLargeError
    for name, how in inputs.items():
        (folder / name).mkdir(parents=True)
        try:
            writers[how][1](name, folder / name)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.ENOMEM):
                raise TooLargeError from None
            raise


def _zarr_bytes(name: str) -> int:
    client = client_here()
    return sum(client.sizes(name, client.paths(name)))


def _write_zarr(name: str, folder: Path) -> None:
    """Every object of the copy under its path: a zarr hierarchy that any reader of zarr v3 opens."""
    copy = open_staged(name)
    for path in client_here().paths(name):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(copy.read(path))


def _nifti_bytes(name: str) -> int:
    copy = open_staged(name)
    sizes = [NIFTI_HEADER_BYTES + 4 * math.prod(copy.volume(item).shape) for item in _written(copy)]
    return sum(sizes) + len(copy.read(INDEX))


def _write_nifti(name: str, folder: Path) -> None:
    """``<id>.nii`` of each series, in the unit that it measures; beside them the index and what is left out."""
    copy = open_staged(name)
    written = _written(copy)
    for item in written:
        nifti_of(copy, item).to_filename(folder / f"{item}.nii")
    (folder / INDEX).write_bytes(copy.read(INDEX))
    left = {item: _why_not(copy, item) for item in copy.series() if item not in written}
    (folder / LEFT_OUT).write_text(json.dumps(left | dict.fromkeys(copy.slides(), "a slide is no volume")))


def _written(copy: StagedCopy) -> list[str]:
    return [item for item in copy.series() if _why_not(copy, item) is None]


def _why_not(copy: StagedCopy, item: str) -> str | None:
    """Why NIfTI can't say what a series is; None where it can."""
    if copy.volume(item).ndim != 3:
        return "it has more axes than z, y, x"
    geometry = copy.geometry(item)
    if geometry is None:
        return "its images state no place in the patient"
    return None if geometry.uniform else "its slices are not evenly spaced"


def nifti_of(copy: StagedCopy, item: str) -> Any:
    """A series as NIfTI: float32 (x, y, z), affine in RAS millimetres.  Needs nibabel, which the flavour torch has."""
    import nibabel

    made: Any = nibabel.Nifti1Image  # its methods are not annotated
    geometry = copy.geometry(item)
    assert geometry is not None, "left out before"
    image = made(np.transpose(copy.physical(item), (2, 1, 0)), geometry.affine_ras_xyz)
    image.header.set_xyzt_units("mm")
    image.set_qform(geometry.affine_ras_xyz, code="scanner")
    image.set_sform(geometry.affine_ras_xyz, code="scanner")
    return image  # nibabel.Nifti1Image
