"""Filing: signed documents, and the bundles that specs name."""

from __future__ import annotations

from fastapi import APIRouter

from hdrs_hpc.broker import wake
from hdrs_hpc.broker.filing import accept, bundles
from hdrs_hpc.broker.reading import permissions
from hdrs_hpc.broker.web import models
from hdrs_hpc.broker.web.answers import DSSE, takes
from hdrs_hpc.broker.web.dependencies import Address, Asker, BundleBody, DocumentBody, WebHere
from hdrs_hpc.core.errors import NotAllowedError
from hdrs_hpc.protocol import bundle

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


@router.post("/bundles", openapi_extra=takes("application/octet-stream"))
def upload_bundle(web: WebHere, who: Asker, raw: BundleBody) -> models.Bundle:
    """Keep a bundle (a plain tar) until a signed spec names its digest."""
    if not permissions.may_upload_bundle(who):
        raise NotAllowedError("only researchers have code to upload")
    digest = bundle.digest(raw)
    bundle.read(raw, digest)
    bundles.put(web.db, raw, digest)
    return models.Bundle(digest=digest, size=len(raw))
