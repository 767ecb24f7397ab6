"""Names inside a staged copy: what staging writes and reading opens.

::

    zarr.json, series/zarr.json, slides/zarr.json           groups without attributes
    index.parquet                 one row an item (schema: imaging/staging/index.py)
    report.json                   what came in and what was refused (no patient data)
    series/<id>/zarr.json         group: NGFF 0.5 multiscale + "hdrs-hpc" namespace
    series/<id>/0/…               array of axes t, c, z, y, x (those that there are), values as stored
    slides/<id>/zarr.json         group: NGFF 0.5 multiscale + "hdrs-hpc" namespace
    slides/<id>/<level>/…         array (c, y, x), uint8, JPEG tiles in shards
    tables/<id>/<n>.parquet       rows of a linked table, a million and a few an object
    tables/<id>/table.json        its columns, each with the rule that made it

``<id>`` is pseudonymous: keyed, so that it says nothing outside the project.
"""

from __future__ import annotations

INDEX = "index.parquet"
REPORT = "report.json"
SERIES = "series"
SLIDES = "slides"
TABLES = "tables"

GROUPS = ("zarr.json", "series/zarr.json", "slides/zarr.json")
"""Metadata of the groups above the items: without attributes."""

NAMESPACE = "hdrs-hpc"
"""Key below a group's ``attributes`` for what NGFF cannot say."""

NGFF_VERSION = "0.5"
VOLUME_SCHEMA = "hdrs-hpc/volume/2"
LABEL_SCHEMA = "hdrs-hpc/label/1"
SLIDE_SCHEMA = "hdrs-hpc/slide/1"
TABLE_SCHEMA = "hdrs-hpc/table/1"


def series_path(item: str) -> str:
    """``series/<id>`` of an id."""
    return f"{SERIES}/{item}"


def slide_path(item: str) -> str:
    """``slides/<id>`` of an id."""
    return f"{SLIDES}/{item}"


def table_path(item: str) -> str:
    """``tables/<id>`` of an id."""
    return f"{TABLES}/{item}"


def level_path(group: str, level: int = 0) -> str:
    """The array of one resolution level (0 is full size) below a series or slide path."""
    return f"{group}/{level}"


def chunk_path(array: str, *index: int) -> str:
    """The object of one shard, by zarr's default chunk key encoding."""
    return "/".join((array, "c", *(str(part) for part in index)))
