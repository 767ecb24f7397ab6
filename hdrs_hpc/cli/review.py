"""``hdrs-hpc review``: see an artefact, what the rules said, what was repaired; decide in a minute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdrs_hpc.cli import options, show

if TYPE_CHECKING:
    from hdrs_hpc.client.reviews import Artefact
    from hdrs_hpc.client.session import Session

_PREVIEW_LINES = 40


@click.group()
def review() -> None:
    """Check outputs and decide what leaves.  Other checkers' verdicts stay hidden until all have decided.

    \b
    Example:
      hdrs-hpc review list
      hdrs-hpc review open 7K3QW2/cohort
      hdrs-hpc review decide 7K3QW2 --approve cohort --refuse spacing --reason "no small counts; a scan shows"
    """


@review.command("list")
@options.context
@options.as_json
def list_(context: str | None, as_json: bool) -> None:
    """List the jobs that wait for checkers and that you may check.

    \b
    Example:
      hdrs-hpc review list
    """
    from hdrs_hpc.client import reviews

    found = reviews.every(options.session(context))
    if as_json:
        show.emit_json(found)
        return
    rows = [
        (
            r["job"],
            r["project"],
            r["name"],
            r["artefacts"],
            "decided" if r["decided-by-you"] else "waits for you",
            f"{r['reviews-done']} of {r['reviews-needed']}",
            r["since"],
        )
        for r in found
    ]
    columns = ("job", "project", "name", "artefacts", "you", "decided", "since")
    show.table(columns, rows, empty="Nothing waits for you.", drop=("since", "project"))


@review.command("show")
@click.argument("job_id", metavar="JOB")
@options.context
@options.as_json
def show_(job_id: str, context: str | None, as_json: bool) -> None:
    """Show every artefact of a job with what its check found and repaired.

    \b
    Example:
      hdrs-hpc review show 7K3QW2
    """
    from hdrs_hpc.client import reviews

    found = reviews.one(options.session(context), job_id)
    if as_json:
        show.emit_json(found)
        return
    show.facts(
        [
            ("job", f"{found['job']}  {found['name']} in {found['project']}: {found['title']}"),
            ("purpose", found["purpose"]),
            ("decided", f"{found['reviews-done']} of {found['reviews-needed']}"),
        ]
    )
    for item in found["outputs"]:
        click.echo()
        mark = click.style("✗ refused", fg="red") if item["refused"] else show.size(item["size"])
        click.echo(f"{click.style(item['name'], bold=True)}  {item['class']}  {mark}")
        for sentence in item["report"].get("sentences", ()):
            click.echo(f"  {sentence}")
    for decision in found["decisions"]:
        click.echo(
            f"\n{decision['person']}: {decision['verdict']} {decision['artefact']} ({decision['reason']})"
        )


@review.command("open")
@click.argument("artefact", metavar="JOB/ARTEFACT")
@click.option("--to", "folder", type=options.FOLDER, help="Folder for the file.  [default: review-JOB]")
@options.context
@options.as_json
def open_(artefact: str, folder: Path | None, context: str | None, as_json: bool) -> None:
    """Fetch one artefact, exactly the bytes that would leave; show it right here where it is text.

    The job may be left out where only one of yours has an artefact of that name.

    \b
    Example:
      hdrs-hpc review open 7K3QW2/cohort
    """
    from hdrs_hpc.catalogue import outputs
    from hdrs_hpc.client import reviews

    session = options.session(context)
    found, name = _find(session, artefact)
    item = reviews.open_artefact(session, found, name)
    suffix = next(iter(outputs.BY_NAME[item.cls].suffixes), "")
    target = (folder or Path(f"review-{found['job']}")) / f"{name}{suffix}"
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    target.write_bytes(item.content)
    if as_json:
        told = {"job": found["job"], "artefact": name, "file": str(target), "rebuilt": item.rebuilt}
        show.emit_json({**told, "report-digest": item.report_digest, "report": item.report})
        return
    show.done(f"wrote {target}, {show.size(len(item.content))}, {item.rebuilt}")
    for sentence in item.report.get("sentences", ()):
        click.echo(f"  {sentence}")
    _preview(item)


@review.command()
@click.argument("job_id", metavar="JOB")
@click.option("--approve", multiple=True, metavar="ARTEFACT", help="It may leave.  `all` for every one.")
@click.option("--refuse", multiple=True, metavar="ARTEFACT", help="It stays in.")
@click.option(
    "--return",
    "return_",
    multiple=True,
    metavar="ARTEFACT",
    help="It stays in; the reason says what to mend.",
)
@click.option("--reason", required=True, help="Why; it is signed, and the researcher sees it.")
@options.signing
@options.context
@options.as_json
def decide(
    job_id: str,
    approve: tuple[str, ...],
    refuse: tuple[str, ...],
    return_: tuple[str, ...],
    reason: str,
    how: options.Signing,
    context: str | None,
    as_json: bool,
) -> None:
    """Sign and send your verdict on every artefact of a job.  It is final.

    Each artefact is fetched and compared with the digest that you sign.

    \b
    Example:
      hdrs-hpc review decide 7K3QW2 --approve cohort --refuse spacing --reason "no small counts; a scan shows"
    """
    from hdrs_hpc.cli import signing
    from hdrs_hpc.client import filing, reviews
    from hdrs_hpc.client.pages import output_decision
    from hdrs_hpc.documents import kinds
    from hdrs_hpc.documents.envelope import Envelope

    session = options.session(context)
    found = reviews.one(session, job_id)
    verdicts = _verdicts(found, {"approve": approve, "refuse": refuse, "return": return_})
    document, review = reviews.decision(session, found, verdicts, reason)
    kind = kinds.OUTPUT_DECISION
    envelope = Envelope(kind.payload_type, document.to_payload())
    page, root = output_decision.page(document, review), session.root.document
    signed = signing.sign_made(kind, envelope, page, how, root=root, context=context)
    signing.told(filing.file(session, signed), f"decided on job {found['job']}", as_json)


def _verdicts(found: dict[str, Any], given: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Artefact → verdict; naming one twice is a slip that must not decide anything."""
    waiting = [item["name"] for item in found["outputs"] if not item["refused"]]
    made: dict[str, str] = {}
    for verdict, names in given.items():
        for name in waiting if names == ("all",) else names:
            if name in made:
                raise click.UsageError(f"{name} is given two verdicts.")
            made[name] = verdict
    return made


