"""The one text form of a file name that need not be text, and which paths a source can have."""

from __future__ import annotations

import re

from connectors.sources import SourceItemMissingError

_ESCAPED = re.compile(rb"\\(\\|x[0-9a-f]{2})")
_SURROGATES = {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)}


def to_text(name: bytes) -> str:
    """Bytes that are not UTF-8 become ``\\xNN``, and a backslash is doubled: every name has one text form."""
    return name.replace(b"\\", b"\\\\").decode("utf-8", "surrogateescape").translate(_SURROGATES)


def to_name(text: str) -> bytes:
    """The name that :func:`to_text` made ``text`` of; raises :class:`SourceItemMissingError` if it is none."""

    def unescape(match: re.Match[bytes]) -> bytes:
        body = match.group(1)
        return b"\\" if body == b"\\" else bytes.fromhex(body[1:].decode())

    try:
        return _ESCAPED.sub(unescape, text.encode("utf-8"))
    except UnicodeEncodeError:
        raise SourceItemMissingError("a path of another form than the source gives") from None


def is_plain(path: str) -> bool:
    """Whether a path stays inside its source: relative, no empty part, no ``.`` or ``..``, no NUL."""
    return "\0" not in path and all(part not in ("", ".", "..") for part in path.split("/"))
