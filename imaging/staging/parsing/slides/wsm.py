"""VL Whole Slide Microscopy instances (PS3.3 A.32.8): one level, or a part of one, as planes of tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset

from imaging.staging.parsing.dicom.dataset import Opened, open_dataset
from imaging.staging.parsing.slides import jpeg2000
from imaging.staging.parsing.slides.color import ycbcr_to_rgb
from imaging.staging.parsing.slides.dicom_frames import (
    Frames,
    check_whole,
    encapsulated_frames,
    native_frames,
)
from imaging.staging.parsing.slides.grid import MAX_TILE_BYTES
from imaging.staging.parsing.slides.jpeg import TileCompleter, quality, segments
from imaging.staging.parsing.slides.source import Source
from imaging.staging.parsing.slides.tiff import KEPT_SIDES, decode_jpeg
from imaging.staging.parsing.slides.wsm_attributes import (
    attributes,
    background,
    color_profile,
    image_flavor,
    micrometres_per_pixel,
    optical_paths,
    required,
    text,
    yes_no,
)
from imaging.staging.parsing.slides.wsm_places import Places, full_places, sparse_places
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.pathology.headers import (
    Encoding,
    LevelHeader,
    WsmHeader,
)
from imaging.staging.radiology.transfer_syntaxes import LOSSY

SOP_CLASS = uid.VLWholeSlideMicroscopyImageStorage
_NATIVE = frozenset({uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian})
_JPEG = frozenset({uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit})
_J2K = frozenset(
    {
        uid.JPEG2000, uid.JPEG2000Lossless, uid.JPEG2000MC, uid.JPEG2000MCLossless,
        uid.HTJ2K, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL,
    }
)  # fmt: skip
_LOSSLESS_JPEG = frozenset({uid.JPEGLossless, uid.JPEGLosslessSV1})
_OTHER = frozenset({uid.RLELossless, uid.JPEGLSLossless, uid.JPEGLSNearLossless})
_COLOR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420"})
_REQUIRED = ("TotalPixelMatrixRows", "TotalPixelMatrixColumns", "Rows", "Columns", "BitsAllocated")
_TEXT = 1000


def open_wsm(file: BinaryIO) -> WsmInstance:
    """Raises :class:`Unreadable`, and what pydicom raises on broken files."""
    opened = open_dataset(file)
    if str(opened.dataset.get("SOPClassUID") or opened.media_class) != SOP_CLASS:
        raise Unreadable("unsupported-slide")
    return WsmInstance(opened, Source(file))


class WsmInstance:
    """One instance; ``plane`` counts its optical paths, each with all its focal planes."""

    def __init__(self, opened: Opened, source: Source) -> None:
        if opened.pixels is None:
            raise Unreadable("pixel-data-missing")
        dataset = opened.dataset
        if image_flavor(dataset) != "VOLUME":
            # Its pixels are never read, so nothing else has to be as those of a level; but it has to be whole.
            check_whole(opened)
            raise Unreadable("slide-side-image")
        _check_required(dataset)
        self.source = source
        self._dataset = dataset
        self._at = opened.pixels.start
        self._syntax = opened.syntax
        self._format = _PixelFormat.of(dataset)
        self._paths = optical_paths(dataset)
        self._places = self._tile_places()
        self._frames: Frames | None = None

    def header(self, keywords: frozenset[str]) -> WsmHeader:
        dataset = self._dataset
        grid = self._grid(0)
        color = self._format.color
        lossy = text(dataset, "LossyImageCompression") == "01"
        return WsmHeader(
            samples=3 if color else 1,
            dtype="uint16" if self._format.bits_allocated == 16 else "uint8",
            focal_um=self._places.focal_um,
            focal_known=self._places.focal_known,
            mpp=micrometres_per_pixel(dataset, grid.width, grid.height),
            background=background(dataset, color),
            icc=color_profile(dataset),
            attributes=attributes(dataset, keywords),
            sop_instance=required(dataset, "SOPInstanceUID"),
            study=required(dataset, "StudyInstanceUID"),
            series=required(dataset, "SeriesInstanceUID"),
            frame_of_reference=text(dataset, "FrameOfReferenceUID"),
            pyramid=text(dataset, "PyramidUID"),
            concatenation=text(dataset, "ConcatenationUID"),
            container=text(dataset, "ContainerIdentifier"),
            patient_id=text(dataset, "PatientID"),
            issuer=text(dataset, "IssuerOfPatientID"),
            image_type=tuple(str(part)[:_TEXT] for part in list(dataset.get("ImageType") or [])[:16]),
            burned_in=yes_no(dataset, "BurnedInAnnotation"),
            label_in_image=yes_no(dataset, "SpecimenLabelInImage") == "YES",
            lossy=lossy or grid.encoding == "lossy",
            level=LevelHeader(
                width=grid.width,
                height=grid.height,
                tile_width=grid.tile[1],
                tile_height=grid.tile[0],
                encoding=grid.encoding,
                quality=grid.quality,
            ),
            paths=tuple(self._paths),
        )

    def grid(self, level: int, plane: int) -> WsmGrid:
        if level != 0 or not 0 <= plane < len(self._paths) * len(self._places.focal_um):
            raise ValueError("no such plane")
        return self._grid(plane)

    def _grid(self, plane: int) -> WsmGrid:
        if self._frames is None:
            self._frames = self._find_frames()
        return WsmGrid(self, plane, self._frames, self._places, self._format, self._syntax)

    def _tile_places(self) -> Places:
        dataset = self._dataset
        size = (int(dataset.TotalPixelMatrixRows), int(dataset.TotalPixelMatrixColumns))
        tile = (int(dataset.Rows), int(dataset.Columns))
        count = int(dataset.get("NumberOfFrames") or 1)
        if min(*size, *tile) < 1 or count < 1:
            raise Unreadable("malformed-dicom")
        kind = text(dataset, "DimensionOrganizationType")
        if kind == "TILED_SPARSE" or (kind != "TILED_FULL" and "PerFrameFunctionalGroupsSequence" in dataset):
            identifiers = [path.identifier for path in self._paths]
            return sparse_places(dataset, size, tile, count, identifiers)
        return full_places(dataset, size, tile, count, len(self._paths))

    def _find_frames(self) -> Frames:
        count = int(self._dataset.get("NumberOfFrames") or 1)
        end = self.source.file.seek(0, 2)
        syntax = self._syntax
        if syntax in _NATIVE:
            implicit = syntax == uid.ImplicitVRLittleEndian
            big = syntax == uid.ExplicitVRBigEndian
            return native_frames(self.source, self._at, big, not implicit, count, self._format.bytes)
        if syntax in _JPEG | _J2K | _LOSSLESS_JPEG | _OTHER:
            return encapsulated_frames(self.source, self._at, self._dataset, count, end)
        raise Unreadable("unsupported-transfer-syntax")


def _check_required(dataset: Dataset) -> None:
    absent = [keyword for keyword in _REQUIRED if dataset.get(keyword) in (None, "")]
    if absent:
        raise Unreadable("required-attribute-missing", *absent)


@dataclass(frozen=True, slots=True)
class _PixelFormat:
    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    planar: bool

    @property
    def color(self) -> bool:
        return self.samples == 3

    @property
    def bytes(self) -> int:
        """Of one native frame."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8

    @staticmethod
    def of(dataset: Dataset) -> _PixelFormat:
        samples = int(dataset.get("SamplesPerPixel") or 1)
        allocated = int(dataset.BitsAllocated)
        found = _PixelFormat(
            rows=int(dataset.Rows),
            columns=int(dataset.Columns),
            samples=samples,
            photometric=text(dataset, "PhotometricInterpretation"),
            bits_allocated=allocated,
            bits_stored=int(dataset.get("BitsStored") or allocated),
            planar=int(dataset.get("PlanarConfiguration") or 0) == 1,
        )
        color = samples == 3 and found.photometric in _COLOR and allocated == 8
        grey = samples == 1 and found.photometric == "MONOCHROME2" and allocated in (8, 16)
        if not (color or grey) or int(dataset.get("PixelRepresentation") or 0):
            raise Unreadable("unsupported-pixel-format")
        return found


