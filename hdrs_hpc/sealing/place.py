"""Where a sealed object belongs.  Its place is bound into its key, so it opens nowhere else."""

from __future__ import annotations

import struct
from typing import Literal

from hdrs_hpc.core.errors import BadDocumentError

FORMAT = "hdrs-hpc/sealed/1"
MAX_PATH_BYTES = 1024

ROOT_ITEM = ""
"""The item of everything that lies outside a series or slide: the index table, the report, group metadata."""

type Role = Literal["copy", "output"]
type Part = Literal["object", "item", "root", "journal"]


class BadPathError(BadDocumentError):
    code = "bad-sealed-path"
    meaning = "A path inside a sealed copy is not one that every reader understands in the same way."
    remedy = "Use non-empty names separated by single slashes, at most 1024 bytes, neither '.' nor '..'."


def context(role: Role, project: str, holder: str, path: str, *, part: Part = "object") -> bytes:
    """The bytes that bind an object to its place: six fields, each with its length (u32, big-endian) before
    it.

    ``holder`` is the id of the copy or of the attempt.  ``part`` keeps the manifest's own objects apart from
    the data, so that no path can ever be mistaken for one.
    """
    fields = (FORMAT, role, part, project, holder, path)
    encoded = [field.encode("utf-8") for field in fields]
    return b"".join(struct.pack(">I", len(field)) + field for field in encoded)


def is_path(path: str) -> bool:
    """Whether this may be the path of an object."""
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in path:
        return False
    try:
        return len(path.encode("utf-8")) <= MAX_PATH_BYTES
    except UnicodeEncodeError:  # a lone surrogate
        return False


def check_path(path: str) -> None:
    """Raise BadPathError unless :func:`is_path`."""
    if not is_path(path):
        raise BadPathError()


def item_of(path: str) -> str:
    """``series/ABC/c/0/0`` → ``series/ABC``; with fewer than three components the root item."""
    parts = path.split("/", 2)
    return "/".join(parts[:2]) if len(parts) == 3 else ROOT_ITEM


def check_item(item: str) -> None:
    """Raise BadPathError unless some path's :func:`item_of` could be this; the root item is not finished."""
    if not is_path(item) or item.count("/") != 1:
        raise BadPathError("an item is named by exactly two components")
