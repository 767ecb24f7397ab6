"""What an instance of a slide shows, as one digest: pixels and size, whatever they were compressed with."""

from __future__ import annotations

import hashlib
from itertools import product

import numpy as np

from imaging.staging.items import Bench
from imaging.staging.pathology.headers import WsmHeader
from imaging.staging.pathology.slide import Grid
from imaging.staging.pathology.source import source_pixels

_SIDE = 2048
"""Pixels of a box asked for at once."""


def content(bench: Bench, number: int, header: WsmHeader) -> str:
    """Digest over all planes, decoded box by box, with the size of a pixel and the channels.

    Raises :class:`~imaging.staging.refusals.Refused` where a tile is missing or broken.
    """
    level, dtype = header.level, np.dtype(header.dtype)
    said = (level.width, level.height, header.mpp, header.focal_um, header.paths, header.frame_of_reference)
    running = hashlib.sha256(repr(said).encode())
    corners = [*product(range(0, level.height, _SIDE), range(0, level.width, _SIDE))]
    for plane in range(len(header.paths) * len(header.focal_um)):
        for top, left in corners:
            bottom, right = min(top + _SIDE, level.height), min(left + _SIDE, level.width)
            shape = (bottom - top, right - left, header.samples)
            grid = Grid(number, 0, plane)
            pixels, holes = source_pixels(bench, grid, (top, left, bottom, right), False, shape, dtype)
            running.update(np.ascontiguousarray(pixels))
            running.update(repr(holes).encode())
    return running.hexdigest()
