"""What a route answers with when it is not a JSON view, and what it takes that is no parameter: told in the OpenAPI
document, so that a client knows the media type beforehand.

Not by ``response_class``: FastAPI would then tell that failures, which are JSON, have that media type too.
"""

from __future__ import annotations

from typing import Any

from fastapi.responses import Response

DSSE = "application/vnd.dsse+json"
LINES = "application/x-ndjson"
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


def download(raw: bytes, media_type: str | None, name: str) -> Response:
    """Bytes for saving, never for a browser to show in the name of this address."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"}
    return Response(raw, media_type=media_type or "application/octet-stream", headers=headers)
