"""A sealed copy in a folder of one's own, under a secret file instead of a broker's keys.

::

    DEST/copy.json      public: the copy's id, and once sealed its manifest's name and digest
    DEST/objects/       sealed objects
    DEST/record         once sealed: what each item was made of, sealed under a key of its own, so that a later staging
                        knows what it may take over
    DEST/journal/       while it is built: sealed journals, by which an interrupted staging goes on
    DEST/held/          pictures of images held for a person, sealed under a key of their own: no part of the copy,
                        to be removed when somebody has looked

The secret (32 random bytes) gives two keys by HKDF-SHA256: one per copy, and one for de-identification that is
the same for all copies under this secret, so that their pseudonyms agree.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hdrs_hpc.core import ids, strict_json
from hdrs_hpc.core.errors import BadDocumentError, ConflictError, NotFoundError, UsageError
from hdrs_hpc.sealing.cipher import SealBrokenError, open_all, seal
from hdrs_hpc.sealing.manifest import SealedPlace
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from hdrs_hpc.sealing.reader import SealedCopy

SCHEMA = "hdrs-hpc/standalone-copy/1"
PROJECT = "standalone"
SECRET_BYTES = 32
COPY_FILE = "copy.json"
HELD = "held"
RECORD = "record"


class SecretFileError(UsageError):
    code = "secret-file"
    meaning = "The secret is not a file of 32 bytes that only its owner can read."
    remedy = "Make one with `hdrs-hpc imaging secret new FILE`, or `chmod 600` the one you have."


class SecretExistsError(ConflictError):
    code = "secret-exists"
    meaning = "There is a file of that name; a secret is never overwritten, since data may depend on it."
    remedy = "Choose another name."


class NotACopyError(NotFoundError):
    code = "not-a-copy"
    meaning = "The folder holds no sealed copy."
    remedy = "Name the DEST of an `imaging stage` that ended well."


class CopyExistsError(ConflictError):
    code = "copy-exists"
    meaning = "The folder holds a sealed copy already, or other files."
    remedy = "Choose an empty or new folder."


class NothingHeldError(NotFoundError):
    code = "nothing-held"
    meaning = "No image was held for a person when the copy was staged, or the pictures were removed since."
    remedy = "Images are held where staging runs with `--burned-in hold` or `--deface`."


class NoContactSheetError(NotFoundError):
    code = "no-contact-sheet"
    meaning = "The copy was staged without a contact sheet."
    remedy = "Stage with `--contact-sheet`, or look at single items with `imaging inspect`."


@dataclass(frozen=True, slots=True)
class Verified:
    """What a whole read of a copy found."""

    items: int
    objects: int
    plaintext_bytes: int
    manifest_digest: str


def new_secret(path: Path) -> None:
    """Write a new secret, readable by its owner only.  Raises :class:`SecretExistsError`."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise SecretExistsError(where=str(path)) from None
    except OSError as error:
        raise SecretFileError(f"can't be written: {error.strerror}", where=str(path)) from None
    with os.fdopen(handle, "wb") as file:
        file.write(os.urandom(SECRET_BYTES))


def read_secret(path: Path) -> bytes:
    """The 32 bytes.  Raises :class:`SecretFileError`."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read(SECRET_BYTES + 1)
    except OSError as error:
        raise SecretFileError(f"can't be read: {error.strerror}", where=str(path)) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SecretFileError("others than its owner may read it", where=str(path))
    if len(secret) != SECRET_BYTES:
        raise SecretFileError("it does not have 32 bytes", where=str(path))
    return secret


def deid_key(secret: bytes) -> bytes:
    """The de-identification key of all copies under this secret."""
    return _derive(secret, b"", b"hdrs-hpc/imaging/deid-key/1")


def copy_key(secret: bytes, copy: str) -> bytes:
    """The key of the copy with this id."""
    return _derive(secret, copy.encode(), b"hdrs-hpc/imaging/copy-key/1")


def held_key(secret: bytes, copy: str) -> bytes:
    """The key of the pictures that were held while this copy was staged."""
    return _derive(secret, copy.encode(), b"hdrs-hpc/imaging/held-key/1")


def record_key(secret: bytes, copy: str) -> bytes:
    """The key of the record of what this copy's items were made of."""
    return _derive(secret, copy.encode(), b"hdrs-hpc/imaging/record-key/1")


