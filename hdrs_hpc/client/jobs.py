"""Jobs as their researcher sees them, and fetching what was released: believed by its record, not the channel."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdrs_hpc.client.session import Session
from hdrs_hpc.core.errors import BadDocumentError, ConflictError
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.release import ReleaseRecord


class ReleaseMismatchError(BadDocumentError):
    code = "release-mismatch"
    meaning = "What the broker sent is not what its signed release record says; it was not written."
    remedy = "Fetch it again; if it stays so, tell the custodian: the record and the bytes must agree."


class FileThereError(ConflictError):
    code = "file-exists"
    meaning = "There is another file of that name already; nothing was overwritten."
    remedy = "Give another folder with --to."


@dataclass(frozen=True)
class Fetched:
    artefact: str
    path: Path
    size: int
    digest: str
    reviewers: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "artefact": self.artefact,
            "file": str(self.path),
            "size": self.size,
            "digest": self.digest,
            "reviewers": list(self.reviewers),
        }


def every(session: Session, project: str | None = None, state: str | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = session.api.get("/v1/jobs", project=project, state=state)
    return found


def one(session: Session, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = session.api.get(f"/v1/jobs/{_safe(prefix)}")
    return found


def cancel(session: Session, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = session.api.post(f"/v1/jobs/{_safe(prefix)}/cancel")
    return found


def fetch(session: Session, prefix: str, folder: Path, only: str | None = None) -> Iterator[Fetched]:
    """Fetch the released artefacts of a job into ``folder``, each with its record beside it."""
    job = one(session, prefix)
    taken: set[str] = set()
    for item in job["artefacts"]:
        if item["state"] == "released" and only in (None, item["name"]):
            fetched = _fetch_one(session, job, str(item["name"]), folder, taken)
            taken.add(fetched.path.name.casefold())
            yield fetched


def _fetch_one(
    session: Session, job: dict[str, Any], name: str, folder: Path, taken: Collection[str]
) -> Fetched:
    base = f"/v1/jobs/{job['id']}/artefacts/{_safe(name)}"
    envelope = session.api.get_bytes(f"{base}/record")
    record: ReleaseRecord = trust.verify(
        Envelope.parse(envelope), kinds.RELEASE_RECORD, session.root
    ).document
    if (record.audience, record.project, record.job, record.artefact) != (
        session.settings.audience,
        job["project"],
        job["id"],
        name,
    ):
        raise ReleaseMismatchError("the record is about another artefact", where=name)
    raw = session.api.get_bytes(base)
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    if (digest, len(raw)) != (record.content, record.bytes):
        raise ReleaseMismatchError("the bytes are not those released", where=name)
    # The broker's file name is a name, never a path.
    if Path(record.file).name != record.file or record.file.startswith("."):
        raise ReleaseMismatchError("the record's file name is not a plain name", where=name)
    folder.mkdir(parents=True, exist_ok=True)
    # Two outputs from different folders of the job may bear one file name.
    target = folder / (f"{name}-{record.file}" if record.file.casefold() in taken else record.file)
    _put(target, raw)
    _put(target.with_name(f"{target.name}.release.json"), envelope)
    return Fetched(name, target, len(raw), digest, tuple(record.reviewers))


def _put(path: Path, raw: bytes) -> None:
    if path.exists():
        if path.read_bytes() == raw:
            return
        raise FileThereError(where=str(path))
    draft = path.with_name(f".{path.name}.part")
    draft.write_bytes(raw)
    draft.replace(path)


def _safe(part: str) -> str:
    """A part of an address that a person typed."""
    from urllib.parse import quote

    return quote(part, safe="")
