"""Signed checkpoints of the log, and asking keyd for what it gives only against proof that the log says so."""

from __future__ import annotations

import base64
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from hdrs_hpc.audit import merkle
from hdrs_hpc.broker.keys import messages as m
from hdrs_hpc.broker.store import documents, log
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.core.errors import HdrsError, SiteError

AskKeyd = Callable[[m.Ask], dict[str, Any]]
TRIES = 20
ASK_AGAIN = frozenset({"checkpoint-overtaken", "log-not-proven"})
"""keyd's reason codes, compared as text since they come through a socket: another process had a longer log signed,
or keyd was started anew, between two questions of one request."""


class LogBusyError(SiteError):
    code = "log-busy"
    meaning = "Other processes had the log signed faster than this one could ask."
    remedy = "It is tried again by itself."


def sign(db: Database, ask: AskKeyd) -> bytes:
    """The envelope of a checkpoint over the whole log as it is now.

    Raises log-rolled-back (through keyd) where the database is older than what keyd signed, or another one.
    """

    def once() -> bytes:
        known = _signed_size(ask)  # first: a log that is read later can only be as long, or was rolled back
        with db.read() as tx:
            size = log.size(tx)
            root = log.root(tx, size)
            proof = merkle.consistency_proof(log.StoredTree(tx), known, size) if known <= size else []
        reply = ask(m.SignCheckpoint(known, size, root, tuple(proof)))
        envelope = base64.b64decode(reply["envelope"])
        with db.read() as tx:
            filed = log.checkpoint_of(tx, size) is not None
        if not filed:
            with db.write() as tx:
                log.file_checkpoint(tx, size, envelope)
        return envelope

    return _until_in_time(once)


def ask_with_proof(
    db: Database, ask: AskKeyd, seqs: Sequence[int], request: Callable[[m.LogProof], m.Ask]
) -> dict[str, Any]:
    """keyd's reply to ``request``, made with proof that the entries ``seqs`` are in the signed log.

    Signs the log first, so whoever asks for something that keyd gives has said so in the log by then.
    """

    def once() -> dict[str, Any]:
        sign(db, ask)
        return ask(request(_proof(db, seqs, _signed_size(ask))))

    return _until_in_time(once)


def tell_grants(db: Database, ask: AskKeyd, project: str) -> None:
    """Have keyd hold to the grants of a project that were accepted here, each version in turn.  Idempotent."""
    held = ask(m.HeldGrant(project))["grant"]
    with db.read() as tx:
        accepted = [e for e in log.of_event(tx, "grant-accepted") if e.subject["project"] == project]
        grants = {e.subject["document"]: documents.get(tx, e.subject["document"]).raw for e in accepted}
    digests = list(grants)
    for entry in accepted[digests.index(held) + 1 if held in grants else 0 :]:
        raw = grants[entry.subject["document"]]
        ask_with_proof(db, ask, [entry.seq], functools.partial(m.AdmitGrant, raw))


def tell_runtimes(db: Database, ask: AskKeyd, cluster: str) -> None:
    """Have keyd hold to what admins said of the cluster's node runtimes since it was told last.  Idempotent."""
    held = ask(m.HeldRuntimes(cluster))["runtimes"].values()
    newest = max((said["entry"] for said in held), default=-1)
    with db.read() as tx:
        said = [*log.of_event(tx, "runtime-installed"), *log.of_event(tx, "runtime-withdrawn")]
    seqs = sorted(entry.seq for entry in said if entry.subject["cluster"] == cluster and entry.seq > newest)
    for part in itertools.batched(seqs, m.MAX_LOGGED, strict=False):
        ask_with_proof(db, ask, part, m.AdmitRuntimes)


def tell_opt_outs(db: Database, ask: AskKeyd, dataset: str) -> None:
    """Have keyd hold to the opt-out list of a dataset as it was accepted here, each version in turn.  Idempotent."""
    held = ask(m.HeldOptOut(dataset))["version"]
    with db.read() as tx:
        accepted = [e for e in log.of_event(tx, "opt-out-changed") if e.subject["dataset"] == dataset]
        changes = [(e.seq, documents.get(tx, e.subject["document"]).raw) for e in accepted]
    for seq, raw in changes[held:]:
        ask_with_proof(db, ask, [seq], functools.partial(m.AdmitOptOut, raw))


def _proof(db: Database, seqs: Sequence[int], size: int) -> m.LogProof:
    with db.read() as tx:
        tree = log.StoredTree(tx)
        listed = [
            m.LoggedEntry(log.entry(tx, seq), seq, tuple(merkle.inclusion_proof(tree, seq, size)))
            for seq in seqs
        ]
    return m.LogProof(size, tuple(listed))


def _signed_size(ask: AskKeyd) -> int:
    size: int = ask(m.Status())["checkpoint"]["size"]
    return size


def _until_in_time[Got](once: Callable[[], Got]) -> Got:
    """Try again, from the signing on, as long as something came in between."""
    for _ in range(TRIES):
        try:
            return once()
        except HdrsError as error:
            if error.code not in ASK_AGAIN:
                raise
    raise LogBusyError()
