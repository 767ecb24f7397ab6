"""What a route answers with when it is not a JSON view, and what it takes that is no parameter: told in the OpenAPI
document, so that a client knows the media type beforehand.

Not by ``response_class``: FastAPI would then tell that failures, which are JSON, have that media type too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from fastapi.responses import Response, StreamingResponse

DSSE = "application/vnd.dsse+json"
LINES = "application/x-ndjson"
_PIECE_BYTES = 1 << 20
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_ENVELOPE = {"schema": {"type": "object", "required": ["payload", "payloadType", "signatures"]}}

Told = dict[int | str, dict[str, Any]]
ENVELOPE: Told = {200: {"description": "A signed document, byte for byte.", "content": {DSSE: _ENVELOPE}}}
ENTRY_LINES: Told = {200: {"description": "One JSON value a line.", "content": {LINES: _BYTES}}}
DOWNLOAD: Told = {
    200: {
        "description": "The bytes of the artefact, of the media type of its class.",
        "content": dict.fromkeys(("text/csv", "image/png", "application/octet-stream"), _BYTES),
    }
}


def takes(media_type: str) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads the raw body."""
    return {"requestBody": {"required": True, "content": {media_type: _BYTES}}}


def envelope(raw: bytes) -> Response:
    """A signed document, byte for byte."""
    return Response(raw, media_type=DSSE)


def download(source: BinaryIO, media_type: str | None, name: str) -> Response:
    """A file for saving, sent piece by piece, never for a browser to show in the name of this address."""
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Length": str(os.fstat(source.fileno()).st_size),
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(
        _pieces(source), media_type=media_type or "application/octet-stream", headers=headers
    )


def _pieces(source: BinaryIO) -> Iterator[bytes]:
    with source:
        while piece := source.read(_PIECE_BYTES):
            yield piece
