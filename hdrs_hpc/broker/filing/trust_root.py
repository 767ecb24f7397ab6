"""A trust root: the first one is pinned by its digest, later ones follow by a proper succession."""

from __future__ import annotations

from hdrs_hpc.broker.filing.case import Became, Case, sha256
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.messages import AskKeyd
from hdrs_hpc.broker.store import checkpoint, documents, log
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.core.errors import ConflictError
from hdrs_hpc.documents import succession, trust
from hdrs_hpc.documents.envelope import Envelope


def accept_first(db: Database, ask: AskKeyd, raw: bytes, digest: str) -> None:
    """Pin the first trust root.  Its digest came by another way than the file; it is the log's first entry."""
    root = trust.load_root(raw, digest)
    ask(m.PinRoot(raw, digest))
    with db.write() as tx:
        first = documents.first_root_digest(tx)
        if first is not None:
            if first != digest:
                raise ConflictError("this broker has another first trust root")
            return
        documents.put(tx, root.digest, "trust-root", raw, root.people)
        documents.put_root(tx, root)
        log.append(
            tx,
            "trust-root-accepted",
            {"document": root.digest},
            actor=log.WEB,
            detail={"envelope": sha256(raw), "version": root.document.version, "pinned": True},
        )
    checkpoint.sign(db, ask)


def file(case: Case) -> Became:
    new = trust.load_root(case.raw, None)
    succession.check(case.root, new, entries=log.size(case.tx))
    case.file("trust-root", new.people)
    documents.put_root(case.tx, new)
    case.log(
        "trust-root-accepted",
        new.people[0],
        {},
        {"version": new.document.version, "supersedes": case.root.digest},
    )
    return Became()


def tell_keyd_first(db: Database, ask: AskKeyd, envelope: Envelope, raw: bytes) -> None:
    ask(m.PinRoot(raw, None))
