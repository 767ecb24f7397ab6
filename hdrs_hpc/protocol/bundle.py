"""A bundle: the researcher's own code as one plain tar file, named everywhere by its digest.

Packing is deterministic (sorted, no times, no owners, of modes only whether a file may be executed), so the same
folder is the same digest on every laptop.
Client, broker and node read it by the same rules, and none of them trusts that another has checked.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hdrs_hpc.core.errors import BadDocumentError

MAX_BYTES = 16 << 20
MAX_FILES = 2000
OUR_NAMES = frozenset({"hdrs_hpc", "imaging", "connectors"})
"""Import packages of this project: code under these names could pose as ours."""
PLAIN, EXECUTABLE = 0o644, 0o755
"""Modes of files, whatever others their owner gave them."""
LEFT_OUT = frozenset({"__pycache__", ".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"})

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)


class BundleMalformedError(BadDocumentError):
    code = "bundle-malformed"
    meaning = "A bundle is a plain tar of regular files with simple names, and nothing else."
    remedy = "Keep code only: no links, no special files, names of letters, digits, dot, hyphen, underscore."


class BundleTooLargeError(BadDocumentError):
    code = "bundle-too-large"
    meaning = "A bundle holds code, not data: at most 16 MiB in 2,000 files."
    remedy = "Leave data and environments out; give weights and tables as inputs of the spec."


class BundleShadowsError(BadDocumentError):
    code = "bundle-shadows-names"
    meaning = "A top-level name of the bundle is one of this project's own packages."
    remedy = "Rename the file or folder; hdrs_hpc, imaging and connectors are taken."


class BundleDigestError(BadDocumentError):
    code = "bundle-digest-mismatch"
    meaning = "The bundle is not the one whose digest was signed."
    remedy = "Sign the spec again, or send the bundle that was signed."


@dataclass(frozen=True)
class Bundle:
    """A checked bundle: ``files`` maps relative POSIX paths to their bytes."""

    digest: str
    files: dict[str, bytes]
    executable: frozenset[str] = frozenset()
    """Names of the files that may be run as programs."""


def pack(folder: Path) -> bytes:
    """The tar of a folder's regular files; raises an error of this module where it may not be a bundle.

    Caches, hidden files, version control and wheels are left out; a link is refused rather than followed.
    """
    if not folder.is_dir():
        raise BundleMalformedError(
            "there is no such folder",
            where=folder.name,
            remedy="`bundle` is a folder's path, relative to the spec.",
        )
    chosen: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if any(part in LEFT_OUT or part.startswith(".") for part in relative.parts) or path.suffix == ".whl":
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise BundleMalformedError("a link or special file", where=str(relative))
        if path.is_file():
            chosen[str(PurePosixPath(relative))] = path
    _check_names(list(chosen))
    _check_size(len(chosen), sum(path.stat().st_size for path in chosen.values()))
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, path in sorted(chosen.items()):
            data = path.read_bytes()
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 0
            info.mode = EXECUTABLE if path.stat().st_mode & 0o100 else PLAIN
            tar.addfile(info, io.BytesIO(data))
    raw = target.getvalue()
    _check_size(len(chosen), len(raw))
    return raw


def digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def read(raw: bytes, expected_digest: str | None = None) -> Bundle:
    """Check and read a bundle; raises BundleDigestError before a byte of it is parsed."""
    found = digest(raw)
    if expected_digest is not None and found != expected_digest:
        raise BundleDigestError()
    _check_size(0, len(raw))
    files: dict[str, bytes] = {}
    executable = set()
    total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
            for info in tar:
                if info.isdir():
                    continue
                # A sparse member claims any size in a few bytes; the tar itself can hold no more than it weighs.
                total += info.size
                _check_size(0, total)
                if not info.isreg() or info.issparse() or info.size < 0:
                    raise BundleMalformedError("a link or special file", where=info.name[:100])
                if info.name in files:
                    raise BundleMalformedError("a name appears twice", where=info.name[:100])
                handle = tar.extractfile(info)
                assert handle is not None  # regular files always have one
                files[info.name] = handle.read()
                if info.mode & 0o100:
                    executable.add(info.name)
                _check_size(len(files), 0)
    except (tarfile.TarError, OSError, ValueError, EOFError):
        raise BundleMalformedError("not a plain tar file") from None
    _check_names(list(files))
    return Bundle(found, files, frozenset(executable))


def write(bundle: Bundle, folder: Path) -> None:
    """Write the files below ``folder``, which must be empty; names were checked when the bundle was read."""
    for name, data in bundle.files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as handle:
            handle.write(data)
        if name in bundle.executable:
            target.chmod(EXECUTABLE)


def _check_names(names: list[str]) -> None:
    if not names:
        raise BundleMalformedError("the bundle is empty")
    for name in names:
        parts = name.split("/")
        if len(name) > 200 or len(parts) > 16 or not all(_PART.fullmatch(part) for part in parts):
            raise BundleMalformedError("a name is not simple", where=name[:100])
        if parts[0].split(".")[0] in OUR_NAMES:
            raise BundleShadowsError(where=name)
    folders = {"/".join(name.split("/")[:n]) for name in names for n in range(1, name.count("/") + 1)}
    for name in names:
        if name in folders:
            raise BundleMalformedError("a name is both file and folder", where=name)


def _check_size(files: int, size_bytes: int) -> None:
    if files > MAX_FILES or size_bytes > MAX_BYTES:
        raise BundleTooLargeError()
