"""Freezing, closing and revoking: one signed closure, shown with what it will destroy; and lifting a freeze."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdrs_hpc.cli import options, show, signing

if TYPE_CHECKING:
    from hdrs_hpc.client.session import Session
    from hdrs_hpc.client.signatures import Count
    from hdrs_hpc.documents.envelope import Envelope

_DONE = {
    "freeze": "{} is frozen: no new job, no key is given any more, running jobs are being cancelled",
    "unfreeze": "{} is no longer frozen by that closure; `hdrs-hpc project show {}` tells whether it goes on",
    "close": "{} is closing: its keys are being destroyed; certificate follows (`hdrs-hpc project show {}`)",
    "revoke": "{} is revoked: its keys are being destroyed; certificate follows (`hdrs-hpc project show {}`)",
}


def close(
    name: str, action: str, reason: str, *, key: Path | None, yes: bool, context: str | None, as_json: bool
) -> None:
    """Sign and file a closure."""
    session = options.session(context)
    _require_open(session.api.get(f"/v1/projects/{name}"), action)
    if action == "freeze":
        click.echo("Running jobs are cancelled. `hdrs-hpc project unfreeze` lifts a freeze.", err=True)
    else:
        _show_plan(session.api.get(f"/v1/projects/{name}/closing-plan"), err=True)
    _sign_and_send(session, name, {"action": action, "reason": reason}, key, yes, context, as_json)


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


def unfreeze(
    name: str, reason: str, *, key: Path | None, yes: bool, context: str | None, as_json: bool
) -> None:
    """Sign the lifting of the oldest freeze in force; it takes as many as a grant does."""
    from hdrs_hpc.core.errors import ConflictError

    session = options.session(context)
    project = session.api.get(f"/v1/projects/{name}")
    _require_open(project, "unfreeze")
    freezes = project["freezes"]
    if not freezes:
        raise ConflictError("the project is not frozen", where=name)
    asked = {"action": "unfreeze", "freeze": freezes[0], "reason": reason}
    _sign_and_send(session, name, asked, key, yes, context, as_json)


def sign_further(file: Path, *, key: Path | None, yes: bool, context: str | None, as_json: bool) -> None:
    """Add a signature to a closure that somebody began, and send it once enough have signed."""
    from hdrs_hpc.client import signatures
    from hdrs_hpc.documents.kinds import KINDS
    from hdrs_hpc.documents.models.closure import Closure

    session = options.session(context)
    envelope, closure = signatures.read(file, KINDS["closure"])
    assert isinstance(closure, Closure)
    _send(session, envelope, closure.project, closure.action, file, key, yes, context, as_json)


def _sign_and_send(
    session: Session,
    name: str,
    asked: dict[str, Any],
    key: Path | None,
    yes: bool,
    context: str | None,
    as_json: bool,
) -> None:
    from hdrs_hpc.client import signatures
    from hdrs_hpc.core import clock, ids
    from hdrs_hpc.documents.kinds import KINDS

    kind = KINDS["closure"]
    value = {"schema": kind.schema, "project": name, "nonce": ids.new_id(26)} | asked
    envelope, _ = signatures.unsigned(kind, value | {"at": clock.to_text(clock.now())})
    out = Path(f"{name}.{asked['action']}.signed.json")
    _send(session, envelope, name, asked["action"], out, key, yes, context, as_json)


def _send(
    session: Session,
    envelope: Envelope,
    name: str,
    action: str,
    out: Path,
    key: Path | None,
    yes: bool,
    context: str | None,
    as_json: bool,
) -> None:
    from hdrs_hpc.client import consent
    from hdrs_hpc.documents.kinds import KINDS

    kind, root = KINDS["closure"], session.root.document
    signed = signing.sign_made(kind, envelope, key=options.key_of(key, context), root=root, yes=yes)
    further: tuple[Count, ...] = ()
    if action == "unfreeze":
        further = consent.of_unfreeze(session.api.get(f"/v1/projects/{name}"), root, signed)
    signing.file_or_pass_on(
        kind,
        signed,
        session,
        out=out,
        as_json=as_json,
        done=_DONE[action].format(name, name),
        further=further,
    )


def show_plan(name: str, *, context: str | None, as_json: bool) -> None:
    plan = options.session(context).api.get(f"/v1/projects/{name}/closing-plan")
    if as_json:
        show.emit_json(plan)
    else:
        _show_plan(plan, err=False)


def _show_plan(plan: dict[str, Any], *, err: bool) -> None:
    def say(text: str) -> None:
        click.echo(text, err=err)

    if plan["state"] == "CLOSED":
        say(f"{plan['project']} is closed: nothing is left to destroy.")
        return
    say(click.style(f"Closing {plan['project']} destroys:", bold=True))
    for copy in plan["copies"]:
        objects = (
            f"{copy['objects']} sealed objects, {show.size(copy['sealed-bytes'])}"
            if copy["objects"]
            else "unfinished"
        )
        say(
            f"  copy {copy['copy']} of {copy['dataset']} on {copy['cluster']}: its key at once, then {objects}"
        )
    for job in plan["jobs"]:
        say(f"  job {job['job']} ({job['name']}), now {job['state']}: stopped and purged")
    if not plan["copies"] and not plan["jobs"]:
        say("  nothing that still lives")
    if plan["artefacts-in-review"]:
        hours = plan["review-grace-s"] / 3600
        waiting = show.count(plan["artefacts-in-review"], "artefact")
        say(f"  {waiting} in review, unless decided within {hours:g} hours")
    say("  the project's de-identification key and key-encryption key")
    say(click.style("It leaves:", bold=True))
    released = show.count(plan["released-artefacts"], "released artefact")
    say(f"  {released}, the audit log, the signed documents, the certificate")
