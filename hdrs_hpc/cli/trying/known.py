"""What is known of the spec's project without asking anybody: an hdrs-hpc.toml, or what the broker last showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hdrs_hpc.client import context, remembered
from hdrs_hpc.client.session import Session
from hdrs_hpc.documents.models.grant import Grant


@dataclass(frozen=True)
class Known:
    told: str
    """Where it is from, for people."""
    grant: Grant | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Dataset → kind of data."""
    real: bool = False
    """Whether any of the data are real, or may be."""


def of_project(spec_file: Path, project: str, login: str | None) -> Known:
    """Raises ContextUnusableError, and ContextUnknownError for a ``login`` that is none."""
    found = context.find(spec_file)
    if found is not None:
        facts = context.load(found).facts
        if facts.grant.project == project:
            kinds = {name: item.kind for name, item in facts.registrations.items()}
            told = [facts.registrations.get(name) for name in facts.grant.data]
            real = any(item is None or item.sensitivity == "real" for item in told)
            return Known(f"the documents of {found.name}", facts.grant, kinds, real)
    session = Session.current(login) if login else Session.at_hand()
    shown = remembered.recall(session, project) if session is not None else None
    if session is None or shown is None:
        return Known("nothing is known of the project here")
    kinds = {name: data["kind"] for name, data in shown.data.items() if data.get("kind")}
    real = any(data.get("sensitivity") in (None, "real") for data in shown.data.values())
    return Known(f"what {session.settings.audience} last showed", shown.grant, kinds, real)