def _find(session: Session, artefact: str) -> tuple[dict[str, Any], str]:
    from hdrs_hpc.client import reviews
    from hdrs_hpc.core.errors import NotFoundError

    job_id, slash, name = artefact.partition("/")
    if slash:
        return reviews.one(session, job_id), name
    found = [reviews.one(session, line["job"]) for line in reviews.every(session)]
    having = [item for item in found if any(output["name"] == artefact for output in item["outputs"])]
    if len(having) == 1:
        return having[0], artefact
    if not having:
        raise NotFoundError(
            "no job that waits for you has an artefact of that name",
            where=artefact,
            remedy="`hdrs-hpc review list` shows the jobs, `hdrs-hpc review show JOB` their artefacts.",
        )
    jobs = ", ".join(f"{item['job']}/{artefact}" for item in having)
    raise click.UsageError(f"Several jobs have one of that name: {jobs}.")


def _preview(item: Artefact) -> None:
    """The first lines of a text artefact, control characters made visible: a terminal must not obey it."""
    from hdrs_hpc.catalogue import outputs

    if outputs.BY_NAME[item.cls].preview != "text":
        return
    lines = item.content.decode("utf-8", errors="replace").splitlines()
    click.echo()
    for line in lines[:_PREVIEW_LINES]:
        click.echo(
            "  " + "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
        )
    if len(lines) > _PREVIEW_LINES:
        click.echo(f"  … {len(lines) - _PREVIEW_LINES} more lines in the file")
