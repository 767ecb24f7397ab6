"""``hdrs-hpc bundle``: the packages that a researcher's code brings along."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdrs_hpc.cli import options, show

if TYPE_CHECKING:
    from hdrs_hpc.client.resolving import Sources


def sources(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where packages are looked for, as uv's options of the same names."""
    for option in (
        click.option("--no-index", is_flag=True, help="Look in `--find-links` only."),
        click.option("--find-links", multiple=True, help="A folder or page of wheels, beside the index."),
        click.option("--index-url", help="The index to ask.  [default: uv's]"),
    ):
        command = option(command)
    return command


def read_sources(index_url: str | None, find_links: tuple[str, ...], no_index: bool) -> Sources:
    from hdrs_hpc.client.resolving import Sources as Made

    return Made(index_url, find_links, no_index)


@click.group()
def bundle() -> None:
    """Lock the packages that your code needs beyond what its flavour holds.

    \b
    Example:
      echo einops > mae/requirements.in
      hdrs-hpc bundle lock mae --flavour torch
    """


@bundle.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--flavour", default="base", show_default=True, help="The flavour that your workload runs on.")
@click.option("--platform", help="Of the nodes, such as x86_64-cuda.  [default: the flavour's first]")
@sources
@options.as_json
def lock(
    folder: Path,
    flavour: str,
    platform: str | None,
    index_url: str | None,
    find_links: tuple[str, ...],
    no_index: bool,
    as_json: bool,
) -> None:
    """Resolve FOLDER's requirements.in on top of a flavour, and fetch the wheels.

    Writes requirements.lock, which is part of your code, and wheels/, which is sent along with it.  What the
    flavour holds already is left out.  Only this machine asks an index; nothing is built or installed.

    \b
    Example:
      hdrs-hpc bundle lock mae --flavour torch
    """
    from hdrs_hpc.client import bundlelock

    found = bundlelock.lock(
        folder,
        flavour,
        platform,
        read_sources(index_url, find_links, no_index),
        lambda file: None if as_json else click.echo(f"  {file}", err=True),
    )
    made = found.lock
    if as_json:
        show.emit_json(
            {
                "lock": made.digest(),
                "flavour": made.flavour,
                "platform": made.platform,
                "size": made.size,
                "unpacked": found.unpacked,
                "from": found.origin,
                "wheels": [vars(wheel) for wheel in made.wheels],
            }
        )
        return
    count = len(made.wheels)
    if not count:
        show.done(f"{made.flavour} on {made.platform} holds all of it already")
        return
    show.done(
        f"{count} wheel{'s' if count > 1 else ''}, {made.size:,} bytes ({found.unpacked:,} in memory on a node), "
        f"from {found.origin}, on top of {made.flavour} on {made.platform}"
    )
