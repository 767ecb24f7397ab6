"""``hdrs-hpc runtime``: build what sandboxes run on, take in what was built elsewhere, list what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hdrs_hpc.catalogue.flavours import FLAVOURS
from hdrs_hpc.cli import options, show

_PLATFORMS = sorted({platform for flavour in FLAVOURS.values() for platform in flavour.platforms})


@click.group()
def runtime() -> None:
    """Build and list flavours: the sets of packages that jobs run on.

    \b
    Example:
      hdrs-hpc runtime build --flavour torch
      hdrs-hpc cluster install isambard-ai --flavour torch
    """


@runtime.command()
@click.option("--flavour", "name", type=click.Choice(list(FLAVOURS)), default="base", show_default=True)
@click.option("--platform", type=click.Choice(_PLATFORMS), help="[default: this machine's, for NVIDIA GPUs]")
@click.option(
    "--packages",
    "fetched",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder in which the packages are installed already; without it they are fetched by the lock.",
)
@click.option("--out", "folder", type=options.FOLDER, help="Where to put it.  [default: the broker's home]")
@options.home
@options.as_json
def build(
    name: str,
    platform: str | None,
    fetched: Path | None,
    folder: Path | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Build a flavour on this machine, which must have the nodes' processor and a glibc that is no newer.

    Packages are fetched by the lock in deploy/runtimes/, with hashes; the file is the same wherever it is built with
    the same interpreter and mksquashfs.

    \b
    Example:
      hdrs-hpc runtime build --flavour torch --platform aarch64-cuda --out /scratch/flavours
    """
    from hdrs_hpc.node.runtime import fetching, flavour

    where = folder or options.broker_home(home).runtime_dir
    chosen = platform or flavour.platform_of(name)
    flavour.require_here(name, chosen)
    if FLAVOURS[name].from_lock and fetched is None:
        click.echo("fetches the packages, or finds them fetched …", err=True)
        fetched = fetching.fetch(where, fetching.lock_of(name, chosen))
    click.echo("builds the flavour, or finds it built …", err=True)
    made = flavour.build(where, name, chosen, fetched.resolve() if fetched else None)
    if as_json:
        show.emit_json(_told(made))
        return
    show.done(f"{name} for {chosen}: {made.digest}, {show.size(made.size_bytes)}")
    click.echo(f"  {made.path}")
    click.echo(f"  next: hdrs-hpc cluster install NAME --flavour {name}")


@runtime.command()
@click.argument("file", type=options.FILE)
@options.home
@options.as_json
def add(file: Path, home: Path | None, as_json: bool) -> None:
    """Take in a flavour's file that was built on another machine; `cluster install` registers and sends it then.

    What is in it is read from it by squashfs-tools; look at its digest where it was built.

    \b
    Example:
      hdrs-hpc runtime add /media/3f0c….squashfs
    """
    from hdrs_hpc.node.runtime import flavour

    made = flavour.take_in(options.broker_home(home).runtime_dir, file)
    if as_json:
        show.emit_json(_told(made))
        return
    show.done(f"{made.flavour} for {made.platform}: {made.digest}, {show.size(made.size_bytes)}")
    click.echo(f"  next: hdrs-hpc cluster install NAME --flavour {made.flavour}")


@runtime.command("list")
@click.option("--packages", is_flag=True, help="With every package and its version.")
@options.home
@options.as_json
def list_(packages: bool, home: Path | None, as_json: bool) -> None:
    """List the flavours in the broker's home, the newest first.

    \b
    Example:
      hdrs-hpc runtime list --packages
    """
    from hdrs_hpc.node.runtime import flavour

    found = flavour.every(options.broker_home(home).runtime_dir)
    if as_json:
        show.emit_json([_told(made) for made in found])
        return
    show.table(
        ("flavour", "platform", "size", "packages", "digest"),
        [
            (made.flavour, made.platform, show.size(made.size_bytes), len(made.packages), made.digest)
            for made in found
        ],
        empty="none is built yet: hdrs-hpc runtime build",
    )
    for made in found if packages else ():
        click.echo(f"\n{made.flavour} for {made.platform}, {show.short(made.digest)}")
        for name, version in made.packages.items():
            click.echo(f"  {name} {version}")


def _told(made: Any) -> dict[str, object]:
    return {
        "flavour": made.flavour,
        "platform": made.platform,
        "digest": made.digest,
        "size": made.size_bytes,
        "file": str(made.path),
        "packages": made.packages,
    }
