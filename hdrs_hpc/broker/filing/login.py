"""A login: the signed answer to a challenge that this broker gave.  It is logged, and nothing of it is kept."""

from __future__ import annotations

from hdrs_hpc.broker.store import documents, log
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.core.errors import HdrsError, NotAllowedError
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.envelope import Envelope


class ChallengeError(NotAllowedError):
    code = "login-challenge"
    meaning = "The login does not answer the challenge that this broker gave."
    remedy = "Log in again."


def accept(db: Database, raw: bytes, challenge: str) -> str:
    """The person who answered the challenge; raises NotAllowedError."""
    try:
        with db.read() as tx:
            root = documents.current_root(tx)
        found = trust.verify(Envelope.parse(raw), kinds.LOGIN, root)
        answer = found.document
        if (answer.audience, answer.challenge) != (root.document.audience, challenge):
            raise ChallengeError()
    except HdrsError as error:
        with db.write() as tx:
            if documents.first_root_digest(tx) is not None:
                log.append(tx, "login-refused", {}, actor=log.WEB, detail={"code": error.code})
        raise
    person = found.people[0]
    with db.write() as tx:
        log.append(tx, "login-accepted", {"person": person}, actor=person)
    return person
