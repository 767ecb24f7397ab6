"""Messages of SFTP version 3, as OpenSSH speaks it (draft-ietf-secsh-filexfer-02 and OpenSSH's PROTOCOL file).

Only what the sealed store asks for.  What a server says is not trusted: every field is checked against the
message's length, and a message that does not add up is an :class:`SftpGarbledError`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from hdrs_hpc.sealing.objects import Bytes

VERSION = 3
MAX_MESSAGE_BYTES = 1 << 20
"""OpenSSH says at most 256 KiB at a time; whoever announces more is no SFTP server."""


class Ask(IntEnum):
    INIT = 1
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    EXTENDED = 200


class Told(IntEnum):
    VERSION = 2
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED_REPLY = 201


OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED = 0, 1, 2, 3
_READ, _WRITE, _CREATE, _EXCLUSIVE = 0x01, 0x02, 0x08, 0x20
_HAS_SIZE, _HAS_OWNER, _HAS_MODE, _HAS_TIMES, _HAS_MORE = 0x1, 0x2, 0x4, 0x8, 0x80000000

_LENGTH = struct.Struct(">I")
_OFFSET_AND_LENGTH = struct.Struct(">QI")
_NEW_FILE = struct.pack(">III", _WRITE | _CREATE | _EXCLUSIVE, _HAS_MODE, 0o600)
_TO_READ = struct.pack(">II", _READ, 0)

FSYNC = b"fsync@openssh.com"
LIMITS = b"limits@openssh.com"
REPLACE = b"posix-rename@openssh.com"


class SftpGarbledError(ConnectionError):
    """What arrived is not SFTP; nothing more can be understood on this connection."""


class SftpRefusedError(OSError):
    """The server answered, and said no: "Failure" or one of its rarer words.

    A missing file is a FileNotFoundError, a forbidden one a PermissionError.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"SFTP status {status}")
        self.status = status


def refusal(status: int) -> OSError:
    if status == NO_SUCH_FILE:
        return FileNotFoundError()
    if status == PERMISSION_DENIED:
        return PermissionError()
    return SftpRefusedError(status)


class Request(NamedTuple):
    """One message to come.  ``into``: where the data go that it asks for."""

    kind: Ask
    body: bytes
    data: Bytes = b""
    into: memoryview | None = None


def create(path: str) -> Request:
    """A new file, 0600, to write; answered with its handle."""
    return Request(Ask.OPEN, _path(path) + _NEW_FILE)


def open_to_read(path: str) -> Request:
    """A file, or with OpenSSH a folder; answered with its handle."""
    return Request(Ask.OPEN, _path(path) + _TO_READ)


def write(handle: bytes, offset: int, data: Bytes) -> Request:
    return Request(Ask.WRITE, _text(handle) + _OFFSET_AND_LENGTH.pack(offset, len(data)), data)


def read(handle: bytes, offset: int, into: memoryview) -> Request:
    return Request(Ask.READ, _text(handle) + _OFFSET_AND_LENGTH.pack(offset, len(into)), into=into)


def sync(handle: bytes) -> Request:
    """To the medium; only for servers that name ``FSYNC`` among their extensions."""
    return Request(Ask.EXTENDED, _text(FSYNC) + _text(handle))


def limits() -> Request:
    return Request(Ask.EXTENDED, _text(LIMITS))


def close(handle: bytes) -> Request:
    return Request(Ask.CLOSE, _text(handle))


def handle_attributes(handle: bytes) -> Request:
    return Request(Ask.FSTAT, _text(handle))


def attributes(path: str, *, follow: bool = False) -> Request:
    return Request(Ask.STAT if follow else Ask.LSTAT, _path(path))


def rename(old: str, new: str) -> Request:
    """OpenSSH links and unlinks: what is there is never replaced, as posix-rename would."""
    return Request(Ask.RENAME, _path(old) + _path(new))


def replace(old: str, new: str) -> Request:
    """As rename(2): what is there goes; only for servers that name ``REPLACE`` among their extensions."""
    return Request(Ask.EXTENDED, _text(REPLACE) + _path(old) + _path(new))


def remove(path: str) -> Request:
    return Request(Ask.REMOVE, _path(path))


def remove_folder(path: str) -> Request:
    """Refused while something is in it."""
    return Request(Ask.RMDIR, _path(path))


def real_path(path: str) -> Request:
    """Answered with one name: the path without links, dots and what is relative."""
    return Request(Ask.REALPATH, _path(path))


def make_folder(path: str) -> Request:
    """0700; refused where there is one."""
    return Request(Ask.MKDIR, _path(path) + struct.pack(">II", _HAS_MODE, 0o700))


def open_folder(path: str) -> Request:
    """To list it; answered with its handle."""
    return Request(Ask.OPENDIR, _path(path))


def next_names(handle: bytes) -> Request:
    return Request(Ask.READDIR, _text(handle))


def _text(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value


def _path(value: str) -> bytes:
    return _text(value.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True, slots=True)
class Attributes:
    """All are 0 where the server did not say.  ``changed_s``: since 1970."""

    size_bytes: int
    mode: int
    changed_s: int = 0


class Fields:
    """Reads one message from its start to its end."""

    def __init__(self, message: bytes | bytearray | memoryview) -> None:
        self._message = memoryview(message)
        self._at = 0

    def u32(self) -> int:
        return int.from_bytes(self._take(4))

    def u64(self) -> int:
        return int.from_bytes(self._take(8))

    def text(self) -> bytes:
        return bytes(self._take(self.u32()))

    def attributes(self) -> Attributes:
        flags = self.u32()
        size = self.u64() if flags & _HAS_SIZE else 0
        if flags & _HAS_OWNER:
            self._take(8)
        mode = self.u32() if flags & _HAS_MODE else 0
        changed_s = 0
        if flags & _HAS_TIMES:
            self.u32()  # of last use
            changed_s = self.u32()
        if flags & _HAS_MORE:
            for _ in range(self.u32()):
                self.text()
                self.text()
        return Attributes(size, mode, changed_s)

    def more(self) -> bool:
        return self._at < len(self._message)

    def _take(self, count: int) -> memoryview:
        taken = self._message[self._at : self._at + count]
        if len(taken) != count:
            raise SftpGarbledError("a message is shorter than it says")
        self._at += count
        return taken
