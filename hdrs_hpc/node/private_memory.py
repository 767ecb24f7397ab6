"""A folder in memory that only the agent and its children can see.

A mount namespace of our own holds a tmpfs that no other process of the same account has in its view, and
which the kernel drops with the last process of the attempt, however that ends.  It needs user namespaces;
where a site has them switched off, a 0700 folder in /dev/shm remains, and the Hello says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

# linux/mount.h
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 2, 4, 0x4000, 0x40000

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  only for a folder of mode 0700, whose maker is checked


@dataclass(frozen=True)
class PrivateMemory:
    folder: Path
    private: bool
    """True: a mount of our own.  False: a plain folder, visible to every process of the account."""

    def make(self, *names: str, mode: int = 0o700) -> Path:
        """A folder below, with its parents."""
        path = self.folder.joinpath(*names)
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        return path

    def forget(self) -> None:
        """Remove what is in it now rather than when the last process ends."""
        for entry in self.folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        if not self.private:
            shutil.rmtree(self.folder, ignore_errors=True)


def enter(place: Path, size_mb: int) -> PrivateMemory:
    """Make private memory of at most ``size_mb`` at ``place / "memory"``.

    Must be called before any thread exists: the kernel refuses a new user namespace to a process with
    threads.
    """
    folder = place / "memory"
    folder.mkdir(mode=0o700)
    try:
        _own_mounts()
        options = f"size={size_mb}m,mode=0700".encode()
        _mount(b"tmpfs", os.fsencode(folder), b"tmpfs", _MS_NOSUID | _MS_NODEV, options)
    except OSError:
        return PrivateMemory(_shared_memory(place), private=False)
    return PrivateMemory(folder, private=True)


def _own_mounts() -> None:
    """A user namespace in which we are still ourselves, and a mount namespace whose changes stay in it."""
    uid, gid = os.getuid(), os.getgid()
    os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNS)
    Path("/proc/self/setgroups").write_text("deny", "ascii")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", "ascii")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", "ascii")
    _mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)


def _shared_memory(place: Path) -> Path:
    folder = _SHARED_MEMORY / place.name
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError("somebody else's folder in /dev/shm")
    return folder


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int, options: bytes | None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source, target, kind, ctypes.c_ulong(flags), options) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
