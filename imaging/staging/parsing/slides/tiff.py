"""Pages of a TIFF as planes of tiles (TIFF 6.0, BigTIFF), whatever format of slide they are part of."""

from __future__ import annotations

from typing import Any, BinaryIO, Literal

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from imaging.staging.parsing.slides import jpeg2000
from imaging.staging.parsing.slides.grid import MAX_TILE_BYTES, MAX_TILE_PIXELS
from imaging.staging.parsing.slides.jpeg import Color, TileCompleter, quality, segments
from imaging.staging.parsing.slides.source import Source
from imaging.staging.parsing.unreadable import Unreadable
from imaging.staging.pathology.headers import Encoding, LevelHeader

JPEG, J2K_YCBCR, J2K_RGB, J2K = 7, 33003, 33005, 34712
_J2K = frozenset({J2K_YCBCR, J2K_RGB, J2K})
_LOSSLESS = frozenset({1, 5, 8, 32773, 32946, 34925, 34926, 50000})
"""None, LZW, deflate, PackBits, LZMA, Zstandard."""
_LOSSY = frozenset({22610, 34892, 34934, 50001, 50002})
"""JPEG XR, lossy JPEG of DNG, WebP, JPEG XL."""
GRAY, RGB, YCBCR = 1, 2, 6
_UINT, _FLOAT = 1, 3
KEPT_SIDES = range(32, 2049)
"""Sides of tiles that are kept undecoded: readers decode whole tiles."""


def open_tiff(file: BinaryIO, **flags: Any) -> tifffile.TiffFile:
    """The file under a name of ours: a descriptor that came by socket has none, and tifffile wants one."""
    size = file.seek(0, 2)
    file.seek(0)
    return tifffile.TiffFile(tifffile.FileHandle(file, name="slide.tif", offset=0, size=size), **flags)


