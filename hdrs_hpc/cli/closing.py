"""Freezing, closing and revoking: one signed closure, shown with what it will destroy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hdrs_hpc.cli import options, show, signing

_DONE = {
    "freeze": "{} is frozen for good: no new job, no key is given any more, running jobs are being cancelled",
    "close": "{} is closing: its keys are being destroyed; certificate follows (`hdrs-hpc project show {}`)",
    "revoke": "{} is revoked: its keys are being destroyed; certificate follows (`hdrs-hpc project show {}`)",
}


def close(
    name: str, action: str, reason: str, *, key: Path | None, yes: bool, context: str | None, as_json: bool
) -> None:
    """Sign and file a closure."""
    from hdrs_hpc.client import signatures
    from hdrs_hpc.core import clock, ids
    from hdrs_hpc.documents.kinds import KINDS

    session = options.session(context)
    if action == "freeze":
        click.echo(
            "A freeze can't be undone; running jobs are cancelled. Going on needs a new project.", err=True
        )
    else:
        _show_plan(session.api.get(f"/v1/projects/{name}/closing-plan"), err=True)
    kind = KINDS["closure"]
    envelope, _ = signatures.unsigned(
        kind,
        {
            "schema": kind.schema,
            "project": name,
            "action": action,
            "reason": reason,
            "nonce": ids.new_id(26),
            "at": clock.to_text(clock.now()),
        },
    )
    root = session.root.document
    signed = signing.sign_made(kind, envelope, key=options.key_of(key, context), root=root, yes=yes)
    out = Path(f"{name}.{action}.signed.json")
    signing.file_or_pass_on(
        kind, signed, session, out=out, as_json=as_json, done=_DONE[action].format(name, name)
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
        say(f"  {plan['artefacts-in-review']} artefacts in review, unless decided within {hours:g} hours")
    say("  the project's de-identification key and key-encryption key")
    say(click.style("It leaves:", bold=True))
    say(
        f"  {plan['released-artefacts']} released artefacts, the audit log, the signed documents, the certificate"
    )
