"""A folder with the files of a runtime or a flavour, from which its one file is made."""

from __future__ import annotations

import compileall
import contextlib
import hashlib
import os
import py_compile
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path, PurePath

from hdrs_hpc.node.runtime.contents import Entry


def fingerprint(chosen: Iterable[Entry], *beside: str) -> str:
    """Changes whenever a source does, by size and time, or what is ``beside``: only for finding an earlier build."""
    digest = hashlib.sha256("\0".join([sys.version, *beside]).encode("utf-8"))
    for entry in chosen:
        found = entry.source.stat()
        digest.update(f"{entry.path}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def lay_out(chosen: Iterable[Entry], root: Path) -> None:
    """Linked where that goes, so nothing may be changed in them; their modes are :func:`mode_of`, not the sources'."""
    for entry in chosen:
        target = root / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        source = entry.source.resolve()
        with contextlib.suppress(OSError):
            os.link(source, target)
            continue
        shutil.copyfile(source, target)


def mode_of(path: PurePath) -> int:
    """Of the file at ``path`` below the root."""
    return 0o755 if path.parent.name == "bin" or ".so" in path.name else 0o644


def compile_all(folder: Path, root: Path) -> None:
    """Byte code of what is in ``folder``, as if ``root`` were the root of all."""
    compileall.compile_dir(  # gives False for some file of a library that is for another Python: no harm
        folder,
        quiet=2,
        workers=os.cpu_count() or 1,
        stripdir=str(root),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
