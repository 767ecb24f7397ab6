"""What an admin did to a cluster or its node runtimes, as entries of the log; keyd is told of runtimes."""

from __future__ import annotations

from hdrs_hpc.broker.keyd.messages import AskKeyd
from hdrs_hpc.broker.store import capacity, checkpoint, documents, log
from hdrs_hpc.broker.store.database import Database


def note_added(db: Database, cluster: str, *, kind: str, isolation: str) -> None:
    """New settings may mean another partition: what its nodes have is asked for anew."""
    _log(db, "cluster-added", cluster, {"type": kind, "isolation": isolation})
    with db.write() as tx:
        capacity.forget(tx, cluster)


def note_drained(db: Database, cluster: str, *, drained: bool) -> None:
    _log(db, "cluster-drained", cluster, {"drained": drained})


def note_runtime_registered(db: Database, cluster: str, digest: str) -> None:
    _log(db, "runtime-installed", cluster, {"digest": digest})


def note_flavour_registered(db: Database, cluster: str, flavour: str, digest: str, size_bytes: int) -> None:
    _log(db, "runtime-installed", cluster, {"digest": digest, "flavour": flavour, "size": size_bytes})


def note_runtime_withdrawn(db: Database, cluster: str, digest: str) -> None:
    _log(db, "runtime-withdrawn", cluster, {"digest": digest})


def tell_runtimes(db: Database, ask: AskKeyd, cluster: str) -> None:
    """Have keyd hold to what the log says of the cluster's runtimes.  Idempotent.  Raises LogRolledBackError."""
    checkpoint.tell_runtimes(db, ask, cluster)


def _log(db: Database, event: str, cluster: str, detail: dict[str, object]) -> None:
    with db.write() as tx:
        documents.current_root(tx)  # the log begins with the trust root; before it nothing is done
        log.append(tx, event, {"cluster": cluster}, actor=log.ADMIN, detail=detail)
