"""Documents that people file: each kind with the functions of the module here that has its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from sqlalchemy import Connection

from hdrs_hpc.broker.filing.case import Became, Case
from hdrs_hpc.broker.keyd.messages import AskKeyd
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.broker.store.documents import Accepted
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.kinds import BY_PAYLOAD_TYPE, KINDS, DocumentKind
from hdrs_hpc.forms.document import Document


def _named_in_it(tx: Connection, known: Accepted) -> Became:
    payload = BY_PAYLOAD_TYPE[known.envelope.payload_type].model.from_payload(known.envelope.payload)
    return Became(getattr(payload, "project", None), getattr(payload, "job", None))


@dataclass(frozen=True)
class FiledKind:
    """What the module of a kind defines.  ``file`` judges the document, stores it and logs it, in one transaction."""

    file: Callable[[Case], Became]
    tell_keyd_first: Callable[[Database, AskKeyd, Envelope, bytes], None] | None = None
    """For what takes away: keyd must know of it before the database does, so that a crash errs on the safe side."""
    tell_keyd: Callable[[Database, AskKeyd, Envelope, Became], None] | None = None
    """For what gives: once the log says that it was accepted."""
    what_it_became: Callable[[Connection, Accepted], Became] = _named_in_it
    """For the same bytes sent again."""


def _filed(kind: DocumentKind[Document]) -> FiledKind:
    functions = vars(import_module(f"hdrs_hpc.broker.filing.{kind.name.replace('-', '_')}"))
    return FiledKind(**{name: functions[name] for name in FiledKind.__annotations__ if name in functions})


FILED: dict[str, FiledKind] = {kind.name: _filed(kind) for kind in KINDS.values() if kind.filed}
