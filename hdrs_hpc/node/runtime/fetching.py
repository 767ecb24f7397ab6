"""The packages of a flavour, fetched by its lock into a folder: pinned versions with hashes, wheels only."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from hdrs_hpc.core.errors import NotFoundError, SiteError
from hdrs_hpc.node.runtime.contents import our_root


class LockMissingError(NotFoundError):
    code = "flavour-lock-missing"
    meaning = "There is no lock that says which packages the flavour holds on this platform."
    remedy = "Build in a clone of the repository; deploy/runtimes/README.md tells what is locked, and how to lock more."


class FetchFailedError(SiteError):
    code = "flavour-fetch-failed"
    meaning = "The packages of a flavour could not be fetched by its lock."
    remedy = "Have `uv` installed, and an index reachable that has the very files of the lock (UV_INDEX_URL)."


def lock_of(name: str, platform: str) -> Path:
    """Raises LockMissingError."""
    path = our_root() / "deploy" / "runtimes" / f"{name}-{platform}.lock"
    if not path.is_file():
        raise LockMissingError(f"{name} for {platform}")
    return path


def fetch(folder: Path, lock: Path) -> Path:
    """A folder below ``folder`` with what ``lock`` lists, fetched once.  Raises FetchFailedError."""
    kept = folder / f"fetched-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if kept.is_dir():
        return kept
    passing = kept.with_name(f"{kept.name}.part")
    shutil.rmtree(passing, ignore_errors=True)
    words = ("pip", "install", "--quiet", "--target", str(passing), "--python", sys.executable)
    only = ("--require-hashes", "--only-binary", ":all:", "--no-deps", "-r", str(lock))
    done = subprocess.run([_uv(), *words, *only], check=False)
    if done.returncode != 0:
        shutil.rmtree(passing, ignore_errors=True)
        raise FetchFailedError(lock.name)
    passing.rename(kept)
    return kept


def _uv() -> str:
    found = shutil.which("uv") or shutil.which(
        "uv", path=f"{our_root() / '.uv/bin'}:{Path(sys.prefix, 'bin')}"
    )
    if found is None:
        raise FetchFailedError("there is no `uv` here")
    return found
