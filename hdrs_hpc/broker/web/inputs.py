"""What a request may name, and how large it may be: every number and every text of every route is bounded here.

A test reads the OpenAPI document and refuses a parameter without a bound.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Path, Query

from hdrs_hpc.audit.vocabulary import MAX_COUNT

MAX_VERSION = 1_000_000

Version = Annotated[int, Path(ge=1, le=MAX_VERSION)]
EntryNumber = Annotated[int, Query(ge=0, le=MAX_COUNT)]
LogSize = Annotated[int, Query(ge=0, le=MAX_COUNT)]
JobPrefix = Annotated[str, Path(min_length=1, max_length=64)]
NameInPath = Annotated[str, Path(min_length=1, max_length=64)]
NameInQuery = Annotated[str, Query(max_length=64)]
DigestInQuery = Annotated[str, Query(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)]
UploadLength = Annotated[int, Header(ge=1, le=MAX_COUNT)]
UploadOffset = Annotated[int, Header(ge=0, le=MAX_COUNT)]
DigestInPath = Annotated[str, Path(min_length=1, max_length=100)]
