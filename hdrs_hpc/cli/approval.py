"""``hdrs-hpc approval``: a named reviewer approves a researcher's code, by the digest of its bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hdrs_hpc.cli import options, show
from hdrs_hpc.cli.bundle import read_sources, sources

if TYPE_CHECKING:
    from hdrs_hpc.client.bundlelock import Locked
    from hdrs_hpc.client.resolving import Sources


@click.group()
def approval() -> None:
    """Approve a researcher's code, by its digest.

    \b
    Example:
      hdrs-hpc approval digest ./cohort
      hdrs-hpc approval give ./cohort --project lung-fm --statement "read in full; writes aggregates only"
    """


@approval.command()
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@options.as_json
def digest(bundle: Path, as_json: bool) -> None:
    """Tell the digest that a folder of code has as a bundle; it is the same on every machine.

    \b
    Example:
      hdrs-hpc approval digest ./cohort
    """
    found, files, _ = _bundle(bundle)
    if as_json:
        show.emit_json({"digest": found, "files": files})
    else:
        click.echo(found)
        for name in files:
            click.echo(f"  {name}", err=True)


@approval.command()
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.option("--project", required=True, help="For which project it is approved.")
@click.option("--statement", required=True, help="What you checked, in a sentence; it is signed and kept.")
@sources
@options.signing
@options.context
@options.as_json
def give(
    bundle: Path,
    project: str,
    statement: str,
    index_url: str | None,
    find_links: tuple[str, ...],
    no_index: bool,
    how: options.Signing,
    context: str | None,
    as_json: bool,
) -> None:
    """Sign and send your approval of the code in a folder, after you have read it.

    Packages that the code brings along are fetched anew onto your machine first, and held to the hashes of its
    requirements.lock.

    \b
    Example:
      hdrs-hpc approval give ./cohort --project lung-fm --statement "read in full; writes aggregates only"
    """
    from hdrs_hpc.cli import signing
    from hdrs_hpc.client import filing, signatures
    from hdrs_hpc.client.pages import code_approval
    from hdrs_hpc.core import clock
    from hdrs_hpc.documents import kinds

    session = options.session(context)
    kind = kinds.CODE_APPROVAL
    found, files, size = _bundle(bundle)
    locked = _wheels(bundle, read_sources(index_url, find_links, no_index))
    reviewed = {"wheels": {"lock": locked.lock.digest(), "index": locked.origin}} if locked else {}
    envelope, document = signatures.unsigned(
        kind,
        {
            "schema": kind.schema,
            "project": project,
            "bundle": found,
            **reviewed,
            "reviewer": session.settings.person or "",
            "statement": statement,
            "at": clock.to_text(clock.now()),
        },
    )
    page = code_approval.page(document, files, size, locked.lock.wheels if locked else ())
    signed = signing.sign_made(kind, envelope, page, how, root=session.root.document, context=context)
    signing.told(filing.file(session, signed), f"approved {found} for {project}", as_json)


def _wheels(path: Path, where: Sources) -> Locked | None:
    """The bundle's packages, verified on this machine; None where it brings none."""
    from hdrs_hpc.client import bundlelock
    from hdrs_hpc.protocol import bundle, wheel_lock

    raw = bundle.pack(path) if path.is_dir() else path.read_bytes()
    lock = wheel_lock.found_in(bundle.read(raw).files)
    if lock is None:
        return None
    return bundlelock.verify(lock, where, lambda file: click.echo(f"  verifies {file}", err=True))


def _bundle(path: Path) -> tuple[str, list[str], int]:
    """Digest, files and size."""
    from hdrs_hpc.protocol import bundle

    raw = bundle.pack(path) if path.is_dir() else path.read_bytes()
    found = bundle.read(raw)
    return found.digest, sorted(found.files), len(raw)
