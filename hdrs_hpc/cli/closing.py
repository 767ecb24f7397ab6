"""Freezing, closing and revoking: one signed closure, shown with what it will destroy; and lifting a freeze."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdrs_hpc.cli import options, show, signing

if TYPE_CHECKING:
    from hdrs_hpc.client.pages.closure import ClosingPlan
    from hdrs_hpc.client.session import Session
    from hdrs_hpc.client.signatures import Count
    from hdrs_hpc.documents.envelope import Envelope
    from hdrs_hpc.documents.models.closure import Closure

_DONE = {
    "freeze": "{} is frozen: no new job, no key is given any more, running jobs are being cancelled",
    "unfreeze": "{} is no longer frozen by that closure; `hdrs-hpc project show {}` tells whether it goes on",
    "close": "{} is closing: its keys are being destroyed; certificate follows (`hdrs-hpc project show {}`)",
    "revoke": "{} is revoked: its keys are being destroyed; certificate follows (`hdrs-hpc project show {}`)",
}


def close(
    name: str, action: str, reason: str, *, how: options.Signing, context: str | None, as_json: bool
) -> None:
    """Sign and file a closure."""
    session = options.session(context)
    _require_open(session.api.get(f"/v1/projects/{name}"), action)
    _sign_and_send(session, name, {"action": action, "reason": reason}, how, context, as_json)


def _require_open(project: dict[str, Any], action: str) -> None:
    """Nobody signs what can change nothing any more."""
    from hdrs_hpc.core.errors import ConflictError

    name, state = project["name"], project["state"]
    if state == "CLOSED":
        raise ConflictError(
            f"the project is closed already, so there is nothing to {action}",
            where=name,
            remedy=f"`hdrs-hpc project certificate {name}` fetches the proof of what was destroyed.",
        )
    if state == "CLOSING" and action != "revoke":
        raise ConflictError(
            f"the project is closing already, so there is nothing to {action}",
            where=name,
            remedy=f"`hdrs-hpc project show {name}` tells how far it is.",
        )


def unfreeze(name: str, reason: str, *, how: options.Signing, context: str | None, as_json: bool) -> None:
    """Sign the lifting of the oldest freeze in force; it takes as many as a grant does."""
    from hdrs_hpc.core.errors import ConflictError

    session = options.session(context)
    project = session.api.get(f"/v1/projects/{name}")
    _require_open(project, "unfreeze")
    freezes = project["freezes"]
    if not freezes:
        raise ConflictError("the project is not frozen", where=name)
    asked = {"action": "unfreeze", "freeze": freezes[0], "reason": reason}
    _sign_and_send(session, name, asked, how, context, as_json)


def sign_further(file: Path, *, how: options.Signing, context: str | None, as_json: bool) -> None:
    """Add a signature to a closure that somebody began, and send it once enough have signed."""
    from hdrs_hpc.client import signatures
    from hdrs_hpc.documents import kinds

    session = options.session(context)
    envelope, closure = signatures.read(file, kinds.CLOSURE)
    _send(session, envelope, closure, file, how, context, as_json)


def _sign_and_send(
    session: Session,
    name: str,
    asked: dict[str, Any],
    how: options.Signing,
    context: str | None,
    as_json: bool,
) -> None:
    from hdrs_hpc.client import signatures
    from hdrs_hpc.core import clock, ids
    from hdrs_hpc.documents import kinds

    kind = kinds.CLOSURE
    value = {"schema": kind.schema, "project": name, "nonce": ids.new_id(26)} | asked
    envelope, closure = signatures.unsigned(kind, value | {"at": clock.to_text(clock.now())})
    out = Path(f"{name}.{closure.action}.signed.json")
    _send(session, envelope, closure, out, how, context, as_json)


def _send(
    session: Session,
    envelope: Envelope,
    closure: Closure,
    out: Path,
    how: options.Signing,
    context: str | None,
    as_json: bool,
) -> None:
    from hdrs_hpc.client import consent
    from hdrs_hpc.client.pages import closure as pages
    from hdrs_hpc.documents import kinds

    kind, root, name = kinds.CLOSURE, session.root.document, closure.project
    plan = _plan(session, name) if closure.action in ("close", "revoke") else None
    page = pages.page(closure, plan)
    signed = signing.sign_made(kind, envelope, page, how, root=root, context=context)
    further: tuple[Count, ...] = ()
    if closure.action == "unfreeze":
        further = consent.of_unfreeze(session.api.get(f"/v1/projects/{name}"), root, signed)
    signing.file_or_pass_on(
        kind,
        signed,
        session,
        out=out,
        as_json=as_json,
        done=_DONE[closure.action].format(name, name),
        further=further,
    )


def show_plan(name: str, *, context: str | None, as_json: bool) -> None:
    from hdrs_hpc.client.pages.closure import ClosingPlan, destroyed

    told = options.session(context).api.get(f"/v1/projects/{name}/closing-plan")
    if as_json:
        show.emit_json(told)
    elif told["state"] == "CLOSED":
        click.echo(f"{name} is closed: nothing is left to destroy.")
    else:
        show.sections(destroyed(ClosingPlan.from_answer(told)))


def _plan(session: Session, name: str) -> ClosingPlan:
    from hdrs_hpc.client.pages.closure import ClosingPlan

    return ClosingPlan.from_answer(session.api.get(f"/v1/projects/{name}/closing-plan"))
