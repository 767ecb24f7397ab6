"""THE table of documents that people file: each kind with the functions of its module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from hdrs_hpc.broker.filing import (
    closure,
    code_approval,
    grant,
    job_spec,
    opt_out,
    output_decision,
    registration,
    trust_root,
)
from hdrs_hpc.broker.filing.case import Became, Case
from hdrs_hpc.broker.keyd.messages import AskKeyd
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.broker.store.documents import Accepted
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.kinds import BY_PAYLOAD_TYPE


def _named_in_it(tx: Connection, known: Accepted) -> Became:
    payload = BY_PAYLOAD_TYPE[known.envelope.payload_type].model.from_payload(known.envelope.payload)
    return Became(getattr(payload, "project", None), getattr(payload, "job", None))


@dataclass(frozen=True)
class FiledKind:
    """One row.  ``file`` judges the document, stores it and logs it, in one transaction."""

    file: Callable[[Case], Became]
    tell_keyd_first: Callable[[Database, AskKeyd, Envelope, bytes], None] | None = None
    """For what takes away: keyd must know of it before the database does, so that a crash errs on the safe side."""
    tell_keyd: Callable[[Database, AskKeyd, Envelope, Became], None] | None = None
    """For what gives: once the log says that it was accepted."""
    what_it_became: Callable[[Connection, Accepted], Became] = _named_in_it
    """For the same bytes sent again."""


FILED: dict[str, FiledKind] = {
    "trust-root": FiledKind(trust_root.file, tell_keyd_first=trust_root.tell_keyd_first),
    "dataset-registration": FiledKind(registration.file),
    "grant": FiledKind(grant.file, tell_keyd=grant.tell_keyd),
    "code-approval": FiledKind(code_approval.file),
    "job-spec": FiledKind(job_spec.file, what_it_became=job_spec.what_it_became),
    "output-decision": FiledKind(output_decision.file),
    "closure": FiledKind(closure.file, tell_keyd_first=closure.tell_keyd_first, tell_keyd=grant.tell_keyd),
    "opt-out-change": FiledKind(opt_out.file, tell_keyd=opt_out.tell_keyd),
}
