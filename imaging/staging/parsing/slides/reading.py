"""Requests about slides: each ends in an answer or in a reason code, whatever the file holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from numpy.typing import NDArray

from imaging.staging.parsing.slides import grid as grids
from imaging.staging.parsing.slides.broken import broken_is_unreadable
from imaging.staging.parsing.slides.opening import open_slide
from imaging.staging.pathology.headers import SlideHeader, WsmHeader


def read_header(file: BinaryIO, keywords: frozenset[str]) -> SlideHeader | WsmHeader:
    """What the slide is; raises :class:`Unreadable`."""
    with broken_is_unreadable():
        return open_slide(file).header(keywords)


def read_tiles(file: BinaryIO, request: dict[str, Any]) -> Iterator[list[bytes]]:
    """See :func:`grid.read_tiles`; ``request`` names level, plane, rows, columns."""
    with broken_is_unreadable():
        grid = open_slide(file).grid(int(request["level"]), int(request["plane"]))
        yield from grids.read_tiles(grid, request["rows"], request["columns"])


def read_pixels(file: BinaryIO, request: dict[str, Any]) -> tuple[NDArray[Any], grids.Holes]:
    """See :func:`grid.read_pixels`; ``request`` names level, plane, box, halved."""
    with broken_is_unreadable():
        grid = open_slide(file).grid(int(request["level"]), int(request["plane"]))
        return grids.read_pixels(grid, request["box"], bool(request["halved"]))


def read_present(file: BinaryIO, request: dict[str, Any]) -> bytes:
    """See :func:`grid.read_present`; ``request`` names level, plane, rows, columns."""
    with broken_is_unreadable():
        grid = open_slide(file).grid(int(request["level"]), int(request["plane"]))
        return grids.read_present(grid, request["rows"], request["columns"])


def read_shard(file: BinaryIO, request: dict[str, Any]) -> NDArray[Any]:
    """See :func:`shard.read_shard`."""
    from imaging.staging.parsing.slides import shard

    with broken_is_unreadable():
        return shard.read_shard(file.read(), request)
