"""Where approved data comes from: the port, and what every source must do (``contract.py`` tests it).

A source is read-only and flat: items with a path and, where it is told beforehand, a size.  It never follows a
link out of itself.  It can be pickled and read in another process: what it needs to log in travels as names of
files, never as their contents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from hdrs_hpc.core.errors import NotFoundError, SiteError


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One file of an archive: its path inside the source (``/`` between parts) and its size in bytes.

    ``size`` is None where the archive does not tell before the bytes come (DICOMweb, DIMSE).
    """

    path: str
    size: int | None


class Source(Protocol):
    """Reads an archive.  All methods may be called from several threads at once."""

    def items(self) -> Iterator[SourceItem]:
        """Every regular file once, in ascending order of the UTF-8 bytes of its path.

        The order and the paths depend on the content alone, so two scans of one archive agree.
        Raises :class:`SourceTooLargeError`, :class:`SourceUnreadableError`, :class:`SourceUnreachableError`,
        :class:`SourceLoginError`, :class:`SourceRefusedError`.
        """
        ...

    def open(self, path: str) -> BinaryIO:
        """The item's bytes from the start; seekable, with a descriptor of its own that only reads.

        ``path`` is one that :meth:`items` gave.  The bytes are those of one version of the item, whole.
        Raises :class:`SourceItemMissingError` for anything else: absent, a folder, a link, outside; and what
        :meth:`items` raises, :class:`SourceCorruptError` and :class:`SourceSpoolFullError`.
        """
        ...

    def local_path(self, path: str) -> Path | None:
        """Where the item lies as an ordinary local file, or None if it does not."""
        ...

    def close(self) -> None:
        """Give back connections and spooled bytes.  May be called twice; files opened before stay readable."""
        ...


class SourceItemMissingError(NotFoundError):
    code = "source-item-missing"
    meaning = "The source has no such item: it was removed, is a folder or a link, or lies outside."
    remedy = "Scan the source again and register the new version of the dataset."


class SourceUnreadableError(SiteError):
    code = "source-unreadable"
    meaning = "A part of the source could not be read."
    remedy = "Give the account that stages read access to the whole source, then run the same command again."


class SourceTooLargeError(SiteError):
    code = "source-too-large"
    meaning = "The source holds more or larger items, or deeper folders, than one dataset may."
    remedy = "Register its parts as datasets of their own."
    retry = False


class SourceUnreachableError(SiteError):
    code = "source-unreachable"
    meaning = "The archive did not answer, or broke off each time, through all tries."
    remedy = "Run the same command again when the archive and the way to it are up; it goes on where it was."


class SourceLoginError(SiteError):
    code = "source-login-refused"
    meaning = "The archive, or the check of its identity, turned us away."
    remedy = "Check account, token or certificates, and what the archive lets this account read."
    retry = False


class SourceCredentialError(SiteError):
    code = "source-credential-unusable"
    meaning = "A file with a credential for the source is absent, readable by others, or not of its form."
    remedy = "Put the credential into a file of the account that stages, and `chmod 600` it."
    retry = False


class SourceRefusedError(SiteError):
    code = "source-refused"
    meaning = "The archive understood what was asked and will not or can not do it, or answers amiss."
    remedy = "Look into the archive's log; docs/sources.md names what each kind of archive must offer."
    retry = False


class SourceListingShortError(SiteError):
    code = "source-listing-short"
    meaning = (
        "The archive lists fewer series or instances than it says it holds, also when it is asked again."
    )
    remedy = "Run the same command when the archive has less to do; if it stays so, have its index rebuilt."


class SourceCorruptError(SiteError):
    code = "source-corrupt"
    meaning = "The bytes that came are not those that the archive's own checksum or length states."
    remedy = "Run the same command again; if it stays so, the archive's copy is damaged."


class SourceSpoolFullError(SiteError):
    code = "source-spool-full"
    meaning = "There is no room for an item's bytes while it is being read."
    remedy = "Point TMPDIR at a protected disk with room for the largest items, one per worker."


OF_ONE_ITEM = (SourceItemMissingError, SourceUnreadableError, SourceRefusedError, SourceCorruptError)
"""What :meth:`Source.open` raises when it is the item, not the archive or the way to it."""
