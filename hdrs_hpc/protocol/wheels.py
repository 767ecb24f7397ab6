"""What is in wheels, and whether it may be imported on a node; unpacking them there.

Client, broker and node ask the same questions, and none of them trusts that another has asked.  Only the standard
library reads a wheel, and only after bounds were set on what its directory may hold.  Of a wheel its packages are taken
(``purelib`` and ``platlib``); scripts, headers and data files are left out: nothing on a node looks for them.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.protocol.bundle import OUR_NAMES
from hdrs_hpc.protocol.wheel_lock import (
    MAX_WHEELS_BYTES,
    Held,
    Lock,
    Wheel,
    WheelPlatformError,
    WheelsTooLargeError,
    check_held,
    fits_tag,
    normal,
)

MAX_FILES = 200_000
MAX_DIRECTORY_BYTES = 16 << 20
"""Of a wheel's list of files, which is read into memory."""
MAX_METADATA_BYTES = 64 << 10
AT_START = frozenset({"sitecustomize", "usercustomize"})
"""Modules that Python imports by itself when it starts."""
_END = b"PK\x05\x06"
_END_BYTES = 22
_END_64 = b"PK\x06\x07"
_PIECE_BYTES = 1 << 20
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)
"""What ``zipfile`` raises where bytes are not as it expects."""
_TAG = re.compile(r"^Tag: *(\S+) *$", re.MULTILINE)


class WheelMalformedError(BadDocumentError):
    code = "wheel-malformed"
    meaning = "A wheel is not a zip file of plain files with its own metadata."
    remedy = "Build it again with a usual tool (`python -m build --wheel`), and lock again."


class WheelDigestError(BadDocumentError):
    code = "wheel-digest-mismatch"
    meaning = "A wheel's bytes are not those whose hash the lock names."
    remedy = "Run `hdrs-hpc bundle lock` again; where it happens again, the index gives out changing files."


class WheelPathError(BadDocumentError):
    code = "wheel-unsafe-path"
    meaning = (
        "A file of a wheel would lie outside its folder, is a link, or has a name that files do not have."
    )
    remedy = "Build the wheel from plain files with plain names."


class WheelAtStartError(BadDocumentError):
    code = "wheel-runs-at-start"
    meaning = "A wheel holds what Python runs by itself when it starts: a .pth file, sitecustomize or usercustomize."
    remedy = "Use a version without it; code runs on a node when it is imported, not before."


class WheelShadowsError(BadDocumentError):
    code = "wheel-shadows-names"
    meaning = "A wheel holds a top-level module of ours, of Python's standard library, or of the flavour."
    remedy = "Leave the package out, or rename its module."


class WheelsOverlapError(BadDocumentError):
    code = "wheels-overlap"
    meaning = "Two wheels hold the same file, or a file of one is a folder of another."
    remedy = "Keep one of the two packages, such as one of opencv-python and opencv-python-headless."


class WheelsOverMemoryError(BadDocumentError):
    code = "wheels-over-memory"
    meaning = "Unpacked, the wheels take more memory than the job asks for on a node."
    remedy = "Ask for more `mem`: they lie in the job's memory, the largest for a moment also packed."


Opened = Callable[[Wheel], BinaryIO]


@dataclass(frozen=True)
class Contents:
    """What of a wheel is unpacked: path below the folder of imports → its entry in the zip file."""

    files: dict[str, zipfile.ZipInfo]

    @property
    def size(self) -> int:
        return sum(info.file_size for info in self.files.values())


def verify(file: BinaryIO, wheel: Wheel) -> None:
    """Size and SHA-256 are those of the lock; reads piece by piece.  Raises WheelDigestError."""
    file.seek(0)
    found = hashlib.sha256()
    while piece := file.read(_PIECE_BYTES):
        found.update(piece)
    if file.tell() != wheel.size or f"sha256:{found.hexdigest()}" != wheel.digest:
        raise WheelDigestError(f"{wheel.file[:100]} has other bytes", where=wheel.name)


def check(lock: Lock, opened: Opened, held: Held, mem_mb: int | None = None) -> int:
    """Every rule on what is in the wheels; gives how many bytes they are unpacked.  Hashes are :func:`verify`'s.

    ``mem_mb``: of the job on a node.  Raises an error of this module or of ``wheel_lock``.
    """
    check_held(lock, held)
    owners: dict[str, str] = {}
    folders: dict[str, str] = {}
    size = 0
    for wheel in lock.wheels:
        with opened(wheel) as file:
            found = contents(file, wheel, lock.platform, held)
        size += found.size
        for path in found.files:
            if path in owners or path in folders:
                raise WheelsOverlapError(
                    f"{wheel.name} and {owners.get(path) or folders[path]}", where=path[:100]
                )
            owners[path] = wheel.name
            for folder in _folders(path):
                if folder in owners:
                    raise WheelsOverlapError(f"{wheel.name} and {owners[folder]}", where=folder[:100])
                folders.setdefault(folder, wheel.name)
        if size > MAX_WHEELS_BYTES or len(owners) > MAX_FILES:
            raise WheelsTooLargeError()
    largest = max((wheel.size for wheel in lock.wheels), default=0)
    if mem_mb is not None and size + largest > mem_mb << 20:
        raise WheelsOverMemoryError(
            f"{size >> 20} MiB, and {largest >> 20} MiB for a moment, of {mem_mb} MiB"
        )
    return size


