"""The master key's file, and how it is replaced without a moment at which a crash loses either key.

The new master is written beside the old one; the keystore's COMMIT, which names the master that wraps its rows,
decides which of the two counts; only then is the other overwritten and unlinked.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from hdrs_hpc.core.errors import InternalError, NotAllowedError

MASTER_BYTES = 32


class MasterKeyMismatchError(InternalError):
    code = "master-key-mismatch"
    meaning = "The master key does not open the keystore beside it."
    remedy = "Put back the master key that belongs to this keystore; without it its keys are gone."


class MasterKeyExposedError(NotAllowedError):
    code = "master-key-exposed"
    meaning = "Other accounts may read the master key's file or its folder; keyd does not start on it."
    remedy = (
        "Find out who read it.  If nobody did: `chmod 700` the folder `keyd`, `chmod 600` the files in it."
    )


class MasterFile:
    """``master.key`` in one folder, and during a replacement ``master.key.new`` beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._current, self._next = folder / "master.key", folder / "master.key.new"

    def check_private(self) -> None:
        """Raises MasterKeyExposedError unless only this account can reach the file."""
        for path in (self._folder, self._current, self._next):
            if path.exists() and path.stat().st_mode & 0o077:
                raise MasterKeyExposedError(where=path.name)

    def first(self) -> bytes:
        """The master of a keystore that wraps nothing yet: the one that is there, else a new one."""
        found = _read(self._current)
        if found is not None:
            return found
        made = secrets.token_bytes(MASTER_BYTES)
        self.propose(made)
        self._next.replace(self._current)
        sync_folder(self._folder)
        return made

    def named(self, fingerprint: str) -> bytes:
        """The master of this fingerprint, whichever file it is in; raises MasterKeyMismatchError."""
        for path in (self._current, self._next):
            found = _read(path)
            if found is not None and fingerprint_of(found) == fingerprint:
                return found
        raise MasterKeyMismatchError()

    def propose(self, master: bytes) -> None:
        """Write a new master beside the present one, durably."""
        handle = os.open(self._next, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(handle, master)
            os.fsync(handle)
        finally:
            os.close(handle)
        sync_folder(self._folder)

    def settle(self, fingerprint: str) -> None:
        """Keep the master of this fingerprint as ``master.key``; overwrite and unlink the other.  Idempotent."""
        fresh = _read(self._next)
        if fresh is None and not self._next.exists():
            return
        if fresh is not None and fingerprint_of(fresh) == fingerprint:
            _overwrite(self._current)
            self._next.replace(self._current)
        else:
            _overwrite(self._next)
            self._next.unlink()
        sync_folder(self._folder)


def fingerprint_of(master: bytes) -> str:
    """What the database calls a master key by; tells nothing of it."""
    return hashlib.sha256(b"hdrs-hpc master key id\0" + master).hexdigest()


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or unlinked in ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> bytes | None:
    """A whole master key, or None where there is none or half of one."""
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return None
    return found if len(found) == MASTER_BYTES else None


def _overwrite(path: Path) -> None:
    """In place, so that on an ordinary disk the old bytes are gone and not only unlinked."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        os.write(handle, secrets.token_bytes(MASTER_BYTES))
        os.fsync(handle)
    finally:
        os.close(handle)
