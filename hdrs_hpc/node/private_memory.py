"""A folder in memory that only the agent and its children can see.

A mount namespace of our own holds a tmpfs that no other process of the same account has in its view, and
which the kernel drops with the last process of the attempt, however that ends.  It needs user namespaces;
where a site has them switched off, a 0700 folder in /dev/shm remains, and the Hello says so.

What the sandbox runs on is mounted in that namespace too, by FUSE: the mount is made here, while the process may, and
served later (``flavour_image.py``).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# linux/mount.h
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 1, 2, 4, 0x4000, 0x40000

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  only for a folder of mode 0700, whose maker is checked


OWN_MB = 256
"""For what the agent writes itself: the unpacked bundle (64 MiB at most) and the journal of the outputs."""
FILES_PER_MB = 64
"""Files a MiB of the workload's part: each takes about a KiB of the kernel's memory beside its bytes."""


@dataclass(frozen=True)
class PrivateMemory:
    folder: Path
    private: bool
    """True: mounts of our own.  False: a plain folder, visible to every process of the account."""
    flavour: Path
    """Where what the sandbox runs on is shown."""
    fuse: int | None = None
    """By which the mount at ``flavour`` is served; None: there is none, and it is unpacked there."""

    @property
    def filled(self) -> tuple[Path, ...]:
        """Folders in memory that an attempt may fill."""
        return (self.files, self.flavour) if self.private and self.fuse is None else (self.files,)

    @property
    def files(self) -> Path:
        """All that the workload writes; a tmpfs of its own, so that filling it takes nothing from the agent."""
        return self.folder / "files"

    @property
    def report(self) -> Path:
        """Where the launcher says how the workload ended: a MiB of its own, so that there is always room for it."""
        return self.folder / "report"

    def make(self, *names: str, mode: int = 0o700) -> Path:
        """A folder below, with its parents."""
        path = self.folder.joinpath(*names)
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        return path

    def forget(self) -> None:
        """Remove what is in it now rather than when the last process ends."""
        for entry in self.folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, onexc=_open_up)
            else:
                entry.unlink(missing_ok=True)
        if not self.private:
            shutil.rmtree(self.folder, ignore_errors=True)


def enter(place: Path, size_mb: int) -> PrivateMemory:
    """Make private memory at ``place / "memory"``, of which the workload may fill ``size_mb``.

    Must be called before any thread exists: the kernel refuses a new user namespace to a process with
    threads.
    """
    folder, flavour = place / "memory", place / "flavour"
    folder.mkdir(mode=0o700)
    flavour.mkdir(mode=0o700)
    try:
        _own_mounts()
        _tmpfs(folder, OWN_MB, OWN_MB * FILES_PER_MB)
        memory = PrivateMemory(folder, private=True, flavour=flavour, fuse=_fuse(flavour))
        if memory.fuse is None:
            _tmpfs(flavour, 2 * size_mb, 2 * size_mb * FILES_PER_MB)
        _tmpfs(memory.make("files"), size_mb, size_mb * FILES_PER_MB)
        _tmpfs(memory.make("report"), 1, 16)
    except OSError:
        memory = PrivateMemory(_shared_memory(place), private=False, flavour=flavour)
        memory.make("files")
    return memory


def _tmpfs(folder: Path, size_mb: int, files: int) -> None:
    options = f"size={size_mb}m,nr_inodes={files},mode=0700".encode()
    _mount(b"tmpfs", os.fsencode(folder), b"tmpfs", _MS_NOSUID | _MS_NODEV, options)


def _fuse(folder: Path) -> int | None:
    """A read-only mount that waits for who serves it; None where the node or our runtime has not what that needs."""
    if not Path(sys.executable).with_name("squashfuse_ll").exists():
        return None
    options = "fd={},rootmode=40000,user_id={},group_id={}"
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV
    try:
        fuse = os.open("/dev/fuse", os.O_RDWR)
        given = options.format(fuse, os.getuid(), os.getgid()).encode()
        _mount(b"flavour", os.fsencode(folder), b"fuse.squashfuse", flags, given)
    except OSError:
        return None
    return fuse


def _open_up(remove: Callable[..., object], path: str, error: BaseException) -> None:
    """Called by rmtree: a folder without permissions gets them, so that what is in it goes too."""
    with contextlib.suppress(OSError):
        if remove in (os.open, os.scandir, os.lstat) and not os.path.islink(path):  # noqa: PTH114
            os.chmod(path, 0o700)  # noqa: PTH101
            shutil.rmtree(path, ignore_errors=True)


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
