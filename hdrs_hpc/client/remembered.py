"""What a broker last showed of a project, kept on the laptop: for commands that must work without asking it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdrs_hpc.client.session import Session
from hdrs_hpc.core import durable_files
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.grant import Grant


@dataclass(frozen=True)
class Remembered:
    grant: Grant
    data: dict[str, Any]
    """Of each dataset what the broker showed: kind, sensitivity."""


def keep(session: Session, project: str, shown: dict[str, Any], grant: Envelope) -> None:
    """Keep it; the grant as the bytes that were signed."""
    value = {"grant": json.loads(grant.to_bytes()), "data": shown["data"]}
    path = _path(session, project)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    durable_files.replace_file(path, json.dumps(value).encode())


def recall(session: Session, project: str) -> Remembered | None:
    """None where nothing is kept, or nothing that this version understands."""
    try:
        value = json.loads(_path(session, project).read_bytes())
        envelope = Envelope.parse(json.dumps(value["grant"]).encode())
        return Remembered(Grant.from_payload(envelope.payload), dict(value["data"]))
    except (OSError, ValueError, KeyError, TypeError, HdrsError):
        return None


def _path(session: Session, project: str) -> Path:
    return session.state_dir / "projects" / f"{project}.json"
