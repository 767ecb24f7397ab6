"""What an instance shows, as one digest: pixels and place, whatever they were compressed with."""

from __future__ import annotations

import hashlib
from itertools import batched

import numpy as np

from imaging.staging import answers
from imaging.staging.items import Bench
from imaging.staging.radiology.arrays import stored_dtype
from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.radiology.slabs import checked

_TOGETHER = 64
"""Frames a request."""


def content(bench: Bench, number: int, header: InstanceHeader) -> tuple[str, bool]:
    """Digest over all frames, decoded, with where they lie and what their values stand for; and whether all have their
    ends.

    Raises :class:`~imaging.staging.refusals.Refused` where a frame is missing or broken.
    """
    running = hashlib.sha256(_place(header).encode())
    dtype = np.dtype(np.uint8) if header.value_type == "bit" else np.dtype(stored_dtype(header))
    colour = (header.samples,) if header.samples > 1 else ()
    complete = True
    for frames in batched(range(len(header.frames)), _TOGETHER):
        for said, blob in bench.reader.ask(number, "frames", frames=list(frames)):
            pixels = checked(said, blob, (*colour, header.rows, header.columns), dtype)
            running.update(np.ascontiguousarray(pixels, dtype=dtype))
            complete = complete and answers.said(said).get("complete") is True
    return running.hexdigest(), complete


def _place(header: InstanceHeader) -> str:
    frames = [
        (one.position_mm, one.orientation, one.spacing_mm, one.slope, one.intercept, one.segment)
        for one in header.frames
    ]
    stands_for = (header.frame_of_reference, header.padding, header.modality_lut, header.segments)
    shape = (header.rows, header.columns, header.samples, header.signed, header.photometric == "MONOCHROME1")
    return repr((frames, stands_for, shape))
