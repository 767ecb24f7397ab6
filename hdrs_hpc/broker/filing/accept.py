"""Filing a document that people signed: verify, judge, store and log in one transaction.

Whoever files a document needs no other credential: its signatures decide.  The same bytes again are the same
document and give the same answer.  A refusal leaves nothing behind but the log's entry ``document-refused``.
"""

from __future__ import annotations

from dataclasses import dataclass

from hdrs_hpc.broker.filing.case import Case
from hdrs_hpc.broker.filing.kinds import FILED
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.keyd.messages import AskKeyd
from hdrs_hpc.broker.store import checkpoint, documents, log
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.core.errors import BadDocumentError, HdrsError
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.kinds import BY_PAYLOAD_TYPE
from hdrs_hpc.policy.rules import PolicyRefusedError


class NotForFilingError(BadDocumentError):
    code = "not-for-filing"
    meaning = "Documents of this kind are not filed with the broker."
    remedy = f"These are: {', '.join(FILED)}."


@dataclass(frozen=True)
class Receipt:
    """What the sender gets: what it became, and a signed checkpoint of the log that holds it."""

    kind: str
    digest: str
    project: str | None
    job: str | None
    known: bool
    checkpoint: bytes


def accept(db: Database, ask: AskKeyd, raw: bytes, *, home: BrokerHome) -> Receipt:
    """File one signed document of any kind that people sign.  Raises HdrsError; then nothing was accepted."""
    kind_name = digest = None
    try:
        envelope = Envelope.parse(raw)
        digest = envelope.digest
        kind = BY_PAYLOAD_TYPE.get(envelope.payload_type)
        if kind is None or kind.name not in FILED:
            raise NotForFilingError()
        kind_name = kind.name
        filed = FILED[kind_name]
        if filed.tell_keyd_first is not None:
            filed.tell_keyd_first(db, ask, envelope, raw)
        with db.write() as tx:
            known = documents.find(tx, digest)
            if known is not None:
                became = filed.what_it_became(tx, known)
            else:
                became = filed.file(Case(tx, documents.current_root(tx), raw, envelope, home))
    except HdrsError as error:
        if not error.retry:  # what may succeed in a minute was not judged yet
            _log_refusal(db, error, kind_name, digest)
        raise
    if filed.tell_keyd is not None:
        filed.tell_keyd(db, ask, envelope, became)
    return Receipt(kind_name, digest, became.project, became.job, known is not None, checkpoint.sign(db, ask))


def _log_refusal(db: Database, error: HdrsError, kind: str | None, digest: str | None) -> None:
    broken = (
        [rule.code for rule in error.results if rule.code] if isinstance(error, PolicyRefusedError) else []
    )
    detail = {"code": next(iter(broken), error.code)}
    if kind is not None:
        detail["kind"] = kind
    if digest is not None:
        detail["digest"] = digest
    with db.write() as tx:
        if documents.first_root_digest(tx) is not None:  # the first root is the log's first entry
            log.append(tx, "document-refused", {}, actor=log.WEB, detail=detail)