class WsmGrid:
    """One optical path at one focal plane."""

    def __init__(
        self,
        instance: WsmInstance,
        plane: int,
        frames: Frames,
        places: Places,
        pixels: _PixelFormat,
        syntax: uid.UID,
    ) -> None:
        self._instance, self._plane = instance, plane
        self._frames, self._places = frames, places
        self._format, self._syntax = pixels, syntax
        self.height, self.width = places.size
        self.tile = (pixels.rows, pixels.columns)
        self.samples = pixels.samples
        self.dtype = np.dtype("uint16" if pixels.bits_allocated == 16 else "uint8")
        self.fill = 255 if pixels.color else 0
        color: Literal["gray", "rgb", "ycbcr"] = "gray"
        if pixels.color:
            color = "rgb" if pixels.photometric == "RGB" else "ycbcr"
        # DICOM's photometric interpretation is often wrong where the codestream says it rightly.
        self._completer = TileCompleter(
            b"", color, width=pixels.columns, height=pixels.rows, trust_adobe=True
        )
        self.quality: int | None = None
        self.encoding: Encoding = self._encoding()
        kept = self.tile if self.encoding == "jpeg" else (0, 0)
        self._room = np.empty((*kept, self.samples), dtype=np.uint8)

    def has_any(self) -> bool:
        return any(self._frames.has(frame) for frame in range(len(self._frames.fragments)))

    def has(self, row: int, column: int) -> bool:
        frame = self._places.frame(self._plane, row, column)
        return frame is not None and self._frames.has(frame)

    def codestream(self, row: int, column: int) -> bytes:
        raw = self._raw(row, column)
        return self._kept(raw) if raw else b""

    def decoded(self, row: int, column: int) -> NDArray[Any] | None:
        raw = self._raw(row, column)
        if not raw:
            return None
        pixels = self._unpacked(raw)
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        if pixels.shape != (*self.tile, self.samples):
            raise Unreadable("decode-failed")
        if self._format.bits_stored < self._format.bits_allocated:
            most = (1 << self._format.bits_stored) - 1
            # What a lossy codec gives beyond white is white; bits above lossless values are no part of them.
            pixels = np.minimum(pixels, most) if self._is_lossy(raw) else pixels & most
        return pixels.astype(self.dtype, copy=False)

    def _raw(self, row: int, column: int) -> bytes:
        frame = self._places.frame(self._plane, row, column)
        if frame is None:
            return b""
        if sum(length for _, length in self._frames.fragments[frame]) > MAX_TILE_BYTES:
            raise Unreadable("too-large")
        return self._frames.read(self._instance.source, frame)

    def _kept(self, raw: bytes) -> bytes:
        if self._syntax in _JPEG:
            return self._completer.complete(raw)
        stream = jpeg2000.without_comments(raw)
        if not self._keeps_j2k(stream):
            raise Unreadable("unsupported-slide")
        return stream

    def _keeps_j2k(self, stream: bytes) -> bool:
        said = jpeg2000.inspect(stream)
        size = (said.height, said.width, said.components, said.bits)
        bits = 8 * self.dtype.itemsize
        whole = self._format.bits_stored == bits  # else values may be beyond what Bits Stored holds
        alike = whole and size == (*self.tile, self.samples, bits) and not said.signed and not said.subsampled
        return alike and not self._is_raw_ycbcr(said)

    def _is_raw_ycbcr(self, said: jpeg2000.Codestream) -> bool:
        """Components that are YCbCr although no transform of the codestream undoes it."""
        return self._format.photometric.startswith("YBR") and not said.mct

    def _encoding(self) -> Encoding:
        if self._syntax in _NATIVE | _LOSSLESS_JPEG or self._syntax in (uid.RLELossless, uid.JPEGLSLossless):
            return "lossless"
        if self._syntax == uid.JPEGLSNearLossless:
            return "lossy"
        first = self._frames.read(self._instance.source, self._frames.first())
        if self._syntax in _J2K:
            if all(side in KEPT_SIDES for side in self.tile) and self._keeps_j2k(first):
                return "jpeg2000"
            return "lossless" if jpeg2000.inspect(first).reversible else "lossy"
        if all(side in KEPT_SIDES for side in self.tile) and self.dtype == np.uint8:
            try:
                self.quality = quality(segments(self._completer.complete(first))[0])
                return "jpeg"
            except Unreadable as unreadable:
                if unreadable.code != "unsupported-slide":
                    raise
        return "lossy"

    def _is_lossy(self, raw: bytes) -> bool:
        if self._syntax in _J2K:
            return self._syntax in LOSSY or not jpeg2000.inspect(raw).reversible
        return self._syntax in LOSSY

    def _unpacked(self, raw: bytes) -> NDArray[Any]:
        pixels = self._format
        if self._syntax in _NATIVE:
            return self._native(raw)
        try:
            if self._syntax in _JPEG:
                if self.encoding == "jpeg":
                    return decode_jpeg(self._completer.complete(raw), self._room)
                space = "RGB" if pixels.photometric == "RGB" else "YCbCr" if pixels.color else None
                return np.asarray(
                    imagecodecs.jpeg8_decode(raw, colorspace=space, outcolorspace="RGB" if space else None)
                )
            if self._syntax in _J2K:
                return jpeg2000.decode(raw, ycbcr=self._is_raw_ycbcr(jpeg2000.inspect(raw)))
            if self._syntax in _LOSSLESS_JPEG:
                decoded = np.asarray(imagecodecs.ljpeg_decode(raw))
                # A codestream that says RGB is believed before the header.
                return decoded if _says_rgb(raw) else self._as_rgb(decoded)
            if self._syntax == uid.RLELossless:
                flat = imagecodecs.dicomrle_decode(raw, dtype=self.dtype.newbyteorder("<"))
                planes = np.frombuffer(flat, dtype=self.dtype).reshape(self.samples, *self.tile)
                return self._as_rgb(np.moveaxis(planes, 0, -1))
            return self._as_rgb(np.asarray(imagecodecs.jpegls_decode(raw)))
        except (
            imagecodecs.ImcdError,
            imagecodecs.Jpeg8Error,
            imagecodecs.LjpegError,
            imagecodecs.JpeglsError,
            ValueError,
            RuntimeError,
        ):
            raise Unreadable("decode-failed") from None

    def _native(self, raw: bytes) -> NDArray[Any]:
        order: Literal["<", ">"] = ">" if self._syntax == uid.ExplicitVRBigEndian else "<"
        flat = np.frombuffer(raw, dtype=self.dtype.newbyteorder(order))
        if self._format.planar and self.samples == 3:
            return self._as_rgb(np.moveaxis(flat.reshape(3, *self.tile), 0, -1))
        return self._as_rgb(flat.reshape(*self.tile, self.samples))

    def _as_rgb(self, pixels: NDArray[Any]) -> NDArray[Any]:
        if not self._format.color or self._format.photometric == "RGB":
            return pixels
        if self._format.photometric != "YBR_FULL":
            raise Unreadable("unsupported-pixel-format")
        return ycbcr_to_rgb(pixels)


def _says_rgb(raw: bytes) -> bool:
    """An Adobe APP14 segment with transform 0."""
    own = segments(raw)[0]
    return any(marker == 0xEE and body[:5] == b"Adobe" and body[11:12] == b"\0" for marker, body in own)
