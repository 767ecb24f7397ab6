"""``hdrs-hpc login``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hdrs_hpc.cli import options, show

if TYPE_CHECKING:
    from hdrs_hpc.documents.trust import VerifiedRoot


@click.command()
@click.argument("url", required=False)
@options.key_option
@click.option("--root-digest", help="The trust root's digest, as you got it by another way.")
@click.option("--context", help="Name for this login on this machine.  [default: the broker's name]")
@click.option(
    "--ca", "ca_file", type=options.FILE, help="Certificate of the broker, where no authority vouches."
)
@options.as_json
def login(
    url: str | None,
    key: Path | None,
    root_digest: str | None,
    context: str | None,
    ca_file: Path | None,
    as_json: bool,
) -> None:
    """Log in to a broker for an hour, by signing its challenge with your SSH key.

    The first time you see the trust root's digest: compare it with what the custodian told you.  Later ones
    are followed only if the custodians of the one before signed them.  Without URL: log in once more.

    \b
    Example:
      hdrs-hpc login https://broker.example.ac.uk --key ~/.ssh/id_ed25519
    """
    from hdrs_hpc.client import login as logins

    if url is None:
        done = logins.again(key, context)
    else:
        done = logins.login(
            url,
            options.key_of(key),
            context=context,
            root_digest=root_digest,
            ca_file=ca_file,
            confirm=_confirm,
        )
    if as_json:
        show.emit_json(
            {
                "context": done.session.name,
                "person": done.person,
                "roles": list(done.roles),
                "expires": done.expires,
                "trust-root": done.root.digest,
                "trust-root-version": done.root.document.version,
                "demo": done.root.document.demo,
            }
        )
        return
    show.done(
        f"logged in to {done.session.name} as {done.person} ({', '.join(done.roles)}) until {done.expires}"
    )
    demo = "  DEMO: for trying out, never for patient data" if done.root.document.demo else ""
    click.echo(f"  trust root {done.root.digest} (version {done.root.document.version}){demo}")


def _confirm(root: VerifiedRoot) -> bool:
    custodians = ", ".join(root.document.people[name].name for name in root.document.having("custodian"))
    click.echo("This machine has not seen this broker before.  Its trust root:", err=True)
    show.facts(
        [
            ("broker", root.document.audience),
            ("digest", root.digest),
            ("version", root.document.version),
            ("custodians", custodians),
            ("signed by", ", ".join(root.people)),
            ("demo", "yes: for trying out, never for patient data" if root.document.demo else None),
        ],
        err=True,
    )
    return click.confirm("Is this the digest that you got by another way?", err=True)
