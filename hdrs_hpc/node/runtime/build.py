"""Build the node runtime: one deterministic, uncompressed tar, named by its SHA-256.

The same interpreter, libraries and sources give the same bytes: entries are sorted, times and owners are
zero, and byte code is written with unchecked hashes, so that it neither depends on times nor is looked up
against the source when it is loaded.
"""

from __future__ import annotations

import compileall
import hashlib
import json
import os
import py_compile
import shutil
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hdrs_hpc.core.errors import InternalError
from hdrs_hpc.node.runtime import contents

ROOT_NAMES = ("bin", "lib")


@dataclass(frozen=True)
class RuntimeFile:
    path: Path
    digest: str
    size_bytes: int
    files: int


def build(folder: Path) -> RuntimeFile:
    """The runtime for this interpreter and these sources, in ``folder``; built only if it is not there yet.

    Raises RuntimeSourceMissingError.  Interrupted builds leave nothing under a final name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = contents.entries()
    note = folder / f"{_fingerprint(chosen)}.json"
    known = _known(note, folder)
    if known is not None:
        return known
    with tempfile.TemporaryDirectory(prefix="building-", dir=folder) as text:
        tree = Path(text, "rt")
        _copy([*chosen, *contents.system_libraries(chosen)], tree)
        _compile(tree)
        _check_compiled(tree)
        made = Path(text, "runtime.tar")
        digest, files = _write_tar(tree, made)
        path = folder / f"{digest.removeprefix('sha256:')}.tar"
        made.chmod(0o644)
        made.rename(path)
        size = path.stat().st_size
        draft = Path(text, "note.json")
        draft.write_text(json.dumps({"digest": digest, "size": size, "files": files}), "ascii")
        draft.rename(note)
    return RuntimeFile(path, digest, size, files)


def _fingerprint(chosen: list[contents.Entry]) -> str:
    """Changes whenever a source does, by size and time: only for finding an earlier build."""
    digest = hashlib.sha256(sys.version.encode("utf-8"))
    for entry in chosen:
        found = entry.source.stat()
        digest.update(f"{entry.path}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _known(note: Path, folder: Path) -> RuntimeFile | None:
    try:
        value = json.loads(note.read_text("ascii"))
    except FileNotFoundError:
        return None
    digest, size, files = str(value["digest"]), int(value["size"]), int(value["files"])
    path = folder / f"{digest.removeprefix('sha256:')}.tar"
    if not path.is_file() or path.stat().st_size != size:
        return None
    return RuntimeFile(path, digest, size, files)


def _copy(chosen: list[contents.Entry], tree: Path) -> None:
    for entry in chosen:
        target = tree / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(entry.source, target)
        executable = entry.path.parent.name == "bin" or ".so" in entry.path.name
        target.chmod(0o755 if executable else 0o644)


def _compile(tree: Path) -> None:
    compileall.compile_dir(  # gives False for some file of a library that is for another Python: no harm
        tree / contents.STDLIB,
        quiet=2,
        workers=os.cpu_count() or 1,
        stripdir=str(tree),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _check_compiled(tree: Path) -> None:
    if not (tree / contents.SITE / "hdrs_hpc/node/__pycache__").is_dir():
        raise InternalError("our own sources did not compile")


def _write_tar(tree: Path, target: Path) -> tuple[str, int]:
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for name in names:
            source = tree / name
            info = tarfile.TarInfo(name)
            info.mtime = 0
            if source.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
                continue
            found = source.stat()
            info.size, info.mode = found.st_size, found.st_mode & 0o777
            with source.open("rb") as handle:
                tar.addfile(info, handle)
    with target.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return f"sha256:{digest}", len(names)
