"""Who opted out of each dataset, as the tables know it: statements by version, and no patient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from hdrs_hpc.broker.store import copies
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.store.schema import opt_outs
from hdrs_hpc.broker.store.transition import StateMovedError
from hdrs_hpc.core import clock


@dataclass(frozen=True)
class Statement:
    """One accepted opt-out change, and the list that it led to."""

    dataset: str
    version: int
    document: str
    action: str
    ids: str
    """Digest of the file of ids that it added or removed."""
    list: str
    """Keyed digest of the whole list from here on: what copies, keyd, log and certificate name."""
    about: int
    """The list's length, rounded up to a power of ten."""
    accepted_at: str


def put(tx: Connection, statement: Statement) -> None:
    tx.execute(insert(opt_outs).values(**vars(statement)))


def of_dataset(tx: Connection, dataset: str) -> list[Statement]:
    """Every statement about a dataset, the first one first."""
    rows = tx.execute(select(opt_outs).where(opt_outs.c.dataset == dataset).order_by(opt_outs.c.version))
    return [Statement(**row._mapping) for row in rows]


def current(tx: Connection, dataset: str) -> Statement | None:
    """The statement in force; None where nobody said anything."""
    row = tx.execute(
        select(opt_outs).where(opt_outs.c.dataset == dataset).order_by(opt_outs.c.version.desc()).limit(1)
    ).first()
    return Statement(**row._mapping) if row else None


def every(tx: Connection) -> dict[str, list[Statement]]:
    """Dataset → its statements, the first one first."""
    found: dict[str, list[Statement]] = {}
    for row in tx.execute(select(opt_outs).order_by(opt_outs.c.dataset, opt_outs.c.version)):
        found.setdefault(row.dataset, []).append(Statement(**row._mapping))
    return found


def stated(tx: Connection) -> frozenset[str]:
    """Datasets of which somebody said who opted out."""
    return frozenset(tx.execute(select(opt_outs.c.dataset).distinct()).scalars())


def outdated_since(tx: Connection, copy: Copy) -> datetime | None:
    """When the list changed that the copy was made under; None while it is the one in force.

    A copy from before there were statements, under none, counts as outdated for ever.
    """
    said = of_dataset(tx, copy.dataset)
    made_under = next((item.version for item in said if item.list == copy.opt_out), 0)
    later = [item for item in said if item.version > made_under]
    if later:
        return clock.from_text(later[0].accepted_at)
    return None if made_under else datetime.min.replace(tzinfo=clock.now().tzinfo)


def job_outdated_since(tx: Connection, job: str) -> datetime | None:
    """The same of a job: since when one of its copies is outdated."""
    times = [outdated_since(tx, copy) for copy in copies.of_job(tx, job).values()]
    return min((time for time in times if time is not None), default=None)


def require_current(tx: Connection, used: Iterable[Copy]) -> None:
    """In the transaction that logs something given: a change of the list that came since we looked must win."""
    if any(outdated_since(tx, copy) is not None for copy in used):
        raise StateMovedError("who opted out has changed meanwhile")
