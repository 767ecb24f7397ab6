"""Secrets and lists that a source is given as names of files."""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path

from connectors.sources import SourceCredentialError

MAX_SECRET_BYTES = 64 << 10
MAX_LIST_BYTES = 256 << 20


def secret_text(file: str, what: str) -> str:
    """One line of printable ASCII from a file that only its owner can read.

    Raises :class:`SourceCredentialError`, which names ``what`` but neither file nor content.
    """
    text = _read(file, what, MAX_SECRET_BYTES, private=True).strip()
    if not text or not text.isascii() or not text.isprintable():
        raise SourceCredentialError(f"the {what} is not one line of printable ASCII")
    return text


def list_lines(file: str, what: str) -> list[str]:
    """The lines that are not blank, without repeats, in order; raises :class:`SourceCredentialError`."""
    lines = (line.strip() for line in _read(file, what, MAX_LIST_BYTES, private=False).splitlines())
    return list(dict.fromkeys(line for line in lines if line))


def tls_context(ca_file: str | None, certificate_file: str | None, key_file: str | None) -> ssl.SSLContext:
    """TLS 1.2 or newer that checks the peer's certificate and name; with ``ca_file``, against that one only.

    Raises :class:`SourceCredentialError`.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate_file is not None:
            if key_file is not None and Path(key_file).stat().st_mode & 0o077:
                raise SourceCredentialError("the key of our certificate is readable by others")
            context.load_cert_chain(certificate_file, key_file)
    except (OSError, ssl.SSLError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise SourceCredentialError(f"certificates or keys can't be used ({reason})") from None
    return context


def _read(file: str, what: str, max_bytes: int, *, private: bool) -> str:
    try:
        with Path(file).open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            raw = opened.read(max_bytes + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise SourceCredentialError(f"the {what} can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SourceCredentialError(f"the {what} is not UTF-8") from None
    if private and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SourceCredentialError(f"others can read the {what}")
    if len(raw) > max_bytes:
        raise SourceCredentialError(f"the {what} is larger than {max_bytes} bytes")
    return text
