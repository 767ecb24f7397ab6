"""Logging in: a challenge, the person's signature over it, a token for an hour."""

from __future__ import annotations

from fastapi import APIRouter

from hdrs_hpc.broker.filing import login as filed_login
from hdrs_hpc.broker.reading import broker as reading
from hdrs_hpc.broker.web import models
from hdrs_hpc.broker.web.answers import DSSE, takes
from hdrs_hpc.broker.web.dependencies import Address, DocumentBody, WebHere
from hdrs_hpc.broker.web.tokens import TokenInvalidError
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.login import Login

router = APIRouter(prefix="/login", tags=["login"])


@router.post("/challenge")
def challenge(web: WebHere) -> models.Challenge:
    """A challenge to sign; good once, for two minutes."""
    text, expires = web.challenges.give()
    return models.Challenge(challenge=text, expires=clock.to_text(expires))


@router.post("", openapi_extra=takes(DSSE))
def login(web: WebHere, address: Address, raw: DocumentBody) -> models.LoggedIn:
    """The signed answer (a DSSE envelope of kind ``login``) → a token for reading.

    The challenge is void after the first answer to it, right or wrong.
    """
    with web.refusal_limit.on(address):
        person = filed_login.accept(web.db, raw, _challenge(web, raw))
    with web.db.read() as tx:
        found = reading.root(tx).document.people.get(person)
    if found is None:
        raise TokenInvalidError()
    token = web.tokens.issue(person)
    return models.LoggedIn(
        token=token.text,
        person=person,
        name=found.name,
        roles=sorted(found.roles),
        expires=clock.to_text(token.expires),
    )


def _challenge(web: WebHere, raw: bytes) -> str:
    """The challenge that the answer claims to answer, if we gave it and nobody answered it; else one that
    no answer fits, so that the refusal is judged and logged in the one place for that."""
    try:
        claimed = Login.from_payload(Envelope.parse(raw).payload).challenge
    except HdrsError:
        return ""
    return claimed if web.challenges.take(claimed) else ""
