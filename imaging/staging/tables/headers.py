"""A table file as its parser describes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imaging.staging.headers import Header, Text

MAX_COLUMNS = 4096
MAX_ROWS = 20_000_000
BATCH_ROWS = 65_536
"""Rows a parser gives at once, counted from the start of the file."""


class TableHeader(Header):
    """One CSV or Parquet file.  The names are raw: only those that a grant lists go further."""

    kind: Literal["table"] = "table"
    format: Literal["csv", "parquet"]
    columns: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MAX_COLUMNS)]
    rows: Annotated[int, Field(ge=0, le=MAX_ROWS)]
