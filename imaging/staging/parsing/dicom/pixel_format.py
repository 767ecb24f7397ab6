"""How an instance's pixels are stored, and as what its frames are given (PS3.3 C.7.6.3, PS3.5 8)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pydicom.dataset import Dataset

from imaging.staging.parsing.dicom.dataset import Opened
from imaging.staging.parsing.dicom.palette import Palette, read_palette
from imaging.staging.parsing.dicom.values import integer, is_filled, text
from imaging.staging.parsing.unreadable import Unreadable

ValueType = Literal["integer", "float32", "float64", "bit"]

MAX_FRAMES = 100_000
_FEW_FRAMES = 1000
_FRAME_SPACE = 64
"""Bytes of a file for each of many frames: the stager holds a header of each, which must not outgrow the file."""
_FRAME_BYTES = 1 << 30
"""A decoded frame at most: also the most that the stager takes."""
_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
_YBR = (
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_PARTIAL_422",
    "YBR_PARTIAL_420",
    "YBR_ICT",
    "YBR_RCT",
    "XYB",
)
_FLOATS: dict[str, tuple[ValueType, int]] = {
    "FloatPixelData": ("float32", 32),
    "DoubleFloatPixelData": ("float64", 64),
}


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """Checked: every number here may be counted with."""

    rows: int
    columns: int
    samples: int
    """As stored."""
    planar: bool
    """Colour by plane (Planar Configuration 1)."""
    photometric: str
    allocated: int
    stored: int
    high: int
    signed: bool
    frames: int
    value_type: ValueType
    palette: Palette | None

    @property
    def container(self) -> int:
        """Bits of the integers given: the least of 8, 16, 32 and 64 that holds Bits Allocated."""
        return next(bits for bits in (8, 16, 32, 64) if self.allocated <= bits)

    @property
    def colour(self) -> bool:
        """Whether frames are given as RGB."""
        return self.samples == 3 or self.palette is not None

    @property
    def subsampled(self) -> bool:
        """Whether uncompressed chroma is stored for every second column only."""
        return self.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422")

    @property
    def frame_bits(self) -> int:
        """Bits of one uncompressed frame."""
        if self.photometric == "YBR_PARTIAL_420":
            return self.rows * self.columns * 3 // 2 * self.allocated
        samples = 2 if self.subsampled else self.samples
        return self.rows * self.columns * samples * self.allocated


def pixel_format(opened: Opened) -> PixelFormat:
    """What the header says of the pixels; raises :class:`Unreadable` where it can't be so."""
    dataset = opened.dataset
    pixels = opened.pixels
    if pixels is None:
        raise Unreadable("pixel-data-missing")
    rows, columns = _integer(dataset, "Rows"), _integer(dataset, "Columns")
    frames = _frames(opened)
    if rows is None or columns is None or not 1 <= rows <= 65535 or not 1 <= columns <= 65535:
        raise _missing(dataset, "Rows", "Columns") or Unreadable("malformed-dicom")
    photometric = text(dataset, "PhotometricInterpretation").upper().replace(" ", "_")
    samples = _integer(dataset, "SamplesPerPixel")
    if samples is None:
        samples = 3 if photometric in (*_YBR, "RGB") else 1
    if pixels.keyword in _FLOATS:
        value_type, allocated = _FLOATS[pixels.keyword]
        if samples != 1:
            raise Unreadable("unsupported-pixel-format")
        return _sized(
            PixelFormat(
                rows, columns, 1, False, photometric or "MONOCHROME2", allocated, allocated, allocated - 1,
                True, frames, value_type, None,
            )
        )  # fmt: skip
    allocated_, stored_, high_ = (
        _integer(dataset, name) for name in ("BitsAllocated", "BitsStored", "HighBit")
    )
    if allocated_ is None or not photometric:
        raise _missing(dataset, "BitsAllocated", "PhotometricInterpretation") or Unreadable("malformed-dicom")
    stored = allocated_ if stored_ is None else stored_
    high = stored - 1 if high_ is None else high_
    if not 1 <= allocated_ <= 64 or not 1 <= stored <= allocated_ or not stored - 1 <= high < allocated_:
        raise Unreadable("malformed-dicom")
    bit = allocated_ == 1
    form = PixelFormat(
        rows,
        columns,
        samples,
        _integer(dataset, "PlanarConfiguration") == 1,
        photometric.replace("_COLOR", " COLOR"),
        allocated_,
        stored,
        high,
        _integer(dataset, "PixelRepresentation") == 1 and not bit,
        frames,
        "bit" if bit else "integer",
        None,
    )
    _check_colour(form)
    if form.photometric == "PALETTE COLOR" and text(dataset, "SegmentationType") != "LABELMAP":
        form = replace(form, palette=read_palette(dataset, opened.big_endian))
    return _sized(_relabelled(form, opened))


def _missing(dataset: Dataset, *names: str) -> Unreadable | None:
    """The refusal that names those of ``names`` that are absent or empty, if any is."""
    absent = [name for name in names if not is_filled(dataset, name)]
    return Unreadable("required-attribute-missing", *absent) if absent else None


def _integer(dataset: Dataset, name: str) -> int | None:
    """An integer that decides how pixels are read: one that is there but can't be read is never guessed."""
    found = integer(dataset, name)
    if found is None and is_filled(dataset, name):
        raise Unreadable("malformed-dicom")
    return found


def _frames(opened: Opened) -> int:
    frames = _integer(opened.dataset, "NumberOfFrames")
    if frames is None or frames == 0:
        return 1  # single-frame objects; some writers say 0
    # What was deflated may have shrunk eightfold, hardly more: frames differ in their groups at least.
    room = min(opened.size, opened.packed * 8) // _FRAME_SPACE
    if not 1 <= frames <= MAX_FRAMES or frames > max(_FEW_FRAMES, room):
        raise Unreadable("malformed-dicom")
    return frames


def _check_colour(form: PixelFormat) -> None:
    """Photometric Interpretation and Samples per Pixel belong together; those retired long ago are refused."""
    colour = form.photometric in (*_YBR, "RGB")
    grey = form.photometric in (*_MONOCHROME, "PALETTE COLOR")
    if (not colour and not grey) or form.samples not in (1, 3):
        raise Unreadable("unsupported-pixel-format")
    if colour != (form.samples == 3):
        raise Unreadable("malformed-dicom")
    if form.samples == 3 and (form.signed or form.allocated not in (8, 16, 32)):
        raise Unreadable("unsupported-pixel-format")


def _relabelled(form: PixelFormat, opened: Opened) -> PixelFormat:
    """Uncompressed pixels that are called subsampled but have the full length are not subsampled."""
    pixels = opened.pixels
    if not form.subsampled or pixels is None or pixels.length is None:
        return form
    whole = form.rows * form.columns * 3 * form.allocated // 8 * form.frames
    if pixels.length < whole:
        return form
    full = "YBR_FULL" if form.photometric == "YBR_FULL_422" else form.photometric
    return replace(form, photometric=full)


def _sized(form: PixelFormat) -> PixelFormat:
    if form.rows * form.columns * (3 if form.colour else 1) * form.container // 8 > _FRAME_BYTES:
        raise Unreadable("too-large")
    return form
