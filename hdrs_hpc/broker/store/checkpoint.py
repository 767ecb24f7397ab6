"""Signed checkpoints of the log: keyd signs only what extends what it signed before."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from hdrs_hpc.audit import merkle
from hdrs_hpc.broker.keys import messages as m
from hdrs_hpc.broker.store import log
from hdrs_hpc.broker.store.database import Database

AskKeyd = Callable[[m.Ask], dict[str, Any]]


def sign(db: Database, ask: AskKeyd) -> bytes:
    """The envelope of a checkpoint over the whole log as it is now.

    Raises LogRolledBackError (through keyd) when the database is older than what keyd has seen.
    """
    for attempt in range(5):
        signed = ask(m.Status())["checkpoint"]["size"]
        with db.read() as tx:
            leaves = log.leaves(tx)
        size = len(leaves)
        proof = merkle.consistency_proof(leaves, signed) if 0 < signed < size else []
        try:
            reply = ask(m.SignCheckpoint(size, merkle.root_hash(leaves), tuple(proof)))
        except Exception:
            # Another process may have had a longer log signed between the two questions.
            if attempt == 4 or ask(m.Status())["checkpoint"]["size"] == signed:
                raise
            continue
        envelope = base64.b64decode(reply["envelope"])
        with db.write() as tx:
            log.file_checkpoint(tx, size, envelope)
        return envelope
    raise AssertionError("unreachable")


def inclusion(db: Database, seqs: list[int], size: int) -> tuple[m.LoggedEntry, ...]:
    """Proofs that these entries are in the log of ``size`` entries."""
    with db.read() as tx:
        leaves = log.leaves(tx)[:size]
        entries = log.entries(tx)
    return tuple(m.LoggedEntry(entries[seq], seq, tuple(merkle.inclusion_proof(leaves, seq))) for seq in seqs)
