"""Which broker this is, whom it believes, and whether it lives."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from hdrs_hpc import __version__
from hdrs_hpc.broker import heartbeats
from hdrs_hpc.broker.keyd import messages
from hdrs_hpc.broker.store import alerts, documents, log, transition
from hdrs_hpc.broker.web import metrics, models, permissions, views
from hdrs_hpc.broker.web.answers import ENVELOPE
from hdrs_hpc.broker.web.dependencies import Asker, WebHere
from hdrs_hpc.broker.web.inputs import Version
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import NotFoundError, SiteError

router = APIRouter(tags=["broker"])
health = APIRouter(tags=["health"])


@router.get("/broker")
def broker(web: WebHere) -> models.Broker:
    """The broker's name and the digest of the trust root in force.  Compare it with what you got elsewhere."""
    with web.db.read() as tx:
        try:
            root = documents.current_root(tx)
        except NotFoundError:
            root = None
    return models.Broker(
        audience=web.settings.audience,
        version=__version__,
        trust_root=root.digest if root else None,
        trust_root_version=root.document.version if root else None,
        demo=root.document.demo if root else None,
    )


@router.get("/trust-root", responses=ENVELOPE)
def trust_root(web: WebHere) -> Response:
    """The signed trust root in force, exactly as it was accepted."""
    with web.db.read() as tx:
        return views.envelope(documents.current_root(tx).envelope.to_bytes())


@router.get("/trust-root/{version}", responses=ENVELOPE)
def trust_root_version(version: Version, web: WebHere) -> Response:
    """One version of it, so that a client can follow the succession from the one that it pinned."""
    with web.db.read() as tx:
        found = documents.root_of_version(tx, version)
    if found is None:
        raise NotFoundError("there is no trust root of that version", where=str(version))
    return views.envelope(found.raw)


@router.get("/status")
def status(web: WebHere, who: Asker) -> models.Status:
    """For admins and custodians: what is under way, and what waits for something outside."""
    if not permissions.may_see_broker(who):
        raise NotFoundError("there is nothing at this address")
    try:
        keyd = web.ask(messages.Status())
    except SiteError:
        keyd = None
    with web.db.read() as tx:
        return models.Status(
            audience=web.settings.audience,
            version=__version__,
            keyd=keyd,
            jobs=transition.count(tx, "job"),
            projects=transition.count(tx, "project"),
            alerts=[models.Alert(**vars(item)) for item in alerts.every(tx)],
            log_size=log.size(tx),
        )


@health.get("/healthz", response_class=PlainTextResponse, responses={503: {"description": "Not healthy."}})
def healthz(web: WebHere) -> Response:
    """200 if this process can read its database and the controller goes on; 503 and why if not.

    A cluster whose loop is stuck is told with 200: the others go on.
    """
    with web.db.read() as tx:
        log.latest_checkpoint(tx)
    controller = heartbeats.controller(web.home)
    if controller is None:
        return _health("the controller was never heard of", 503)
    if controller.stale:
        return _health(f"the controller was last heard of {controller.age_s:.0f} s ago", 503)
    stuck = sum(beat.stale for beat in heartbeats.clusters(web.home))
    return _health(f"degraded: the loops of {stuck} clusters are stuck" if stuck else "ok")


def _health(said: str, status: int = 200) -> Response:
    return PlainTextResponse(f"{said}\n", status_code=status)


@health.get("/metrics", response_class=PlainTextResponse)
def metrics_now(web: WebHere) -> Response:
    """Prometheus text format, version 0.0.4.  Counts only: no names of projects, people or data."""
    with web.db.read() as tx:
        text = metrics.text(metrics.Reading(tx, web.home, clock.now()))
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)
