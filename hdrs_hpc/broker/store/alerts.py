"""What waits for something outside, so that people can see it: one alert a subject, replaced or cleared."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from hdrs_hpc.broker.store.schema import alerts
from hdrs_hpc.core import clock


@dataclass(frozen=True)
class Alert:
    about: str
    code: str
    message: str
    since: str


def put(tx: Connection, about: str, code: str, message: str) -> None:
    """Keep the first time of an unchanged alert."""
    known = find(tx, about)
    if known is not None and (known.code, known.message) == (code, message):
        return
    clear(tx, about)
    tx.execute(
        insert(alerts).values(about=about, code=code, message=message, since=clock.to_text(clock.now()))
    )


def clear(tx: Connection, about: str) -> None:
    tx.execute(delete(alerts).where(alerts.c.about == about))


def clear_all(tx: Connection) -> None:
    tx.execute(delete(alerts))


def find(tx: Connection, about: str) -> Alert | None:
    row = tx.execute(select(alerts).where(alerts.c.about == about)).first()
    return Alert(**row._mapping) if row else None


def every(tx: Connection) -> list[Alert]:
    return [Alert(**row._mapping) for row in tx.execute(select(alerts).order_by(alerts.c.about))]
