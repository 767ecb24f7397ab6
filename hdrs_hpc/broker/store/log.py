"""The audit log's rows: appended in the same transaction as what they tell, signed by keyd afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select

from hdrs_hpc.audit import merkle
from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.broker.store.schema import checkpoints, log, log_nodes
from hdrs_hpc.core import clock, strict_json
from hdrs_hpc.core.errors import InternalError

CONTROLLER = "broker/controller"
WEB = "broker/web"
ADMIN = "broker/admin"
"""Whoever can write the broker's home."""
KEYD = "broker/keyd"
"""The actors that are processes of the broker; people stand under their ids."""


def append(
    tx: Connection,
    event: str,
    subject: Mapping[str, str],
    *,
    actor: str = CONTROLLER,
    detail: Mapping[str, Any] | None = None,
) -> int:
    """Append one entry; gives its sequence number (from 0).  The event's schema is checked by ``Entry``."""
    seq = size(tx)
    entry = Entry(seq, clock.to_text(clock.now()), event, dict(subject), actor, dict(detail or {}))
    raw = entry.to_bytes()
    leaf = merkle.leaf_hash(raw)
    tx.execute(insert(log).values(seq=seq, event=event, subject=_key(subject), entry=raw, leaf=leaf))
    nodes = [
        {"level": level, "position": position, "hash": node}
        for level, position, node in merkle.completed(StoredTree(tx), seq, leaf)
    ]
    if nodes:
        tx.execute(insert(log_nodes), nodes)
    return seq


class StoredTree:
    """The log's tree as the database keeps it: a node is one look-up by its key, whatever the log's length."""

    def __init__(self, tx: Connection) -> None:
        self._tx = tx

    def node(self, level: int, index: int) -> bytes:
        if level == 0:
            found = select(log.c.leaf).where(log.c.seq == index)
        else:
            found = select(log_nodes.c.hash).where(log_nodes.c.level == level, log_nodes.c.position == index)
        node: bytes = self._tx.execute(found).scalar_one()
        return node


def size(tx: Connection) -> int:
    """Number of entries."""
    last: int | None = tx.execute(select(func.max(log.c.seq))).scalar_one()
    return 0 if last is None else last + 1


def root(tx: Connection, size: int) -> bytes:
    """Merkle root over the first ``size`` entries."""
    return merkle.tree_root(StoredTree(tx), size)


def has(tx: Connection, event: str, subject: Mapping[str, str]) -> bool:
    """Whether exactly this was logged: how a step that was interrupted learns what it had said already."""
    found = select(log.c.seq).where(log.c.event == event, log.c.subject == _key(subject)).limit(1)
    return tx.execute(found).first() is not None


def append_once(
    tx: Connection,
    event: str,
    subject: Mapping[str, str],
    *,
    actor: str = CONTROLLER,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Append unless an entry of this event about this subject is there."""
    if not has(tx, event, subject):
        append(tx, event, subject, actor=actor, detail=detail)


def of_event(tx: Connection, event: str) -> list[Entry]:
    """All entries of one event, in order."""
    rows = tx.execute(select(log.c.entry).where(log.c.event == event).order_by(log.c.seq))
    return [Entry.from_bytes(row.entry) for row in rows]


def entries(tx: Connection, start: int = 0, limit: int | None = None) -> list[bytes]:
    """Canonical bytes of the entries from ``start`` on, at most ``limit`` of them."""
    rows = tx.execute(select(log.c.entry).where(log.c.seq >= start).order_by(log.c.seq).limit(limit))
    return [row.entry for row in rows]


def entry(tx: Connection, seq: int) -> bytes:
    """Canonical bytes of one entry."""
    raw: bytes = tx.execute(select(log.c.entry).where(log.c.seq == seq)).scalar_one()
    return raw


def last_seq(tx: Connection, event: str, subject: Mapping[str, str]) -> int:
    """Number of the last entry of this event about exactly this subject."""
    found: int | None = tx.execute(
        select(func.max(log.c.seq)).where(log.c.event == event, log.c.subject == _key(subject))
    ).scalar_one()
    if found is None:
        raise InternalError(f"the log has no {event} where it must")
    return found


def checkpoint_envelopes(tx: Connection) -> Sequence[bytes]:
    return [row.envelope for row in tx.execute(select(checkpoints.c.envelope).order_by(checkpoints.c.size))]


def latest_checkpoint(tx: Connection) -> tuple[int, bytes] | None:
    """Size and envelope of the newest signed checkpoint."""
    row = tx.execute(select(checkpoints).order_by(checkpoints.c.size.desc()).limit(1)).first()
    return (row.size, row.envelope) if row else None


def checkpoint_of(tx: Connection, size: int) -> bytes | None:
    """The filed checkpoint over the first ``size`` entries."""
    row = tx.execute(select(checkpoints.c.envelope).where(checkpoints.c.size == size)).first()
    return row.envelope if row else None


def file_checkpoint(tx: Connection, size: int, envelope: bytes) -> None:
    """Keep a signed checkpoint; the first one of a size stays."""
    if checkpoint_of(tx, size) is None:
        tx.execute(insert(checkpoints).values(size=size, envelope=envelope))


def _key(subject: Mapping[str, str]) -> str:
    return strict_json.dumps(dict(subject)).decode()
