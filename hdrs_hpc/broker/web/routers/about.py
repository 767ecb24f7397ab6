"""Which broker this is, whom it believes, and whether it lives."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from sqlalchemy import Connection

from hdrs_hpc import __version__
from hdrs_hpc.broker.keyd import messages
from hdrs_hpc.broker.store import alerts, documents, log, transition
from hdrs_hpc.broker.web import models, permissions, views
from hdrs_hpc.broker.web.answers import ENVELOPE
from hdrs_hpc.broker.web.dependencies import Asker, Web, WebHere
from hdrs_hpc.broker.web.inputs import Version
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


@health.get("/healthz", response_class=PlainTextResponse)
def healthz(web: WebHere) -> str:
    """200 if this process can read its database."""
    with web.db.read() as tx:
        log.latest_checkpoint(tx)
    return "ok\n"


@health.get("/metrics", response_class=PlainTextResponse)
def metrics(web: WebHere) -> Response:
    """Prometheus text format, version 0.0.4.  Counts only: no names of projects, people or data."""
    with web.db.read() as tx:
        text = _metrics(web, tx)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _metrics(web: Web, tx: Connection) -> str:
    lines = []
    for life, plural in (("job", "jobs"), ("copy", "copies"), ("project", "projects")):
        lines += [
            f"# HELP hdrs_hpc_{plural} Number of them in each state.",
            f"# TYPE hdrs_hpc_{plural} gauge",
        ]
        lines += [
            f'hdrs_hpc_{plural}{{state="{state}"}} {n}' for state, n in transition.count(tx, life).items()
        ]
    by_code: dict[str, int] = {}
    for alert in alerts.every(tx):
        by_code[alert.code] = by_code.get(alert.code, 0) + 1
    lines += ["# HELP hdrs_hpc_alerts What waits for something outside.", "# TYPE hdrs_hpc_alerts gauge"]
    lines += [f'hdrs_hpc_alerts{{code="{code}"}} {n}' for code, n in sorted(by_code.items())]
    latest = log.latest_checkpoint(tx)
    for name, meaning, value in (
        ("log_entries", "Entries of the audit log.", log.size(tx)),
        ("log_signed_entries", "Entries under the newest signed checkpoint.", latest[0] if latest else 0),
    ):
        lines += [
            f"# HELP hdrs_hpc_{name} {meaning}",
            f"# TYPE hdrs_hpc_{name} counter",
            f"hdrs_hpc_{name} {value}",
        ]
    return "\n".join(lines) + "\n"
