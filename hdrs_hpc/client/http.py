"""Talking to a broker over HTTP: bounded answers, and its refusals as the errors that they were there."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx

from hdrs_hpc import __version__
from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import KINDS, BadDocumentError, HdrsError, InternalError, SiteError, UsageError

MAX_ANSWER_BYTES = 64 << 20
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


class BrokerUnreachableError(SiteError):
    code = "broker-unreachable"
    meaning = "The broker does not answer."
    remedy = "Check the address and your network; the broker's operator sees more with `broker status`."


class BrokerAnswerError(BadDocumentError):
    code = "broker-answer-malformed"
    meaning = "What answered is not a broker, or not one of this version."
    remedy = "Check the address; `hdrs-hpc version` here and there tells the versions."


class BrokerRefusedError(HdrsError):
    """The broker's refusal, with the reason code, kind and words that it gave."""

    code = "broker-refused"
    kind, exit_code, http_status = "not-allowed", 4, 403
    meaning = "The broker refused."
    remedy = "See the reason in its message."

    def __init__(self, told: dict[str, Any]) -> None:
        where = told.get("where")
        super().__init__(
            _text(told, "message"), where=str(where) if where else None, remedy=_text(told, "remedy")
        )
        kind = next((cls for cls in KINDS if cls.kind == told.get("kind")), InternalError)
        vars(self).update(code=_text(told, "code"), kind=kind.kind, exit_code=kind.exit_code)
        vars(self).update(http_status=kind.http_status, retry=told.get("retry") is True)
        self.told = told

    def as_dict(self) -> dict[str, Any]:
        """As the broker told it, with its findings or rules where it gave some."""
        more = {key: self.told[key] for key in ("findings", "rules") if isinstance(self.told.get(key), list)}
        return {**super().as_dict(), **more}

    def __reduce__(self) -> tuple[Any, ...]:
        return (BrokerRefusedError, (self.told,))


class Api:
    """One broker's API.  ``ca_file``: the certificate to trust instead of the system's authorities."""

    def __init__(self, url: str, *, token: str | None = None, ca_file: Path | None = None) -> None:
        if not url.startswith(("https://", "http://")):
            raise UsageError(
                "a broker's address begins with https:// (or http:// on this machine)", where=url
            )
        headers = {"User-Agent": f"hdrs-hpc/{__version__}"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self.url = url.rstrip("/")
        self._client = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=_TIMEOUT,
            verify=_trust(ca_file),
            follow_redirects=False,  # a redirect could carry the token elsewhere
            trust_env=not self.url.startswith("http://"),
        )

    def get(self, path: str, **query: str | int | None) -> Any:
        """The JSON at ``path``."""
        return _json(self.get_bytes(path, **query))

    def get_bytes(self, path: str, **query: str | int | None) -> bytes:
        """The bytes at ``path``, such as an envelope or an artefact."""
        return self._call(
            "GET", path, params={key: value for key, value in query.items() if value is not None}
        )

    def post(
        self,
        path: str,
        content: bytes = b"",
        *,
        query: dict[str, str] | None = None,
        length: int | None = None,
    ) -> Any:
        """Send bytes; gives the JSON answered.  ``length``: of an upload that begins."""
        headers = {} if length is None else {"Upload-Length": str(length)}
        return _json(self._call("POST", path, content=content, params=query, headers=headers))

    def patch(self, path: str, content: bytes, *, offset: int) -> Any:
        """Send a piece of an upload; gives the JSON answered."""
        headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        return _json(self._call("PATCH", path, content=content, headers=headers))

    def _call(self, method: str, path: str, **arguments: Any) -> bytes:
        try:
            with self._client.stream(method, path, **arguments) as response:
                raw = bytearray()
                for piece in response.iter_bytes():
                    raw += piece
                    if len(raw) > MAX_ANSWER_BYTES:
                        raise BrokerAnswerError(f"more than {MAX_ANSWER_BYTES} bytes")
        except httpx.TransportError as error:
            raise BrokerUnreachableError(f"{type(error).__name__} at {self.url}") from None
        if response.is_success:
            return bytes(raw)
        told = _json(bytes(raw))
        if not isinstance(told, dict) or not isinstance(told.get("error"), dict):
            raise BrokerAnswerError(f"status {response.status_code} without a reason")
        raise BrokerRefusedError(told["error"])


def _trust(ca_file: Path | None) -> ssl.SSLContext | bool:
    return ssl.create_default_context(cafile=str(ca_file)) if ca_file is not None else True


def _json(raw: bytes) -> Any:
    try:
        return strict_json.loads(raw, max_bytes=MAX_ANSWER_BYTES, max_depth=64)
    except BadDocumentError:
        raise BrokerAnswerError("not JSON") from None


def _text(told: dict[str, Any], key: str) -> str:
    """Words of a broker are shown on a terminal: without control characters, and not endless."""
    return "".join(char for char in str(told.get(key) or "")[:4000] if char.isprintable())
