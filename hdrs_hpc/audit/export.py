"""The export folder: what a broker hands to outsiders, and the only thing that verification reads.

``entries.jsonl`` (one canonical entry a line), ``checkpoints.jsonl`` (the signed checkpoint over all of them;
verification also takes several, one a line, the last over all) and ``documents/<hex>.json`` (the accepted
envelopes, named by the digests of their payloads).  Nothing else.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hdrs_hpc.core.errors import BadDocumentError, ConflictError, NotFoundError
from hdrs_hpc.documents.envelope import MAX_ENVELOPE_BYTES, Envelope

ENTRIES, CHECKPOINTS, DOCUMENTS = "entries.jsonl", "checkpoints.jsonl", "documents"
MAX_ENTRIES_BYTES = 4 << 30
_DOCUMENT_NAME = re.compile(r"[0-9a-f]{64}\.json", re.ASCII)


class ExportMissingError(NotFoundError):
    code = "audit-export-missing"
    meaning = "There is no audit export in that folder."
    remedy = "Give the folder that holds entries.jsonl."


class ExportLayoutError(BadDocumentError):
    code = "audit-export-layout"
    meaning = "The folder holds something that no audit export has, or lacks something that each one has."
    remedy = "Fetch the export again into an empty folder."


class ExportInTheWayError(ConflictError):
    code = "audit-export-in-the-way"
    meaning = "The folder to export to holds something that is not an earlier export."
    remedy = "Give a folder that does not exist yet, or one with an earlier export."


@dataclass(frozen=True, slots=True)
class Export:
    """An export as read, nothing of it judged yet except its layout."""

    lines: tuple[bytes, ...]
    checkpoints: tuple[bytes, ...]
    documents: Mapping[str, bytes]
    """Envelope bytes by payload digest, ``sha256:…``."""


def write_export(
    folder: Path, entries: Iterable[bytes], checkpoint: bytes, documents: Iterable[bytes]
) -> None:
    """Write an export so that ``folder`` holds all of it or is untouched; an earlier export is replaced.

    ``entries`` are canonical bytes in order; ``checkpoint`` and ``documents`` are envelope bytes, exactly as
    they were signed or accepted.  Only the checkpoint over the whole log belongs in: beside an earlier one,
    the folder could be cut back to it unseen.  Whoever holds earlier ones gives them to the verification.
    """
    if folder.exists() and not _is_export(folder):
        raise ExportInTheWayError(f"{folder.name} is not an audit export")
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.new")
    old = new.with_suffix(".old")
    new.mkdir(mode=0o755)
    try:
        _write_lines(new / ENTRIES, entries)
        _write_lines(new / CHECKPOINTS, [checkpoint])
        (new / DOCUMENTS).mkdir()
        for raw in documents:
            _write(new / DOCUMENTS / f"{Envelope.parse(raw).digest.removeprefix('sha256:')}.json", raw)
        _sync(new / DOCUMENTS)
        _sync(new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def read_export(folder: Path) -> Export:
    """Read an export; raises for every file that does not belong and every line that is not whole."""
    if not (folder / ENTRIES).is_file():
        raise ExportMissingError(f"no {ENTRIES} in {folder}")
    _check_layout(folder, {ENTRIES: False, CHECKPOINTS: False, DOCUMENTS: True})
    documents: dict[str, bytes] = {}
    for path in sorted((folder / DOCUMENTS).iterdir()):
        if path.is_symlink() or not path.is_file() or _DOCUMENT_NAME.fullmatch(path.name) is None:
            raise ExportLayoutError(f"{path.name[:80]} does not belong there", where=DOCUMENTS)
        documents[f"sha256:{path.stem}"] = _read(path, MAX_ENVELOPE_BYTES)
    return Export(_read_lines(folder / ENTRIES), _read_lines(folder / CHECKPOINTS), documents)


def _is_export(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {"?"}
    return not names or names == {ENTRIES, CHECKPOINTS, DOCUMENTS}


def _check_layout(folder: Path, wanted: Mapping[str, bool]) -> None:
    for path in folder.iterdir():
        if path.name not in wanted:
            raise ExportLayoutError(f"{path.name[:80]} does not belong there")
    for name, is_folder in wanted.items():
        path = folder / name
        if path.is_symlink() or not (path.is_dir() if is_folder else path.is_file()):
            raise ExportLayoutError(f"{name} is missing")


def _read_lines(path: Path) -> tuple[bytes, ...]:
    raw = _read(path, MAX_ENTRIES_BYTES)
    if not raw:
        return ()
    if not raw.endswith(b"\n"):
        raise ExportLayoutError("the last line is not whole", where=path.name)
    return tuple(raw[:-1].split(b"\n"))


def _read(path: Path, most: int) -> bytes:
    if path.stat().st_size > most:
        raise ExportLayoutError(f"larger than the {most} bytes allowed", where=path.name)
    return path.read_bytes()


def _write_lines(path: Path, lines: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        for line in lines:
            if b"\n" in line:
                raise ValueError("a line end inside a line")
            file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _write(path: Path, raw: bytes) -> None:
    with path.open("xb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
