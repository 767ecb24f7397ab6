"""What clusters told of their nodes, and when: so that nobody has to ask a site to tell people."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from hdrs_hpc.broker.store.schema import cluster_nodes
from hdrs_hpc.core import clock
from hdrs_hpc.core.capacity import Capacity


@dataclass(frozen=True)
class Told:
    """``asked_at`` is when the cluster was last asked; what it told may be from before, or nothing yet."""

    asked_at: str
    capacity: Capacity | None
    told_at: str | None


def of(tx: Connection, cluster: str) -> Told | None:
    row = tx.execute(select(cluster_nodes).where(cluster_nodes.c.cluster == cluster)).first()
    if row is None:
        return None
    return Told(row.asked_at, None if row.told is None else Capacity.from_value(row.told), row.told_at)


def note(tx: Connection, cluster: str, capacity: Capacity | None) -> None:
    """Keep what it tells now; None: it did not answer, so that what it told earlier stays."""
    before, now = of(tx, cluster), clock.to_text(clock.now())
    told_at = now
    if capacity is None and before is not None:
        capacity, told_at = before.capacity, before.told_at or now
    forget(tx, cluster)
    tx.execute(
        insert(cluster_nodes).values(
            cluster=cluster,
            asked_at=now,
            told=None if capacity is None else capacity.as_dict(),
            told_at=None if capacity is None else told_at,
        )
    )


def forget(tx: Connection, cluster: str) -> None:
    """Its settings changed: what another partition has is no longer true."""
    tx.execute(delete(cluster_nodes).where(cluster_nodes.c.cluster == cluster))
