"""Where a DICOM image's frames show text: runs in the parser, so that no pixel has to leave it for this."""

from __future__ import annotations

from typing import BinaryIO

from imaging.deid.pixels.boxes import Box
from imaging.staging.parsing.dicom.pixels import decode_frames


def find(file: BinaryIO, frames: list[int]) -> list[list[Box]]:
    """Boxes of text on each of ``frames`` (numbers from 0), in that order.

    Raises :class:`~imaging.staging.parsing.unreadable.Unreadable` as decoding does.  The stager clips the boxes to
    the frame before it believes them.
    """
    # Loaded when first asked for: most stagings never look for text.
    from imaging.deid.pixels.text import find_text

    return [find_text(pixels) for pixels in decode_frames(file, frames)]
