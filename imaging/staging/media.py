"""What a DICOMDIR refers to, as a parser process reads it and this one checks it."""

from __future__ import annotations

import json
from typing import Annotated, BinaryIO

from pydantic import Field, TypeAdapter, ValidationError

from hdrs_hpc.core.errors import BadDocumentError
from imaging.staging import answers
from imaging.staging.pool import ParserPool
from imaging.staging.refusals import Refused

_COMPONENT = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^/\\\x00-\x1f]+$")]
_REFERENCES: TypeAdapter[list[list[str]]] = TypeAdapter(
    Annotated[
        list[Annotated[list[_COMPONENT], Field(min_length=1, max_length=8)]], Field(max_length=1_000_000)
    ]
)

_MOST_BYTES = 32 << 20
"""What JSON takes in memory is some 25 times its length, of what a parser says that a file took over."""


class DicomdirError(BadDocumentError):
    code = "dicomdir-unreadable"
    meaning = "The file is not a DICOMDIR, or refers to files in a way that can't be."
    remedy = "Give the folder that holds it as the source: the files themselves say what they are."


def referenced_files(file: BinaryIO) -> list[str]:
    """Paths relative to the DICOMDIR, ``/`` between parts.  Raises :class:`DicomdirError`."""
    try:
        with ParserPool(1) as pool:
            ((_, raw),) = pool.ask(file, "media")
        if len(raw) > _MOST_BYTES:
            raise DicomdirError("it refers to more than one dataset may hold")
        references = _REFERENCES.validate_python(json.loads(raw))
    except (Refused, ValidationError, *answers.LIES):
        raise DicomdirError() from None
    return ["/".join(parts) for parts in references]
