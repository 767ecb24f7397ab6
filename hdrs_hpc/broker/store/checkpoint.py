"""Signed checkpoints of the log, and asking keyd for what it gives only against proof that the log says so."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from hdrs_hpc.audit import merkle
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.messages import AskKeyd
from hdrs_hpc.broker.store import documents, log, projects
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.core.errors import HdrsError, SiteError
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.grant import Grant

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
        envelope = ask(m.SignCheckpoint(known, size, root, tuple(proof))).envelope
        with db.read() as tx:
            filed = log.checkpoint_of(tx, size) is not None
        if not filed:
            with db.write() as tx:
                log.file_checkpoint(tx, size, envelope)
        return envelope

    return _until_in_time(once)


def ask_with_proof[R](
    db: Database, ask: AskKeyd, seqs: Sequence[int], request: Callable[[m.LogProof], m.Ask[R]]
) -> R:
    """keyd's reply to ``request``, made with proof that the entries ``seqs`` are in the signed log.

    Signs the log first, so whoever asks for something that keyd gives has said so in the log by then.
    """

    def once() -> R:
        sign(db, ask)
        return ask(request(_proof(db, seqs, _signed_size(ask))))

    return _until_in_time(once)


def tell_keyd(db: Database, ask: AskKeyd, project: str) -> None:
    """Have keyd hold to what gives a project something and was accepted here: grants, lifted freezes.  Idempotent.

    Each in turn, with the registrations that a grant rests on.
    """
    held = ask(m.HeldGrant(project))
    with db.read() as tx:
        accepted = _accepted(tx, "grant-accepted", project)
        untold = projects.unfreezes(tx, project).keys() - set(held.unfrozen)
        lifted = [
            (seq, raw)
            for seq, raw in _accepted(tx, "closure-accepted", project)
            if Envelope.parse(raw).digest in untold
        ]
    digests = [Envelope.parse(raw).digest for _, raw in accepted]
    for seq, raw in accepted[digests.index(held.grant) + 1 if held.grant in digests else 0 :]:
        with db.read() as tx:
            rests_on = _registrations(tx, raw)
        seqs = [seq, *(number for number, _ in rests_on)]
        listed = tuple(registration for _, registration in rests_on)
        ask_with_proof(db, ask, seqs, functools.partial(m.AdmitGrant, raw, listed))
    for seq, raw in lifted:
        ask_with_proof(db, ask, [seq], functools.partial(m.AdmitUnfreeze, raw))


def _accepted(tx: Connection, event: str, project: str) -> list[tuple[int, bytes]]:
    """Number of the entry and envelope of each document of a project that was accepted with this event."""
    found = [entry for entry in log.of_event(tx, event) if entry.subject["project"] == project]
    return [(entry.seq, documents.get(tx, entry.subject["document"]).raw) for entry in found]


def _registrations(tx: Connection, grant: bytes) -> list[tuple[int, bytes]]:
    """Number of the entry and envelope of the registration of each dataset that a grant names."""
    wanted = {
        (name, granted.version)
        for name, granted in Grant.from_payload(Envelope.parse(grant).payload).data.items()
    }
    return [
        (entry.seq, documents.get(tx, entry.subject["document"]).raw)
        for entry in log.of_event(tx, "dataset-registered")
        if (entry.subject["dataset"], entry.detail["version"]) in wanted
    ]


def tell_runtimes(db: Database, ask: AskKeyd, cluster: str) -> None:
    """Have keyd hold to what admins said of the cluster's node runtimes since it was told last.  Idempotent."""
    held = ask(m.HeldRuntimes(cluster)).runtimes.values()
    newest = max((said.entry for said in held), default=-1)
    with db.read() as tx:
        said = [*log.of_event(tx, "runtime-installed"), *log.of_event(tx, "runtime-withdrawn")]
    seqs = sorted(entry.seq for entry in said if entry.subject["cluster"] == cluster and entry.seq > newest)
    for part in itertools.batched(seqs, m.MAX_LOGGED, strict=False):
        ask_with_proof(db, ask, part, m.AdmitRuntimes)


def tell_opt_outs(db: Database, ask: AskKeyd, dataset: str) -> None:
    """Have keyd hold to the opt-out list of a dataset as it was accepted here, each version in turn.  Idempotent."""
    held = ask(m.HeldOptOut(dataset)).version
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
    return ask(m.Status()).log_size


def _until_in_time[Got](once: Callable[[], Got]) -> Got:
    """Try again, from the signing on, as long as something came in between."""
    for _ in range(TRIES):
        try:
            return once()
        except HdrsError as error:
            if error.code not in ASK_AGAIN:
                raise
    raise LogBusyError()
