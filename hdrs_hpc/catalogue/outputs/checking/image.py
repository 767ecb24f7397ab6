"""Images: decoded to pixels and encoded anew, so that nothing but coarse pixels leaves."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from hdrs_hpc.catalogue.outputs.checking import containers
from hdrs_hpc.catalogue.outputs.checking.containers import MalformedImageError, Pixels
from hdrs_hpc.catalogue.outputs.checking.contract import Checking, Neighbour, NoRule
from hdrs_hpc.catalogue.outputs.checking.declared import Declared
from hdrs_hpc.catalogue.outputs.checking.disclosure import Pattern
from hdrs_hpc.catalogue.outputs.checking.granted import mapping_of
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from hdrs_hpc.catalogue.outputs.checking.refusal import ArtefactRefusedError, Finding

MEDIA_TYPE = "image/png"
MAX_SIDE = 4096
MAX_PIXELS = 12_000_000
BITS_KEPT = 5

_BLOCK = 32
_PHOTO_LEVELS = 20
_PHOTO_SHARE = 0.04


class ImageTooLargeError(ArtefactRefusedError):
    code = "image-too-large"
    meaning = "The image has more pixels than a drawing needs."
    remedy = f"At most {MAX_SIDE} pixels a side and {MAX_PIXELS} in all: lower the dpi."


class ImageWithoutDataError(ArtefactRefusedError):
    code = "image-data-missing"
    meaning = "An image is only as safe as the numbers it draws, and those were not checked with it."
    remedy = "Declare the table that the image draws as an output of class table and name it under data."


class ImageShowsSuppressedError(ArtefactRefusedError):
    code = "image-shows-suppressed"
    meaning = "The image draws a table in which counts had to be suppressed, so it would show them."
    remedy = "Draw a table whose groups are all large enough: merge categories or widen the bins."


@dataclass(frozen=True)
class Picture:
    """A decoded image, (rows, columns, RGB) of uint8."""

    name: str
    pixels: NDArray[np.uint8]
    source: str
    dropped: tuple[str, ...]
    dropped_bytes: int
    findings: tuple[Finding, ...]
    data: str | None
    """The table that it draws."""

    def sheet(self) -> None:
        """Pixels hold no counts that could be protected: the table does."""

    def compare(self, neighbours: Mapping[str, Neighbour]) -> None:
        """Refuse it unless its table leaves as a whole."""
        drawn = neighbours.get(self.data or "")
        if drawn is None or drawn.cls != "table":
            raise ImageWithoutDataError("no table of this job is named under data")
        if drawn.refused or drawn.pattern is None:
            raise ImageWithoutDataError(f"its table {self.data} was refused")
        if drawn.pattern.hidden:
            raise ImageShowsSuppressedError(f"its table is {self.data}")

    def rebuild(self, rule: NoRule, pattern: Pattern | None, out: BinaryIO) -> dict[str, Any]:
        data, repaired = rebuild(self)
        out.write(data)
        return repaired


def read(
    declared: Declared, source: BinaryIO, seen: str, _rule: NoRule, _inputs: InputFacts, _out: BinaryIO
) -> Picture:
    return parse(declared, source.read(), seen)


def parse(declared: Declared, data: bytes, seen: str) -> Picture:
    """Decode ``data``, of which :func:`~hdrs_hpc.broker.workers.airlock.identify.identify` said png or jpeg."""
    reduced = containers.reduce_png(data) if seen == "png" else containers.reduce_jpeg(data)
    if max(reduced.width, reduced.height) > MAX_SIDE or reduced.width * reduced.height > MAX_PIXELS:
        raise ImageTooLargeError(f"{reduced.width} × {reduced.height} pixels")
    pixels = _decode(reduced, seen)
    findings = []
    share = photo_share(pixels)
    if share > _PHOTO_SHARE:
        findings.append(
            Finding(
                "image-looks-like-a-scan",
                f"{share:.0%} of its area has the texture of a photograph or scan: look for patient images",
            )
        )
    return Picture(
        declared.name, pixels, seen, reduced.dropped, reduced.dropped_bytes, tuple(findings), declared.data
    )


def rebuild(picture: Picture) -> tuple[bytes, dict[str, Any]]:
    """A new PNG from the upper five bits of each channel, and what was repaired.

    ``capacity-bits`` bounds what the file could hide: it can't tell more than it has bits.
    """
    coarse = picture.pixels >> (8 - BITS_KEPT)
    spread = (coarse << (8 - BITS_KEPT)) | (coarse >> (2 * BITS_KEPT - 8))  # white stays 255
    out = io.BytesIO()
    Image.fromarray(spread).save(out, format="PNG", optimize=False, compress_level=9)
    data = out.getvalue()
    repaired = {
        "encoded-anew-from": picture.source,
        "metadata-removed": sorted(set(picture.dropped)),
        "metadata-removed-bytes": picture.dropped_bytes,
        "bits-kept-per-channel": BITS_KEPT,
        "width": int(picture.pixels.shape[1]),
        "height": int(picture.pixels.shape[0]),
        "capacity-bits": 8 * len(data),
    }
    return data, repaired


def photo_share(pixels: NDArray[np.uint8]) -> float:
    """The share of 32 × 32 blocks with many levels and no ground colour, as scans and stained tissue have."""
    grey = pixels.astype(np.uint16).sum(axis=2) // 3
    rows, columns = (size // _BLOCK for size in grey.shape)
    if not rows or not columns:
        return 0.0
    blocks = grey[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK).swapaxes(1, 2)
    photos: int = 0
    for block in blocks.reshape(-1, _BLOCK * _BLOCK):
        levels = np.bincount(block, minlength=256)
        photos += bool((levels > 0).sum() >= _PHOTO_LEVELS and levels.max() < _BLOCK * _BLOCK // 2)
    return photos / float(rows * columns)


def _decode(reduced: Pixels, seen: str) -> NDArray[np.uint8]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(reduced.data), formats=[seen.upper()])
            if image.size != (reduced.width, reduced.height) or getattr(image, "n_frames", 1) != 1:
                raise MalformedImageError("two readers would see two images")
            image.load()
            if image.mode.startswith("I"):
                raise MalformedImageError("16 bits a sample are a scan's, not a drawing's")
            clear = image.convert("RGBA")
            ground = Image.new("RGBA", clear.size, "white")
            return np.asarray(Image.alpha_composite(ground, clear).convert("RGB"), dtype=np.uint8)
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise MalformedImageError("not decodable") from None
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, ArithmeticError, struct.error) as error:
        # what Pillow's decoders raise on broken pixels
        raise MalformedImageError(f"not decodable ({type(error).__name__})") from None


def _rule(granted: Mapping[str, Any]) -> NoRule:
    mapping_of(granted, "image")
    return NoRule()


CHECKING = Checking(MEDIA_TYPE, _rule, read)