def contents(file: BinaryIO, wheel: Wheel, platform: str, held: Held) -> Contents:
    """What is in one wheel; raises what is wrong with it."""
    with _opened(file, wheel) as archive:
        infos = archive.infolist()
        if sum(info.file_size for info in infos) > MAX_WHEELS_BYTES or len(infos) > MAX_FILES:
            raise WheelsTooLargeError(where=wheel.name)
        if sum(info.compress_size for info in infos) > wheel.size:
            raise WheelMalformedError("its files lie on each other", where=wheel.name)
        files: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            _check_entry(info, wheel)
            path = _target(info.filename)
            if info.is_dir() or path is None:
                continue
            if path in files:
                raise WheelMalformedError("a file is in it twice", where=wheel.name)
            files[path] = info
        _check_modules(files, wheel, held)
        _check_metadata(archive, files, wheel, platform)
    return Contents(files)


def unpack(file: BinaryIO, wheel: Wheel, platform: str, held: Held, folder: Path) -> None:
    """Write the packages of a verified wheel below ``folder``.  Never over a file that is there."""
    found = contents(file, wheel, platform, held)
    with _opened(file, wheel) as archive:
        for path, info in found.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with archive.open(info) as packed, target.open("xb") as out:
                    shutil.copyfileobj(packed, out, _PIECE_BYTES)
            except FileExistsError:
                raise WheelsOverlapError(where=path[:100]) from None
            except _UNREADABLE:
                raise WheelMalformedError("a file of it does not unpack", where=wheel.name) from None


def _opened(file: BinaryIO, wheel: Wheel) -> zipfile.ZipFile:
    """The zip file, once its end says that its directory is small: ``zipfile`` reads that whole."""
    size = file.seek(0, 2)
    if size < _END_BYTES:
        raise WheelMalformedError("it is no zip file", where=wheel.name)
    file.seek(max(0, size - _END_BYTES - 20))
    end = file.read()
    tail = end[-_END_BYTES:]
    if tail[:4] != _END or tail[20:] != b"\0\0" or (len(end) > _END_BYTES and end[:4] == _END_64):
        raise WheelMalformedError("it does not end as a plain zip file does", where=wheel.name)
    if int.from_bytes(tail[12:16], "little") > MAX_DIRECTORY_BYTES:
        raise WheelsTooLargeError("its list of files is longer than 16 MiB", where=wheel.name)
    try:
        return zipfile.ZipFile(file)
    except _UNREADABLE:
        raise WheelMalformedError("it is no zip file", where=wheel.name) from None


def _check_entry(info: zipfile.ZipInfo, wheel: Wheel) -> None:
    name = info.filename.removesuffix("/")
    parts = name.split("/")
    plain = (
        info.orig_filename == info.filename and name.isprintable() and "\\" not in name and len(name) <= 500
    )
    if not plain or any(part in ("", ".", "..") or len(part.encode()) > 200 for part in parts):
        raise WheelPathError("a name that no file may have", where=wheel.name)
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG):
        raise WheelPathError("a link or special file", where=wheel.name)
    if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise WheelMalformedError("a file in it is encrypted or packed unusually", where=wheel.name)


def _target(name: str) -> str | None:
    """Where a file of a wheel is unpacked; None for what is left out."""
    first, _, rest = name.partition("/")
    if not first.endswith(".data") or not rest:
        return name
    scheme, _, path = rest.partition("/")
    return path if scheme in ("purelib", "platlib") and path else None


def _check_modules(files: dict[str, zipfile.ZipInfo], wheel: Wheel, held: Held) -> None:
    for path in files:
        top, _, below = path.partition("/")
        module = top if below else top.partition(".")[0]
        if module.partition(".")[0] in AT_START or (not below and top.endswith(".pth")):
            raise WheelAtStartError(f"{wheel.name} holds {top[:100]}", where=wheel.name)
        if module in OUR_NAMES or module in sys.stdlib_module_names or module in held.modules:
            raise WheelShadowsError(f"{wheel.name} holds {module[:100]}", where=wheel.name)


def _check_metadata(
    archive: zipfile.ZipFile, files: dict[str, zipfile.ZipInfo], wheel: Wheel, platform: str
) -> None:
    """Its own metadata say the same package and a platform that fits."""
    folders = {path.partition("/")[0] for path in files if path.partition("/")[0].endswith(".dist-info")}
    if len(folders) != 1:
        raise WheelMalformedError("it has not one folder of metadata", where=wheel.name)
    folder = folders.pop()
    info = files.get(f"{folder}/WHEEL")
    if info is None or info.file_size > MAX_METADATA_BYTES:
        raise WheelMalformedError("its metadata are missing", where=wheel.name)
    if normal(folder.removesuffix(".dist-info").rpartition("-")[0]) != wheel.name:
        raise WheelMalformedError("its metadata are of another package", where=wheel.name)
    try:
        text = archive.read(info).decode("utf-8")
    except _UNREADABLE:
        raise WheelMalformedError("its metadata can't be read", where=wheel.name) from None
    if not any(fits_tag(tag, platform) for tag in _expanded(text)):
        raise WheelPlatformError(f"{wheel.file[:100]} says that it is for another platform", where=wheel.name)


def _expanded(text: str) -> Iterator[str]:
    """Tags of a WHEEL file; several in one are written with dots."""
    for tag in _TAG.findall(text):
        parts = tag.split("-")
        if len(parts) == 3:
            for python in parts[0].split("."):
                for abi in parts[1].split("."):
                    yield from (f"{python}-{abi}-{system}" for system in parts[2].split("."))


def _folders(path: str) -> Iterator[str]:
    parts = path.split("/")
    for number in range(1, len(parts)):
        yield "/".join(parts[:number])
