"""A checkpoint of the log as it is now, for whoever wants to hold one: signed by keyd, and filed."""

from __future__ import annotations

from hdrs_hpc.broker.keyd.messages import AskKeyd
from hdrs_hpc.broker.store import checkpoint
from hdrs_hpc.broker.store.database import Database


def newest(db: Database, ask: AskKeyd) -> bytes:
    """Its envelope.  Raises log-rolled-back (through keyd) where the database is an older or another one."""
    return checkpoint.sign(db, ask)
