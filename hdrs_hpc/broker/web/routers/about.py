"""Which broker this is, whom it believes, and whether it lives."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from sqlalchemy import Connection

from hdrs_hpc.broker.keyd import messages
from hdrs_hpc.broker.reading import broker as reading
from hdrs_hpc.broker.reading import models
from hdrs_hpc.broker.web.answers import ENVELOPE, envelope
from hdrs_hpc.broker.web.dependencies import Asker, WebHere
from hdrs_hpc.broker.web.inputs import Version
from hdrs_hpc.core.errors import SiteError

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


@health.get("/healthz", response_class=PlainTextResponse)
def healthz(web: WebHere) -> str:
    """200 if this process can read its database."""
    with web.db.read() as tx:
        reading.log_sizes(tx)
    return "ok\n"


@health.get("/metrics", response_class=PlainTextResponse)
def metrics(web: WebHere) -> Response:
    """Prometheus text format, version 0.0.4.  Counts only: no names of projects, people or data."""
    with web.db.read() as tx:
        text = _metrics(tx)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _metrics(tx: Connection) -> str:
    lines = []
    counted = reading.counts(tx)
    for life, plural in (("job", "jobs"), ("copy", "copies"), ("project", "projects")):
        lines += [
            f"# HELP hdrs_hpc_{plural} Number of them in each state.",
            f"# TYPE hdrs_hpc_{plural} gauge",
        ]
        lines += [f'hdrs_hpc_{plural}{{state="{state}"}} {n}' for state, n in counted[life].items()]
    by_code = reading.alerts_by_code(tx)
    lines += ["# HELP hdrs_hpc_alerts What waits for something outside.", "# TYPE hdrs_hpc_alerts gauge"]
    lines += [f'hdrs_hpc_alerts{{code="{code}"}} {n}' for code, n in sorted(by_code.items())]
    entries, signed = reading.log_sizes(tx)
    for name, meaning, value in (
        ("log_entries", "Entries of the audit log.", entries),
        ("log_signed_entries", "Entries under the newest signed checkpoint.", signed),
    ):
        lines += [
            f"# HELP hdrs_hpc_{name} {meaning}",
            f"# TYPE hdrs_hpc_{name} counter",
            f"hdrs_hpc_{name} {value}",
        ]
    return "\n".join(lines) + "\n"
