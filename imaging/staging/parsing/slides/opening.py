"""Which format a slide is in, told by its bytes and never by its name."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import BinaryIO

from imaging.staging.parsing.slides.grid import SlideFile
from imaging.staging.parsing.slides.source import Source

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""TIFF and BigTIFF, in both byte orders."""
FOR_OPENSLIDE = (b"ZISRAWFILE", b"SQLite format 3\0")
"""Zeiss CZI, Sakura."""
_REMEMBERED = 4


class _Opened:
    """What is known of the files of the last few requests: a slide is asked for in many parts, and a large
    one takes long to open.  What is remembered are tables of the file, never the file."""

    def __init__(self) -> None:
        self._slides: OrderedDict[tuple[int, ...], SlideFile] = OrderedDict()

    def get(self, key: tuple[int, ...]) -> SlideFile | None:
        found = self._slides.get(key)
        if found is not None:
            self._slides.move_to_end(key)
        return found

    def put(self, key: tuple[int, ...], slide: SlideFile) -> None:
        self._slides[key] = slide
        while len(self._slides) > _REMEMBERED:
            self._slides.popitem(last=False)


_opened = _Opened()


def open_slide(file: BinaryIO) -> SlideFile:
    """The slide or WSM instance in ``file``; raises :class:`Unreadable`, and what its libraries raise on broken
    files (``BROKEN`` of :mod:`imaging.staging.parsing.slides.broken`)."""
    status = os.fstat(file.fileno())
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    known = _opened.get(key)
    if known is not None:
        known.source.file = file
        return known
    slide = _open(file)
    _opened.put(key, slide)
    return slide


def _open(file: BinaryIO) -> SlideFile:
    file.seek(0)
    start = file.read(132)
    if start.startswith(FOR_OPENSLIDE):
        from imaging.staging.parsing.slides import openslide_file

        return openslide_file.OpenSlideFile(Source(file))
    # DICOM first: its preamble may hold a TIFF header on purpose (PS3.10 7.1).
    if start[128:] == b"DICM" or start[:4] not in TIFF_STARTS:
        file.seek(0)
        from imaging.staging.parsing.slides import wsm

        return wsm.open_wsm(file)
    from imaging.staging.parsing.slides import tiff_formats

    return tiff_formats.open_tiff_slide(file)