def write_record(dest: Path, secret: bytes, copy: str, record: bytes) -> None:
    """Keep, sealed, what :func:`imaging.staging.earlier.record` says."""
    temporary = dest / (RECORD + ".new")
    temporary.write_bytes(seal(record_key(secret, copy), _record_place(copy), record))
    temporary.replace(dest / RECORD)


def read_record(dest: Path, secret: bytes, copy: str) -> bytes | None:
    """What :func:`write_record` kept; None where there is none.  Raises SealBrokenError."""
    try:
        sealed = (dest / RECORD).read_bytes()
    except FileNotFoundError:
        return None
    return open_all(record_key(secret, copy), _record_place(copy), sealed)


def _record_place(copy: str) -> bytes:
    return SealedPlace("copy", PROJECT, f"{copy}-record").context(RECORD)


def open_copy(dest: Path, secret: bytes) -> SealedCopy:
    """The sealed copy in ``dest``.  Raises :class:`NotACopyError`, or SealBrokenError under another secret."""
    described = read_copy_file(dest)
    if described is None or "digest" not in described:
        raise NotACopyError(where=str(dest))
    copy = str(described["copy"])
    return _open(dest, copy_key(secret, copy), copy, str(described["digest"]))


def open_held(dest: Path, secret: bytes) -> SealedCopy:
    """Pictures of what was held while ``dest`` was staged.  Raises :class:`NothingHeldError`, SealBrokenError."""
    described = read_copy_file(dest)
    if described is None or "held" not in described or not (dest / HELD).is_dir():
        raise NothingHeldError(where=str(dest))
    copy = str(described["copy"])
    return _open(dest / HELD, held_key(secret, copy), f"{copy}-held", str(described["held"]))


def _open(folder: Path, key: bytes, holder: str, digest: str) -> SealedCopy:
    try:
        return SealedCopy.open(DirectoryStore(folder / "objects"), key, "copy", PROJECT, holder, digest)
    except SealBrokenError:
        raise SealBrokenError(
            "the copy does not open under this secret",
            remedy="Give the secret that it was staged with; if this is it, the copy is damaged: stage it anew.",
        ) from None


def verify(
    dest: Path, secret: bytes, progress: Callable[[int, int, int, int], None] | None = None
) -> Verified:
    """Read and authenticate every byte; ``progress`` gets (objects, bytes) done and in all.  Raises SealBrokenError."""
    copy = open_copy(dest, secret)
    paths = list(copy.paths())
    whole = sum(map(copy.size, paths)) if progress is not None else 0
    count = total = 0
    block = memoryview(bytearray(8 << 20))
    for path in paths:
        size, at = copy.size(path), 0
        while at < size or (size == 0 and at == 0):
            got = copy.read_into(path, at, block[: min(len(block), size - at)])
            at += got
            if got == 0:
                break
        count, total = count + 1, total + size
        if progress is not None:
            progress(count, total, len(paths), whole)
    described = read_copy_file(dest) or {}
    return Verified(len(copy.items()), count, total, str(described["digest"]))


def begin(dest: Path) -> str:
    """The id of the copy under construction in ``dest``, a new one if there is none."""
    described = read_copy_file(dest)
    if described is not None:
        if "digest" in described:
            raise CopyExistsError("a sealed copy is there", where=str(dest))
        return str(described["copy"])
    if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise CopyExistsError("other files are there", where=str(dest))
    for folder in (dest, dest / "objects", dest / "journal"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy = ids.new_id(16).lower()
    write_copy_file(dest, {"copy": copy})
    return copy


def read_copy_file(dest: Path) -> dict[str, Any] | None:
    try:
        raw = (dest / COPY_FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    described = strict_json.loads(raw)
    if not isinstance(described, dict) or described.get("schema") != SCHEMA or "copy" not in described:
        raise CopyFileError(where=str(dest / COPY_FILE))
    return described


class CopyFileError(BadDocumentError):
    code = "copy-file-malformed"
    meaning = "The copy.json of a folder is not one that staging wrote."
    remedy = "Restore it, or stage again into a new folder."


def write_copy_file(dest: Path, described: dict[str, Any]) -> None:
    temporary = dest / (COPY_FILE + ".new")
    temporary.write_bytes(strict_json.dumps({"schema": SCHEMA, **described}))
    temporary.replace(dest / COPY_FILE)


def _derive(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(secret)
