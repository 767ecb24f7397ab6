"""What workers did while a copy is built, so that a crash loses at most the items that were under way.

Each worker process appends to a journal of its own, ``<eight digits>.journal`` in the order of their
creation; nobody appends to another's.  A journal says which paths and which item metadata there are, so it is
sealed too, line by line::

    hdrs-hpc/journal/1 <base64 of 32 bytes salt>\\n
    <base64 of AES-256-GCM(record as JSON)>\\n …          nonce = number of the line, 12 bytes big-endian

Its key is HKDF-SHA256(copy's key, salt, info=the journal's place).  A crash can tear the last line: that line
did not happen.  Anything else that does not open is an error.
"""

from __future__ import annotations

import base64
import binascii
import errno
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import BadDocumentError, SiteError
from hdrs_hpc.sealing.cipher import never_pickled
from hdrs_hpc.sealing.manifest import Entry, SealedPlace
from hdrs_hpc.sealing.place import ROOT_ITEM, item_of

_MAGIC = b"hdrs-hpc/journal/1 "
_SUFFIX = ".journal"


class JournalBrokenError(BadDocumentError):
    code = "journal-broken"
    meaning = "The journal of a copy under construction is damaged or belongs to another copy."
    remedy = "Remove the unfinished copy and its journals and stage it anew."


class JournalUnwritableError(SiteError):
    code = "journal-unwritable"
    meaning = "The journal of a copy under construction could not be written, e.g. because the disk is full."
    remedy = "Free space in the data zone and start again; finished items are kept."


class Journal:
    """One worker's journal, made when the first record is appended.  Thread safe."""

    def __init__(self, folder: Path, key: bytes, place: SealedPlace) -> None:
        self._folder = folder
        self._key = key
        self._place = place
        self._lock = threading.Lock()
        self._handle: int | None = None
        self._cipher: AESGCM | None = None
        self._line = 0
        self._process = 0
        self._torn = False

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        never_pickled(self)

    def put(self, entry: Entry, *, durable: bool) -> None:
        self._append(["put", *entry.to_row()], durable)

    def delete(self, path: str, *, durable: bool) -> None:
        self._append(["delete", path], durable)

    def drop(self, item: str) -> None:
        self._append(["drop", item], False)

    def finish(self, item: str, meta: dict[str, Any]) -> None:
        self._append(["finish", item, meta], True)

    def sealed(self, summary: dict[str, Any]) -> None:
        self._append(["sealed", summary], True)

    def close(self) -> None:
        with self._lock:
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None

    def _append(self, record: list[Any], durable: bool) -> None:
        plaintext = strict_json.dumps(record)
        with self._lock:
            if self._torn:
                raise JournalUnwritableError("an earlier record was torn; nothing may follow it")
            self._torn = True  # until it is whole: after a part of a line, nothing more goes to this file
            try:
                if self._handle is None or self._cipher is None or self._process != os.getpid():
                    # A forked child must not go on under its parent's nonces.
                    self._handle, self._cipher = self._create()
                    self._line, self._process = 0, os.getpid()
                data = self._cipher.encrypt(_nonce(self._line), plaintext, None)
                self._line += 1
                _write(self._handle, base64.b64encode(data) + b"\n")
                if durable:
                    os.fsync(self._handle)
            except OSError as error:
                raise JournalUnwritableError(f"{errno.errorcode.get(error.errno or 0)}") from error
            self._torn = False

    def _create(self) -> tuple[int, AESGCM]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = 1 + max((int(path.stem) for path in journal_files(self._folder)), default=0)
        while True:
            path = self._folder / f"{number:08d}{_SUFFIX}"
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                break
            except FileExistsError:  # another worker was quicker
                number += 1
        salt = os.urandom(32)
        _write(handle, _MAGIC + base64.b64encode(salt) + b"\n")
        return handle, _cipher(self._key, self._place, salt)


@dataclass
class Progress:
    """What the journals of one copy say together.

    ``finished``: item → metadata.  ``entries``: item → path → entry, for the root item and all finished
    items. ``unfinished``: items begun and not finished.  ``sealed``: the summary noted when the copy was
    sealed.
    """

    finished: dict[str, dict[str, Any]] = field(default_factory=dict)
    entries: dict[str, dict[str, Entry]] = field(default_factory=lambda: {ROOT_ITEM: {}})
    unfinished: set[str] = field(default_factory=set)
    sealed: dict[str, Any] | None = None


def journal_files(folder: Path) -> list[Path]:
    """The journals, oldest first."""
    return sorted(path for path in folder.glob("*" + _SUFFIX) if path.stem.isdecimal())


def read_journals(folder: Path, key: bytes, place: SealedPlace) -> Progress:
    """Merge all journals, always to the same result.

    An item is written by one worker: it counts with what the journal that finished it says, the first one if
    two did.  In the root item the later journal wins.
    """
    progress = Progress()
    root = progress.entries[ROOT_ITEM]
    begun: set[str] = set()
    for path in journal_files(folder):
        open_items: dict[str, dict[str, Entry]] = {}
        for record in _records(path, key, place):
            match record:
                case ["put", *row]:
                    entry = Entry.from_row(row)
                    item = item_of(entry.path)
                    (root if item == ROOT_ITEM else open_items.setdefault(item, {}))[entry.path] = entry
                case ["delete", str(gone)]:
                    item = item_of(gone)
                    (root if item == ROOT_ITEM else open_items.setdefault(item, {})).pop(gone, None)
                case ["drop", str(item)]:
                    open_items.pop(item, None)
                    begun.add(item)
                case ["finish", str(item), dict(meta)]:
                    done = open_items.pop(item, {})
                    if item not in progress.finished:
                        progress.finished[item] = meta
                        progress.entries[item] = done
                case ["sealed", dict(summary)]:
                    progress.sealed = summary
                case _:
                    raise JournalBrokenError("a record of no known kind", where=path.name)
        begun.update(open_items)
    progress.unfinished = begun - progress.finished.keys()
    return progress


def _records(path: Path, key: bytes, place: SealedPlace) -> Iterator[Any]:
    lines = path.read_bytes().split(b"\n")
    torn = lines.pop()  # what follows the last newline: nothing, or a line that was cut by a crash
    if not lines:
        return  # not even the first line was written
    if not lines[0].startswith(_MAGIC):
        raise JournalBrokenError("not a journal", where=path.name)
    del torn
    cipher = _cipher(key, place, _decode(lines[0][len(_MAGIC) :], path))
    for number, line in enumerate(lines[1:]):
        try:
            plaintext = cipher.decrypt(_nonce(number), _decode(line, path), None)
        except InvalidTag:
            raise JournalBrokenError(f"line {number + 2} does not open", where=path.name) from None
        yield json.loads(plaintext)  # it is authentic, so it is what we wrote


def _decode(line: bytes, path: Path) -> bytes:
    try:
        return base64.b64decode(line, validate=True)
    except binascii.Error:
        raise JournalBrokenError("a line is damaged", where=path.name) from None


def _cipher(key: bytes, place: SealedPlace, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(hashes.SHA256(), 32, salt, place.context("", "journal")).derive(key))


def _nonce(line: int) -> bytes:
    return line.to_bytes(12, "big")


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
