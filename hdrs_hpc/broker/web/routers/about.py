"""Which broker this is, whom it believes, and whether it lives."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from hdrs_hpc.broker import heartbeats
from hdrs_hpc.broker.keyd import messages
from hdrs_hpc.broker.reading import broker as reading
from hdrs_hpc.broker.reading import metrics, models
from hdrs_hpc.broker.web.answers import ENVELOPE, envelope
from hdrs_hpc.broker.web.dependencies import Address, Asker, WebHere
from hdrs_hpc.broker.web.inputs import Version
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import NotFoundError, SiteError

router = APIRouter(tags=["broker"])
health = APIRouter(tags=["health"])


@router.get("/broker")
def broker(web: WebHere) -> models.Broker:
    """The broker's name and the digest of the trust root in force.  Compare it with what you got elsewhere."""
    with web.db.read() as tx:
        return reading.identity(tx, web.settings.audience)


@router.get("/trust-root", responses=ENVELOPE)
def trust_root(web: WebHere) -> Response:
    """The signed trust root in force, exactly as it was accepted."""
    with web.db.read() as tx:
        return envelope(reading.root_envelope(tx))


@router.get("/trust-root/{version}", responses=ENVELOPE)
def trust_root_version(version: Version, web: WebHere) -> Response:
    """One version of it, so that a client can follow the succession from the one that it pinned."""
    with web.db.read() as tx:
        return envelope(reading.root_envelope(tx, version))


@router.get("/status")
def status(web: WebHere, who: Asker) -> models.Status:
    """For admins and custodians: what is under way, and what waits for something outside."""
    reading.require_may_see(who)
    try:
        keyd = web.ask(messages.Status())
    except SiteError:
        keyd = None
    with web.db.read() as tx:
        return reading.status(tx, web.settings.audience, keyd)


@health.get("/healthz", response_class=PlainTextResponse, responses={503: {"description": "Not healthy."}})
def healthz(web: WebHere) -> Response:
    """200 if this process can read its database, and controller and keyd go on; 503 and why if not.

    A cluster whose loop is stuck or fails is told with 200: the others go on.
    """
    with web.db.read() as tx:
        reading.log_sizes(tx)
    controller = heartbeats.controller(web.home)
    if controller is None:
        return _health("the controller was never heard of", 503)
    if controller.stale:
        doing = f", in {controller.step}" if controller.step else ""
        return _health(f"the controller was last heard of {controller.age_s:.0f} s ago{doing}", 503)
    if controller.failures:
        return _health(f"the controller failed {controller.failures} times and tries again", 503)
    keyd = heartbeats.keyd(web.home)
    if keyd is None or keyd.stale:
        said = f"was last heard of {keyd.age_s:.0f} s ago" if keyd else "was never heard of"
        return _health(f"keyd {said}", 503)
    unwell = sum(not beat.well for beat in heartbeats.clusters(web.home))
    return _health(f"degraded: the loops of {unwell} clusters are stuck or fail" if unwell else "ok")


def _health(said: str, status: int = 200) -> Response:
    return PlainTextResponse(f"{said}\n", status_code=status)


@health.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={404: {"description": "The address is not one of `monitoring`."}},
)
def metrics_now(web: WebHere, address: Address, request: Request) -> Response:
    """Prometheus text format, version 0.0.4, for the addresses under ``monitoring`` in broker.toml.

    Names of clusters, reason codes and counts: no names of projects, people or data.
    """
    # Behind a proxy that the operator did not name everybody seems to come from the proxy.
    hidden = "X-Forwarded-For" in request.headers and not web.settings.trusted_proxies
    if hidden or address not in web.settings.monitoring:
        raise NotFoundError("there is nothing at this address")
    with web.db.read() as tx:
        text = metrics.text(metrics.Reading(tx, web.home, clock.now()))
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)
