"""``hdrs-hpc job``: follow, cancel, fetch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hdrs_hpc.cli import options, show

_JOB = click.argument("job_id", metavar="JOB")


@click.group()
def job() -> None:
    """Follow jobs, cancel them, fetch what was released.  The beginning of a job's id is enough.

    \b
    Example:
      hdrs-hpc job show 7K3
    """


@job.command("list")
@click.option("--project", help="Only this project's.")
@click.option("--state", help="Only those in this state, such as RUNNING.")
@options.context
@options.as_json
def list_(project: str | None, state: str | None, context: str | None, as_json: bool) -> None:
    """List the jobs of your projects, newest last.

    \b
    Example:
      hdrs-hpc job list --project lung-fm
    """
    from hdrs_hpc.client import jobs

    found = jobs.every(options.session(context), project, state.upper() if state else None)
    if as_json:
        show.emit_json(found)
        return
    rows = [
        (
            j["id"],
            j["project"],
            j["name"],
            " ".join(filter(None, (j["state"], j["outcome"]))),
            j["received-at"],
            j["reason"] or j["waits-for"],
        )
        for j in found
    ]
    columns = ("job", "project", "name", "state", "received", "why")
    show.table(columns, rows, empty="No job yet.", drop=("received", "project", "name"))


@job.command("show")
@_JOB
@options.context
@options.as_json
def show_(job_id: str, context: str | None, as_json: bool) -> None:
    """Show a job: where it is, the whole decision, attempts, outputs, and what it waits for.

    \b
    Example:
      hdrs-hpc job show 7K3QW2
    """
    from hdrs_hpc.client import jobs

    found = jobs.one(options.session(context), job_id)
    if as_json:
        show.emit_json(found)
    else:
        _page(found)


@job.command()
@_JOB
@click.option("--to-end", is_flag=True, help="Follow it through the review, until nothing of it is left.")
@options.context
@options.as_json
@click.pass_context
def watch(ctx: click.Context, job_id: str, to_end: bool, context: str | None, as_json: bool) -> None:
    """Follow a job until it ends or waits for the checkers.

    Exit code 0: succeeded or in review.  4: refused.  6: your code failed.  7: a node or site failed.

    \b
    Example:
      hdrs-hpc job watch 7K3QW2
    """
    from hdrs_hpc.cli import watching
    from hdrs_hpc.client import jobs

    session = options.session(context)
    whole = jobs.one(session, job_id)["id"]
    until = ("PURGED",) if to_end else ("IN_REVIEW", "PURGED")
    ctx.exit(watching.watch(session, whole, as_json=as_json, until=until))


@job.command()
@_JOB
@options.context
@options.as_json
def cancel(job_id: str, context: str | None, as_json: bool) -> None:
    """Ask for a job's end; it counts as cancelled once the cluster says so and all of it is purged.

    \b
    Example:
      hdrs-hpc job cancel 7K3QW2
    """
    from hdrs_hpc.client import jobs

    found = jobs.cancel(options.session(context), job_id)
    if as_json:
        show.emit_json(found)
    else:
        show.done(f"asked for the end of job {found['id']}, now {found['state']}")


@job.command()
@_JOB
@click.option("--to", "folder", type=options.FOLDER, help="Folder for the files.  [default: released-JOB]")
@click.option("--only", help="Only this artefact.")
@options.context
@options.as_json
def fetch(job_id: str, folder: Path | None, only: str | None, context: str | None, as_json: bool) -> None:
    """Fetch the released artefacts, each verified against its signed release record, which comes along.

    \b
    Example:
      hdrs-hpc job fetch 7K3QW2 --to released
    """
    from hdrs_hpc.client import jobs
    from hdrs_hpc.core.errors import NotFoundError

    session = options.session(context)
    found = jobs.one(session, job_id)
    fetched = []
    for item in jobs.fetch(session, found["id"], folder or Path(f"released-{found['id']}"), only):
        fetched.append(item.as_dict())
        if not as_json:
            show.done(f"{item.path}  {show.size(item.size)}  released by {', '.join(item.reviewers)}")
    if not fetched:
        raise NotFoundError(
            "nothing of this job is released",
            where=found["id"],
            remedy=f"`hdrs-hpc job show {found['id']}` tells where its outputs are.",
        )
    if as_json:
        show.emit_json(fetched)


def _page(found: dict[str, Any]) -> None:
    from hdrs_hpc.cli import watching

    show.facts(
        [
            ("job", f"{found['id']}  {found['name']} in {found['project']}, by {found['submitter']}"),
            ("purpose", found["purpose"]),
            ("state", " ".join(filter(None, (found["state"], found["outcome"])))),
            ("reason", found["reason"]),
            ("detail", watching.crash(found["detail"]) if found["detail"] else None),
            ("remedy", watching.mend(found)),
            ("waits for", found["waits-for"]),
            ("cluster", found["cluster"]),
            ("since", f"{found['changed-at']} (received {found['received-at']})"),
            ("copies", ", ".join(f"{name} {state}" for name, state in found["copies"].items()) or None),
            (
                "reviews",
                f"{found['reviews-done']} of {found['reviews-needed']}" if found["artefacts"] else None,
            ),
        ]
    )
    for attempt in found["attempts"]:
        progress = attempt["progress"] or {}
        items = (
            f", {progress['items-read']}/{progress['items-total']} items"
            if progress.get("items-total")
            else ""
        )
        ended = f", ended {attempt['ended-at']}" if attempt["ended-at"] else ""
        told = f"{watching.attempt_state(found, attempt)}{items}{ended}"
        click.echo(f"  attempt {attempt['number']}: {attempt['cluster-job'] or '-'} {told}")
    if found["artefacts"]:
        click.echo()
        rows = [
            (a["name"], a["class"], a["state"], a["code"], show.size(a["size"]), show.short(a["content"]))
            for a in found["artefacts"]
        ]
        show.table(("output", "class", "state", "code", "size", "content"), rows, empty="")
    decision = found["decision"]
    if decision:
        click.echo()
        for rule in decision["rules"]:
            mark = show.DONE if rule["ok"] else click.style("✗", fg="red")
            click.echo(f"{mark} {rule['rule']}: {rule['message']}")
            if not rule["ok"]:
                click.echo(f"    {rule['code']} → {rule['remedy']}")
