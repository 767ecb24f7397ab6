"""Artefacts of a job between the check and the release, and what reviewers decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from hdrs_hpc.broker.store.schema import artefacts, decisions


@dataclass(frozen=True)
class Artefact:
    """``refused`` is a reason code of the check; without it ``rebuilt`` and ``file`` say what is reviewed."""

    job: str
    name: str
    cls: str
    media_type: str | None
    size: int | None
    rebuilt: str | None
    file: str | None
    report: dict[str, Any]
    report_digest: str
    refused: str | None
    nonce: str
    verdict: str | None
    release_record: str | None


@dataclass(frozen=True)
class Decision:
    job: str
    artefact: str
    person: str
    verdict: str
    reason: str
    document: str


def put(tx: Connection, found: Artefact) -> None:
    tx.execute(insert(artefacts).values(**vars(found)))


def of_job(tx: Connection, job: str) -> list[Artefact]:
    rows = tx.execute(select(artefacts).where(artefacts.c.job == job).order_by(artefacts.c.name))
    return [Artefact(**row._mapping) for row in rows]


def decisions_of(tx: Connection, job: str) -> list[Decision]:
    rows = tx.execute(
        select(decisions).where(decisions.c.job == job).order_by(decisions.c.artefact, decisions.c.person)
    )
    return [Decision(**row._mapping) for row in rows]


def put_decision(tx: Connection, decision: Decision) -> None:
    tx.execute(insert(decisions).values(**vars(decision)))


def note(tx: Connection, job: str, name: str, **columns: Any) -> None:
    tx.execute(update(artefacts).where(artefacts.c.job == job, artefacts.c.name == name).values(**columns))
