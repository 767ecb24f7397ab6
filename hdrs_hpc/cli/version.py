"""``hdrs-hpc version``."""

from __future__ import annotations

import json
import platform

import click

from hdrs_hpc import __version__


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def version(as_json: bool) -> None:
    """Tell the versions of this program, its Python and its document formats.

    Example: hdrs-hpc version --json
    """
    from hdrs_hpc.documents.kinds import KINDS

    formats = [kind.schema for kind in KINDS.values()]
    if as_json:
        told = {"version": __version__, "python": platform.python_version(), "formats": formats}
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(f"hdrs-hpc {__version__} on Python {platform.python_version()}")
    click.echo(f"formats: {', '.join(formats)}")
