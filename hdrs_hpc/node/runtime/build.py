"""Build the agent's runtime: one deterministic, uncompressed tar, named by its SHA-256.

The same interpreter, libraries and sources give the same bytes: entries are sorted, times and owners are
zero, and byte code is written with unchecked hashes, so that it neither depends on times nor is looked up
against the source when it is loaded.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from hdrs_hpc.core.errors import InternalError
from hdrs_hpc.node.runtime import contents, tree


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
    chosen = contents.of_the_agent()
    note = folder / f"{tree.fingerprint(chosen)}.json"
    known = _known(note, folder)
    if known is not None:
        return known
    with tempfile.TemporaryDirectory(prefix="building-", dir=folder) as text:
        root = Path(text, "rt")
        tree.lay_out([*chosen, *contents.system_libraries(chosen)], root)
        tree.compile_all(root / contents.STDLIB, root)
        _check_compiled(root)
        made = Path(text, "runtime.tar")
        digest, files = _write_tar(root, made)
        path = folder / f"{digest.removeprefix('sha256:')}.tar"
        made.chmod(0o644)
        made.rename(path)
        built = RuntimeFile(path, digest, path.stat().st_size, files)
        draft = Path(text, "note.json")
        draft.write_text(json.dumps(asdict(built) | {"path": path.name}), "ascii")
        draft.rename(note)
    return built


def _known(note: Path, folder: Path) -> RuntimeFile | None:
    try:
        value = json.loads(note.read_text("ascii"))
    except FileNotFoundError:
        return None
    known = RuntimeFile(**value | {"path": folder / value["path"]})
    there = known.path.is_file() and known.path.stat().st_size == known.size_bytes
    return known if there else None


def _check_compiled(root: Path) -> None:
    if not (root / contents.SITE / "hdrs_hpc/node/__pycache__").is_dir():
        raise InternalError("our own sources did not compile")


def _write_tar(root: Path, target: Path) -> tuple[str, int]:
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for name in names:
            source = root / name
            info = tarfile.TarInfo(name)
            info.mtime = 0
            if source.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
                continue
            info.size, info.mode = source.stat().st_size, tree.mode_of(Path(name))
            with source.open("rb") as handle:
                tar.addfile(info, handle)
    with target.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return f"sha256:{digest}", len(names)
