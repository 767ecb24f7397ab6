"""Requests about slides: each ends in an answer or in a reason code, whatever the file holds."""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from pydantic import ValidationError

from imaging.staging.parsing.dicom.values import MALFORMED
from imaging.staging.parsing.slides import grid as grids
from imaging.staging.parsing.slides.opening import open_slide
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.pathology.headers import SlideHeader, WsmHeader

BROKEN = (*MALFORMED, tifffile.TiffFileError, struct.error, ValidationError, np.exceptions.AxisError)
"""What libraries raise on broken slides; anything else ends this process, which costs this file only."""


def read_header(file: BinaryIO, keywords: frozenset[str]) -> SlideHeader | WsmHeader:
    """What the slide is; raises :class:`Unreadable`."""
    with _broken_is_unreadable():
        return open_slide(file).header(keywords)


def read_tiles(file: BinaryIO, request: dict[str, Any]) -> Iterator[list[bytes]]:
    """See :func:`grid.read_tiles`; ``request`` names level, plane, rows, columns."""
    with _broken_is_unreadable():
        grid = open_slide(file).grid(int(request["level"]), int(request["plane"]))
        yield from grids.read_tiles(grid, request["rows"], request["columns"])


def read_pixels(file: BinaryIO, request: dict[str, Any]) -> tuple[NDArray[Any], grids.Holes]:
    """See :func:`grid.read_pixels`; ``request`` names level, plane, box, halved."""
    with _broken_is_unreadable():
        grid = open_slide(file).grid(int(request["level"]), int(request["plane"]))
        return grids.read_pixels(grid, request["box"], bool(request["halved"]))


@contextmanager
def _broken_is_unreadable() -> Iterator[None]:
    # Broken files make their readers warn and log with their contents.
    warnings.simplefilter("ignore")
    logging.getLogger("tifffile").disabled = True
    try:
        yield
    except BROKEN:
        raise Unreadable("malformed-slide") from None
