"""The only module that writes a state: compare-and-swap plus the audit entry, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, update

from hdrs_hpc.broker import states
from hdrs_hpc.broker.store import log
from hdrs_hpc.broker.store.schema import copies, jobs, projects
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import ConflictError, InternalError

_TABLES: dict[str, tuple[Table, str]] = {
    "job": (jobs, "id"),
    "copy": (copies, "id"),
    "project": (projects, "name"),
}


class StateMovedError(ConflictError):
    code = "state-moved"
    meaning = "Somebody else moved this on in the meantime; nothing was changed."
    remedy = "Look at its present state and decide again."


def begin(tx: Connection, life: str, values: Mapping[str, Any]) -> None:
    """Insert a row in its life's first state.  The caller logs why, in the same transaction."""
    table, _ = _TABLES[life]
    stamp = {"received_at": _now(), "changed_at": _now()} if life == "job" else {}
    tx.execute(insert(table).values(state=next(iter(states.LIVES[life])), **stamp, **values))


def move(
    tx: Connection,
    life: str,
    subject: Mapping[str, str],
    old: str,
    new: str,
    *,
    reason: str | None = None,
    outcome: str | None = None,
    **columns: Any,
) -> None:
    """From ``old`` to ``new`` with the entry ``<life>-moved``, or :class:`StateMovedError`.

    ``subject`` names the row as the log does, e.g. ``{"project": …, "job": …}``.  ``reason`` is a reason code.
    """
    if new not in states.LIVES[life][old].exits:
        raise InternalError(f"a {life} may not go from {old} to {new}")
    table, key_column = _TABLES[life]
    if life == "job":
        columns |= {"changed_at": _now()}
        columns |= {"outcome": outcome} if outcome else {}
        columns |= {"reason": reason} if reason else {}
    elif life == "copy" and reason:
        columns |= {"reason": reason}
    done = tx.execute(
        update(table)
        .where(table.c[key_column] == subject[life], table.c.state == old)
        .values(state=new, **columns)
    )
    if done.rowcount != 1:
        raise StateMovedError(f"the {life} is no longer {old}")
    detail = {"from": old, "to": new} | ({"reason": reason} if reason else {})
    if life == "job" and outcome:
        detail["outcome"] = outcome
    log.append(tx, f"{life}-moved", subject, detail=detail)


def _now() -> str:
    return clock.to_text(clock.now())


def count(tx: Connection, life: str) -> dict[str, int]:
    """How many are in each state of a life; states that none is in count 0."""
    table, _ = _TABLES[life]
    rows = tx.execute(select(table.c.state, func.count().label("n")).group_by(table.c.state))
    found = {row.state: row.n for row in rows}
    return {state: found.get(state, 0) for state in states.LIVES[life]}
