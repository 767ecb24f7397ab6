"""Filing signed documents."""

from __future__ import annotations

from fastapi import APIRouter

from hdrs_hpc.broker import wake
from hdrs_hpc.broker.filing import accept
from hdrs_hpc.broker.web import models
from hdrs_hpc.broker.web.answers import DSSE, takes
from hdrs_hpc.broker.web.dependencies import Address, DocumentBody, WebHere

router = APIRouter(tags=["filing"])


@router.post("/documents", openapi_extra=takes(DSSE))
def file_document(web: WebHere, address: Address, raw: DocumentBody) -> models.Receipt:
    """File a signed document (a DSSE envelope) of any kind that people sign.

    Its signatures are its authority, no login is needed.  The same bytes again give the same answer.
    """
    with web.refusal_limit.on(address):
        receipt = accept.accept(web.db, web.ask, raw, home=web.home)
    wake.ring(web.home)
    return models.Receipt(
        kind=receipt.kind,
        digest=receipt.digest,
        project=receipt.project,
        job=receipt.job,
        known=receipt.known,
        checkpoint=receipt.checkpoint.decode("utf-8"),
    )
