"""``hdrs-hpc certificate``: verify and read a certificate of destruction, offline."""

from __future__ import annotations

import json
from pathlib import Path

import click

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


@click.group()
def certificate() -> None:
    """Verify and read a certificate of destruction; nothing is asked of any broker.

    Example: hdrs-hpc certificate verify demo-site/certificate.json --trust demo-site/trust-root.json
    """


@certificate.command()
@click.argument("file", type=_FILE)
@click.option("--trust", type=_FILE, required=True, help="The broker's trust root.")
@click.option("--root-digest", help="The trust root's digest, as you got it by another way.")
@click.option(
    "--audit",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The exported audit log, to check that nothing was left out.",
)
@_JSON
def verify(file: Path, trust: Path, root_digest: str | None, audit: Path | None, as_json: bool) -> None:
    """Verify signature, completeness and, with the log, that nothing was left out; say what is not proven.

    Exit code 0: all holds. 3: altered or incomplete. 4: not by the right broker, or contradicting the log.

    Example: hdrs-hpc certificate verify demo-site/certificate.json --trust demo-site/trust-root.json
    """
    from hdrs_hpc.audit.certificate import verify_certificate

    report = verify_certificate(file.read_bytes(), trust.read_bytes(), root_digest, audit=audit)
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2, ensure_ascii=False))
    else:
        from hdrs_hpc.cli import reportview

        reportview.show(report)


@certificate.command()
@click.argument("file", type=_FILE)
@_JSON
def show(file: Path, as_json: bool) -> None:
    """Show what a certificate says, without judging it; `certificate verify` does that.

    Example: hdrs-hpc certificate show demo-site/certificate.json
    """
    from hdrs_hpc.documents.envelope import Envelope
    from hdrs_hpc.documents.models.certificate import Certificate

    payload = Envelope.parse(file.read_bytes()).payload
    document = Certificate.from_payload(payload)
    if as_json:
        click.echo(json.dumps(json.loads(payload), indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    console.print(f"Certificate of {document.project}, {document.assurance}, not verified here", markup=False)
    places = Table(
        "place", "found", "looked after", "things", "bytes", "what was done", box=None, pad_edge=False
    )
    for column in places.columns:
        column.no_wrap = True
    for row in document.places:
        verified = "yes" if row.verified else "not checked"
        counted = ("not counted" if number is None else str(number) for number in (row.count, row.bytes))
        places.add_row(row.place, row.result, verified, *counted, row.how)
    console.print(places)
    for item in document.checks:
        console.print(f"{item.check}: {item.result}, {item.detail}", markup=False)
    for text in document.cannot_prove:
        console.print(f"can not prove: {text}", markup=False)
