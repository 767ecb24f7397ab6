"""What a file is that is neither DICOM nor slide, by its bytes: for the kinds of ``imaging.staging.not_imaging``."""

from __future__ import annotations

from typing import BinaryIO

_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "drawing"),
    (b"\xff\xd8\xff", "drawing"),
    (b"GIF87a", "drawing"),
    (b"GIF89a", "drawing"),
    (b"%!PS", "drawing"),
    (b"8BPS", "drawing"),
    (b"%PDF-", "document"),
    (b"{\\rtf", "document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "document"),
    (b"\x00\x05\x16\x07", "system file"),
)
"""Of PNG, JPEG, GIF, PostScript, Photoshop; PDF, RTF, old Office; AppleDouble."""
_LOOKED_AT = 1 << 16
_EVEN_LINES = 0.8


def content(file: BinaryIO) -> str:
    """``drawing``, ``document``, ``system file``; ``table`` (lines of equally many commas) or ``text``; else ""."""
    file.seek(0)
    start = file.read(_LOOKED_AT)
    file.seek(0)
    for beginning, kind in _BEGINNINGS:
        if start.startswith(beginning):
            return kind
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "drawing"
    return _text(start)


def _text(start: bytes) -> str:
    """Whatever the encoding, text holds no control characters but white space."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        start = start[2:].replace(b"\0", b"")
    if not start or any(byte < 32 and byte not in b"\t\n\f\r\x1b" for byte in start):
        return ""
    if start.lstrip()[:1] in (b"<", b"{", b"["):
        return "text"
    whole = len(start) < _LOOKED_AT
    lines = [line for line in start.splitlines() if line.strip()]
    commas = lines[0].count(b",") if lines else 0
    if len(lines) > 1 and commas:
        even = sum(line.count(b",") == commas for line in lines[1:])
        return "table" if even >= _EVEN_LINES * (len(lines) - (1 if whole else 2)) else "text"
    return "text"
