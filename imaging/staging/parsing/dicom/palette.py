"""Palette colour lookup tables (PS3.3 C.7.6.3.1.5, segmented ones C.7.9)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from imaging.staging.parsing.dicom.values import integer, many, raw_bytes, value
from imaging.staging.parsing.unreadable import Unreadable

_COLOURS = ("Red", "Green", "Blue")
_ENTRIES = 65536


@dataclass(frozen=True)
class Palette:
    """``table[v - first]`` is the colour of a stored value v, clamped at both ends: uint8 or uint16 (n, 3)."""

    first: int
    table: NDArray[Any]

    @property
    def bits(self) -> int:
        """8 or 16."""
        return self.table.dtype.itemsize * 8

    def colours(self, indices: NDArray[Any]) -> NDArray[Any]:
        """RGB (rows, columns, 3) of stored values (rows, columns)."""
        if self.first == 0 and indices.dtype == np.uint8 and len(self.table) >= 256:
            return np.take(self.table, indices, axis=0)
        places = np.clip(indices.astype(np.int64) - self.first, 0, len(self.table) - 1)
        return np.take(self.table, places, axis=0)


def read_palette(dataset: Dataset, big_endian: bool) -> Palette:
    """The palette of a PALETTE COLOR image; raises :class:`Unreadable`."""
    columns = []
    firsts = []
    depths = []
    for colour in _COLOURS:
        entries, first, bits = _descriptor(dataset, f"{colour}PaletteColorLookupTableDescriptor")
        plain = raw_bytes(dataset, f"{colour}PaletteColorLookupTableData")
        if plain:
            column = _words(plain, entries, big_endian)
        else:
            segmented = raw_bytes(dataset, f"Segmented{colour}PaletteColorLookupTableData")
            if not segmented:
                # Well-known palettes named by UID alone, or none at all.
                raise Unreadable("unsupported-pixel-format")
            column = _expanded(segmented, entries, bits, big_endian)
        columns.append(column)
        firsts.append(first)
        depths.append(bits)
    if len({len(column) for column in columns}) != 1 or len(set(firsts)) != 1:
        raise Unreadable("malformed-dicom")
    table: NDArray[Any] = np.stack(columns, axis=1)
    deep = max(depths) > 8
    if not deep and table.max() > 255:
        # Eight bits declared, sixteen used: they lie in the high byte.
        table = table >> 8
    return Palette(firsts[0], np.ascontiguousarray(table, dtype=np.uint16 if deep else np.uint8))


def _descriptor(dataset: Dataset, name: str) -> tuple[int, int, int]:
    """(number of entries, first value mapped, bits an entry)."""
    found = value(dataset, name)
    if isinstance(found, bytes) and len(found) == 6:
        found = list(struct.unpack("<3H", found))
    try:
        entries, first, bits = (int(part) for part in many(found))
    except (TypeError, ValueError):
        raise Unreadable("malformed-dicom") from None
    entries &= 0xFFFF
    signed = integer(dataset, "PixelRepresentation") == 1
    if signed and first > 0x7FFF:
        first -= 0x10000
    elif not signed:
        first &= 0xFFFF
    if not 1 <= bits <= 16:
        raise Unreadable("malformed-dicom")
    return entries or _ENTRIES, first, bits


def _words(raw: bytes, entries: int, big_endian: bool) -> NDArray[np.uint16]:
    """Entries of 16 bits, or of 8 where there are only that many bytes (PS3.3 C.7.6.3.1.6)."""
    if len(raw) >= 2 * entries:
        return np.frombuffer(raw, dtype=">u2" if big_endian else "<u2", count=entries).astype(np.uint16)
    if len(raw) >= entries:
        packed = np.frombuffer(raw[: len(raw) & ~1], dtype=np.uint8)
        if big_endian:  # two entries in a word
            packed = packed.reshape(-1, 2)[:, ::-1].ravel()
        if len(packed) < entries:
            packed = np.frombuffer(raw, dtype=np.uint8)
        return packed[:entries].astype(np.uint16)
    raise Unreadable("malformed-dicom")


def _expanded(raw: bytes, entries: int, bits: int, big_endian: bool) -> NDArray[np.uint16]:
    """A segmented table: runs of values (0), straight lines (1) and copies of earlier segments (2)."""
    if bits > 8:
        words = np.frombuffer(raw[: len(raw) & ~1], dtype=">u2" if big_endian else "<u2")
        unit = 2
    else:
        words = np.frombuffer(raw, dtype=np.uint8)
        unit = 1
    codes = [int(word) for word in words]
    table: list[int] = []
    _expand(codes, 0, None, table, entries, unit, big_endian)
    if len(table) < entries:
        raise Unreadable("malformed-dicom")
    return np.asarray(table[:entries], dtype=np.uint16)


def _expand(
    codes: list[int],
    at: int,
    segments: int | None,
    table: list[int],
    entries: int,
    unit: int,
    big_endian: bool,
) -> None:
    """Append segments from ``codes[at:]`` until they or ``segments`` or the wanted entries end."""
    done = 0
    while at + 2 < len(codes) and len(table) < entries and (segments is None or done < segments):
        kind, length = codes[at], codes[at + 1]
        at += 2
        if kind == 0:
            table.extend(codes[at : at + length])
            at += length
        elif kind == 1 and table and length:
            start, end = table[-1], codes[at]
            table.extend(round(start + (end - start) * step / length) for step in range(1, length + 1))
            at += 1
        elif kind == 2 and segments is None:  # a copy may not hold a copy
            parts = codes[at : at + 4 // unit]
            offset = _offset(parts, unit, big_endian)
            _expand(codes, offset // unit, length, table, entries, unit, big_endian)
            at += 4 // unit
        else:
            raise Unreadable("malformed-dicom")
        done += 1


def _offset(parts: list[int], unit: int, big_endian: bool) -> int:
    """A byte offset of 32 bits in two words or four bytes, the least significant word first."""
    if len(parts) != 4 // unit:
        raise Unreadable("malformed-dicom")
    if unit == 2:
        return parts[1] << 16 | parts[0]
    low, high = parts[:2], parts[2:]
    if not big_endian:
        low, high = low[::-1], high[::-1]
    return (high[0] << 8 | high[1]) << 16 | low[0] << 8 | low[1]