class Page:
    """What is known of one page (IFD), without the file."""

    def __init__(self, page: Any) -> None:
        self.width, self.height = int(page.imagewidth), int(page.imagelength)
        self.tiled = bool(page.is_tiled)
        rows = int(page.rowsperstrip) if not self.tiled else 0
        self.tile = (
            (int(page.tilelength), int(page.tilewidth))
            if self.tiled
            else (min(rows or self.height, self.height), self.width)
        )
        self.subfiletype = int(page.subfiletype)
        self.compression = int(page.compression)
        self.photometric = int(page.photometric)
        self.samples = int(page.samplesperpixel)
        self.planar = int(page.planarconfig) == 2 and self.samples > 1
        self.bits = page.bitspersample if isinstance(page.bitspersample, int) else 0
        self.format = page.sampleformat if isinstance(page.sampleformat, int) else 0
        self.depth = int(page.imagedepth)
        self.dtype = page.dtype
        self.tables: bytes = page.jpegtables or b""
        self.offsets = np.asarray(page.dataoffsets, dtype=np.int64)
        self.counts = np.asarray(page.databytecounts, dtype=np.int64)
        self._page = page

    @property
    def sound(self) -> bool:
        """An image that can be read at all: rectangles of whole samples, as many as it takes."""
        high, wide = self.tile
        if min(self.width, self.height, high, wide) < 1 or high * wide > MAX_TILE_PIXELS or self.depth != 1:
            return False
        rows, columns = self.tiles
        planes = self.samples if self.planar else 1
        return (
            self.compression in _LOSSLESS | _LOSSY | _J2K | {JPEG}
            and self.photometric in (GRAY, RGB, YCBCR)
            and self.type is not None
            and rows * columns * planes <= len(self.offsets) == len(self.counts)
        )

    @property
    def tiles(self) -> tuple[int, int]:
        """(rows, columns)."""
        return -(-self.height // self.tile[0]), -(-self.width // self.tile[1])

    @property
    def type(self) -> Literal["uint8", "uint16", "float32"] | None:
        """Of a sample, if slides may have such."""
        kinds: dict[tuple[int, int], Literal["uint8", "uint16", "float32"]] = {
            (8, _UINT): "uint8",
            (16, _UINT): "uint16",
            (32, _FLOAT): "float32",
        }
        return kinds.get((self.bits, self.format))

    @property
    def color(self) -> bool:
        """RGB, whatever it is encoded as."""
        return self.photometric in (RGB, YCBCR) and self.samples == 3

    def place(self, row: int, column: int, plane: int = 0) -> int:
        """Number of a tile."""
        rows, columns = self.tiles
        return (plane * rows + row) * columns + column

    def has(self, index: int) -> bool:
        """Whether the tile of this number is stored."""
        return bool(self.counts[index] and self.offsets[index])

    def raw(self, source: Source, index: int) -> bytes:
        """A tile's bytes; b"" where there is none."""
        count, offset = int(self.counts[index]), int(self.offsets[index])
        if not self.has(index):
            return b""
        if not 0 < count <= MAX_TILE_BYTES:
            raise Unreadable("too-large")
        return source.read(offset, count)

    def first_tile(self, source: Source) -> bytes:
        """The first that there is, or b""."""
        there = np.flatnonzero((self.counts > 0) & (self.offsets > 0))
        return self.raw(source, int(there[0])) if len(there) else b""

    def unpacked(self, data: bytes, index: int) -> NDArray[Any]:
        """A tile's pixels (y, x, samples) by tifffile's table of decoders."""
        try:
            pixels = self._page.decode(data, index, jpegtables=self.tables or None)[0]
        except (ValueError, TypeError, RuntimeError, imagecodecs.ImcdError, tifffile.TiffFileError):
            raise Unreadable("truncated-tile") from None
        if pixels is None or pixels.ndim != 4:
            raise Unreadable("truncated-tile")
        return np.asarray(pixels[0], dtype=self.dtype)


class PageGrid:
    """A page as one plane.  ``band``: only this sample of a page whose samples are channels."""

    def __init__(
        self,
        page: Page,
        source: Source,
        *,
        background: str,
        band: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.page, self.source = page, source
        self.band = band
        self.height, self.width = size or (page.height, page.width)
        self.tile = page.tile
        self.samples = 3 if page.color and band is None else 1
        self.dtype = np.dtype(page.type or "uint8")
        self.fill = 0 if background == "black" else 255
        self._completer: TileCompleter | None = None
        if page.compression == JPEG:
            self._completer = TileCompleter(
                page.tables, _jpeg_color(page), width=page.tile[1], height=page.tile[0]
            )
        self._ycbcr = page.compression == J2K_YCBCR
        self._room: NDArray[np.uint8] | None = None
        self._quality: int | None = None
        self.encoding: Encoding = self._encoding()

    def level(self) -> LevelHeader:
        """What the header says of it."""
        return LevelHeader(
            width=self.width,
            height=self.height,
            tile_width=self.tile[1],
            tile_height=self.tile[0],
            encoding=self.encoding,
            quality=self._quality,
        )

    def has_any(self) -> bool:
        return bool(((self.page.counts > 0) & (self.page.offsets > 0)).any())

    def has(self, row: int, column: int) -> bool:
        page = self.page
        planes = range(page.samples) if page.planar and self.band is None else [self.band or 0]
        return all(page.has(page.place(row, column, plane if page.planar else 0)) for plane in planes)

    def codestream(self, row: int, column: int) -> bytes:
        raw = self.page.raw(self.source, self.page.place(row, column))
        return self._kept(raw) if raw else b""

    def decoded(self, row: int, column: int) -> NDArray[Any] | None:
        page = self.page
        planes = range(page.samples) if page.planar and self.band is None else [self.band or 0]
        parts = []
        for plane in planes:
            index = page.place(row, column, plane if page.planar else 0)
            raw = page.raw(self.source, index)
            if not raw:
                return None
            parts.append(self._unpacked(raw, index))
        pixels = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        if self.band is not None and not page.planar:
            pixels = pixels[..., self.band : self.band + 1]
        return pixels

    def _unpacked(self, raw: bytes, index: int) -> NDArray[Any]:
        if self.encoding == "jpeg":
            if self._room is None:
                self._room = np.empty((*self.tile, self.samples), dtype=np.uint8)
            return decode_jpeg(self._kept(raw), self._room)
        if self.page.compression in _J2K and raw[:2] == b"\xff\x4f":
            return jpeg2000.decode(raw, ycbcr=self._ycbcr and not jpeg2000.inspect(raw).mct)
        return self.page.unpacked(raw, index)

    def _kept(self, raw: bytes) -> bytes:
        if self._completer is not None:
            return self._completer.complete(raw)
        stream = jpeg2000.without_comments(raw)
        self._check(stream)
        return stream

    def _check(self, stream: bytes) -> None:
        """Every tile of a level must be as its first was."""
        said = jpeg2000.inspect(stream)
        mine = (said.height, said.width, said.components, said.bits)
        if mine != (*self.tile, self.samples, 8 * self.dtype.itemsize) or not self._decoders_agree(said):
            raise Unreadable("unsupported-slide")

    def _decoders_agree(self, said: jpeg2000.Codestream) -> bool:
        """Whether decoding gives RGB (or grey) whoever decodes."""
        return not said.signed and not said.subsampled and not (self._ycbcr and not said.mct)

    def _encoding(self) -> Encoding:
        page = self.page
        if page.compression in _LOSSLESS:
            return "lossless"
        first = page.first_tile(self.source)
        if page.compression in _J2K and first:
            if first[:2] != b"\xff\x4f":
                return "lossy"
            if self._keepable():
                try:
                    self._check(first)
                    return "jpeg2000"
                except Unreadable:
                    pass
            said = jpeg2000.inspect(first)
            return "lossless" if said.reversible and not self._ycbcr else "lossy"
        if page.compression == JPEG and first and self._keepable() and self._completer is not None:
            try:
                self._quality = quality(segments(self._completer.complete(first))[0])
                return "jpeg"
            except Unreadable as unreadable:
                if unreadable.code != "unsupported-slide":
                    raise
        return "lossy"

    def _keepable(self) -> bool:
        page = self.page
        sides = all(side in KEPT_SIDES for side in page.tile)
        return page.tiled and sides and not page.planar and self.band is None and page.samples in (1, 3)


def decode_jpeg(stream: bytes, room: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """(y, x, samples) of a complete codestream, in ``room`` of that shape or in new memory; raises
    :class:`Unreadable`.

    With memory that is used again decoding takes a third less: new pages are not free.
    """
    if room is not None and room.shape[2] == 1:
        room = room[..., 0]
    try:
        pixels: NDArray[np.uint8] = np.asarray(imagecodecs.jpeg8_decode(stream, out=room))
    except (imagecodecs.Jpeg8Error, ValueError):
        raise Unreadable("truncated-tile") from None
    return pixels[..., None] if pixels.ndim == 2 else pixels


def is_whole_downsample(full: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether ``size`` is ``full`` divided by one whole number, give or take the rounding of writers."""
    whole = max(1, round(full[1] / size[1])) if size[1] else 0
    return whole > 0 and all(
        have // whole - 1 <= want <= -(-have // whole) + 1 for have, want in zip(full, size, strict=True)
    )


def resolution_um(page: Any) -> tuple[float, float] | None:
    """Pixel size (y, x) by the page's resolution tags, if they state a unit."""
    per = {2: 25_400.0, 3: 10_000.0}.get(int(page.tags.valueof(296, 1) or 1))
    sizes = []
    for code in (283, 282):
        value = page.tags.valueof(code)
        if per is None or not isinstance(value, tuple) or len(value) != 2 or not value[0] or not value[1]:
            return None
        sizes.append(per * value[1] / value[0])
    # Writers that know no size put 72 or 96 dots per inch: no microscope has pixels of a third of a millimetre.
    return (sizes[0], sizes[1]) if all(0.01 < size < 100 for size in sizes) else None


def _jpeg_color(page: Page) -> Color:
    if page.samples == 1:
        return "gray"
    return "rgb" if page.photometric == RGB else "ycbcr"
