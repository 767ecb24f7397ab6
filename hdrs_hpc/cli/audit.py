"""``hdrs-hpc audit``: verify and read an exported audit log, offline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hdrs_hpc.audit.entries import Entry

_FOLDER = click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


@click.group()
def audit() -> None:
    """Fetch, verify and read the audit log; only `fetch` asks a broker.

    Example: hdrs-hpc audit verify demo-site/audit --trust demo-site/trust-root.json
    """


@audit.command()
@_FOLDER
@click.option("--trust", type=_FILE, required=True, help="The broker's trust root.")
@click.option("--root-digest", help="The trust root's digest, as you got it by another way.")
@click.option(
    "--checkpoint",
    "checkpoints",
    type=_FILE,
    multiple=True,
    help="A checkpoint you got earlier, which the log must extend; may be given several times.",
)
@_JSON
def verify(
    folder: Path, trust: Path, root_digest: str | None, checkpoints: tuple[Path, ...], as_json: bool
) -> None:
    """Verify every entry, signature, checkpoint and document, and that the history is a possible one.

    Exit code 0: all holds. 3: something is altered or malformed. 4: not signed by the right people.

    Example: hdrs-hpc audit verify demo-site/audit --trust demo-site/trust-root.json
    """
    from hdrs_hpc.audit.verify import verify_dir

    held = [path.read_bytes() for path in checkpoints]
    report = verify_dir(folder, trust.read_bytes(), root_digest, held=held)
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2, ensure_ascii=False))
    else:
        from hdrs_hpc.cli import reportview

        reportview.show(report)


@audit.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--context", help="Which login to use, where you have several.")
def fetch(folder: Path, context: str | None) -> None:
    """Fetch the log of the broker that you are logged in to (custodians and admins).

    It is held against the checkpoint that you got before: a log that was changed meanwhile raises an alarm.

    Example: hdrs-hpc audit fetch audit && hdrs-hpc audit verify audit --trust trust-root.json
    """
    from hdrs_hpc.client import auditlog
    from hdrs_hpc.client.session import Session

    count = auditlog.fetch(Session.current(context), folder)
    click.echo(f"{count} entries in {folder}")


@audit.command()
@_FOLDER
@click.option("--project", help="Only what is about this project.")
@click.option("--job", help="Only what is about this job.")
@click.option("--event", help="Only this event.")
@_JSON
def show(folder: Path, project: str | None, job: str | None, event: str | None, as_json: bool) -> None:
    """List the entries as they stand, one a line, without judging them; `audit verify` does that.

    Lines are cut to the terminal; --json has the whole.

    Example: hdrs-hpc audit show demo-site/audit --project lung-demo
    """
    from hdrs_hpc.audit.entries import Entry
    from hdrs_hpc.audit.export import read_export

    wanted = {key: value for key, value in (("project", project), ("job", job)) if value is not None}
    entries = [Entry.from_bytes(line) for line in read_export(folder).lines]
    entries = [
        entry
        for entry in entries
        if (event is None or entry.event == event) and wanted.items() <= entry.subject.items()
    ]
    if as_json:
        click.echo(json.dumps([json.loads(entry.to_bytes()) for entry in entries], indent=2))
        return
    width = shutil.get_terminal_size((110, 24)).columns
    for entry in entries:
        click.echo(_line(entry, width))


def _line(entry: Entry, width: int) -> str:
    """Number, time, event, what it is about, then as much of the detail as there is room for."""
    subject = sorted(entry.subject.items(), key=lambda pair: pair[0] != "project")
    about = " ".join(_cut(value, 12) for _, value in subject)
    told = {key: value for key, value in entry.detail.items() if key != "envelope"}
    if not entry.actor.startswith("broker/"):
        told = {"by": entry.actor, **told}
    detail = " ".join(f"{key}={_short(value)}" for key, value in told.items())
    return _cut(f"{entry.seq:>5} {entry.at} {entry.event:<20} {_cut(about, 26):<26} {detail}", max(60, width))


def _short(value: object) -> str:
    """A digest as people compare it; other values as they are."""
    if isinstance(value, list):
        return ",".join(_short(item) for item in value)
    text = str(value)
    return f"{text[:15]}…" if text.startswith("sha256:") else text


def _cut(text: str, length: int) -> str:
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"
