"""Keys used, made and destroyed, each told to the log: what gives waits for the log, destroying never does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from sqlalchemy import Connection

from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import jobs, kept, log
from hdrs_hpc.broker.store.transition import StateMovedError

NEVER_MADE = "K-none"
"""Ids of tombstones: keyd's promise that a key which never was will never be."""
KEY_ENCRYPTION_KEY = "project"
"""It opens nothing but other keys, and is told of by the certificate as a whole."""


def use_key(
    broker: OpenBroker, purpose: Literal["stage", "select", "bundle", "collect"], project: str, holder: str
) -> m.GivenKey:
    """A key for a process of the data zone; that it is used is in the log before it is given."""
    role = {"stage": "copy", "select": "copy", "bundle": "bundle", "collect": "output"}[purpose]
    live = broker.ask(m.Inspect(project)).live
    with broker.db.write() as tx:
        for record in live:
            wanted = (role, holder), ("deid", "project") if purpose == "stage" else None
            if (record.role, record.holder) in wanted:
                log_made(tx, project, record.role, record.holder, record.id)
                require_living(tx, project, [record.id])
                log.append(
                    tx, "key-used", {"project": project, "key": record.id}, detail={"purpose": purpose}
                )
    return broker.ask(m.UseKey(purpose, project, holder))


def require_living(tx: Connection, project: str, keys: Iterable[str]) -> None:
    """In the transaction that logs a key given or used: a destruction that came since keyd was asked must win."""
    for key in keys:
        if log.has(tx, "key-destroyed", {"project": project, "key": key}):
            raise StateMovedError("a key was destroyed meanwhile")


def destroy_keys(
    broker: OpenBroker, project: str, what: Literal["copies", "outputs", "all"], holder: str | None
) -> None:
    """Destroy, then log what keyd says is destroyed and the log does not say yet.  Idempotent."""
    broker.ask(m.Destroy(project, what, holder))
    log_destroyed(broker, project)


def log_destroyed(broker: OpenBroker, project: str) -> None:
    """Catch the log up with keyd, which may have destroyed keys by itself or before a crash of ours."""
    keystore = broker.ask(m.Status()).keystore_class
    destroyed = broker.ask(m.Inspect(project)).destroyed
    with broker.db.write() as tx:
        for record in destroyed:
            if record.id.startswith(NEVER_MADE) or record.role == KEY_ENCRYPTION_KEY:
                continue
            # We may have died between the key's making and its entry: the certificate names the key all the same.
            log_made(tx, project, record.role, record.holder, record.id)
            log.append_once(
                tx,
                "key-destroyed",
                {"project": project, "key": record.id},
                actor=log.KEYD,
                detail={"role": record.role, "keystore": keystore},
            )


def log_made(tx: Connection, project: str, role: str, holder: str, key: str) -> None:
    """Log once that keyd made a key.

    ``holder`` is a copy, an attempt, an output that is to stay, or nobody for a key of the project.
    """
    subject = {"project": project, "key": key}
    if role == "copy":
        event = "copy-key-created"
        subject |= {"copy": holder}
    elif role == "kept":
        event = "kept-key-created"
        subject |= kept.get(tx, holder).subject
    elif role in ("output", "bundle"):
        event = "output-key-created"
        subject |= {"attempt": holder, "job": jobs.attempt(tx, holder).job}
    else:
        event = "project-key-created"
    log.append_once(tx, event, subject, detail={"role": role})
