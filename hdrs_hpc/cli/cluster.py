"""``hdrs-hpc cluster``: make a cluster known, put the node runtime there, see whether it is fit, stop new work."""

from __future__ import annotations

from pathlib import Path

import click

from hdrs_hpc.catalogue import isolation as levels
from hdrs_hpc.catalogue.flavours import FLAVOURS
from hdrs_hpc.cli import options, show

_NAME = click.argument("name")
_PROJECT = click.option("--project", "projects", multiple=True, help="Only for this project; repeatable.")


@click.group()
def cluster() -> None:
    """Make clusters known to a broker and look after them, on the broker's machine.

    \b
    Example:
      hdrs-hpc cluster add isambard-ai.toml
      hdrs-hpc cluster install isambard-ai
      hdrs-hpc cluster doctor isambard-ai
    """


@cluster.command()
@click.argument("file", type=options.FILE, required=False)
@click.option("--local", "local_name", metavar="NAME", help="Instead of FILE: this machine, for trying out.")
@click.option("--root", type=options.FOLDER, help="With --local: where jobs and scratch lie.")
@click.option("--isolation", type=click.Choice(levels.GIVEN), default=levels.WEAKEST, show_default=True)
@click.option("--replace", is_flag=True, help="Replace the settings of a cluster that is there.")
@options.home
@options.as_json
def add(
    file: Path | None,
    local_name: str | None,
    root: Path | None,
    isolation: str,
    replace: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Make a cluster known from its settings (TOML); docs/hpc-admin.md shows a whole one.

    \b
    Example:
      hdrs-hpc cluster add isambard-ai.toml
      hdrs-hpc cluster add --local here --root ./scratch
    """
    from hdrs_hpc.broker import sites

    where = options.broker_home(home)
    if file is not None and local_name is None:
        settings = sites.add(where, file.read_bytes(), replace=replace)
    elif local_name is not None and root is not None and file is None:
        settings = sites.add(where, sites.local_settings(local_name, root, isolation), replace=replace)
    else:
        raise click.UsageError("Give the settings' FILE, or --local NAME with --root FOLDER.")
    if as_json:
        show.emit_json({"name": settings.name, "type": settings.type, "isolation": settings.isolation})
        return
    show.done(
        f"{settings.name}: {settings.type}, {settings.isolation}, projects {', '.join(settings.projects) or 'any'}"
    )
    if not levels.is_contained(settings.isolation):
        meaning = levels.level(settings.isolation).meaning
        click.echo(f"  {click.style('!', fg='yellow')} {settings.isolation}: {meaning}")
    click.echo(f"  next: hdrs-hpc cluster install {settings.name}")


@cluster.command()
@_NAME
@_PROJECT
@options.home
@options.as_json
@click.option(
    "--flavour",
    "names",
    multiple=True,
    type=click.Choice(list(FLAVOURS)),
    help="Put this flavour there too; repeatable.",
)
@click.option("--platform", help="Of those flavours, where several were built, such as aarch64-cuda.")
def install(
    name: str,
    projects: tuple[str, ...],
    home: Path | None,
    as_json: bool,
    names: tuple[str, ...],
    platform: str | None,
) -> None:
    """Put the node runtime and flavours on the cluster for each project; needs no root there.

    The runtime and the flavour `base` are built if they are not yet; others by `runtime build`.

    \b
    Example:
      hdrs-hpc cluster install isambard-ai --flavour torch
    """
    from hdrs_hpc.broker import sites
    from hdrs_hpc.node.runtime import flavour
    from hdrs_hpc.node.runtime.build import build

    where = options.broker_home(home)
    wanted = sites.projects_on(where, name, projects)  # before the build, which takes its time
    click.echo("builds the node runtime, or finds it built …", err=True)
    runtime = build(where.runtime_dir)
    flavours = [flavour.build(where.runtime_dir, "base", flavour.platform_of("base"))]
    flavours += [flavour.latest(where.runtime_dir, wished, platform) for wished in names if wished != "base"]
    installed = []
    for project in wanted:
        sites.install(where, name, project, runtime.path, runtime.digest)
        installed.append(project)
        for made in flavours:
            about = sites.Registered(made.flavour, made.digest, made.size_bytes)
            sites.install_flavour(where, name, project, made.path, about)
        if not as_json:
            show.done(f"{project}: {runtime.digest}, {show.size(runtime.size_bytes)}")
            for made in flavours:
                show.done(f"{project}: {made.flavour} {made.digest}, {show.size(made.size_bytes)}")
    others = [digest for digest in sites.registered_runtimes(where, name) if digest != runtime.digest]
    if as_json:
        show.emit_json(
            {"cluster": name, "digest": runtime.digest, "projects": installed, "also-registered": others}
            | {"flavours": {made.flavour: made.digest for made in flavours}}
        )
        return
    for digest in others:
        click.echo(f"  {digest} is given keys too, until: hdrs-hpc cluster withdraw {name} {digest}")


@cluster.command()
@_NAME
@click.argument("digest")
@options.home
def withdraw(name: str, digest: str, home: Path | None) -> None:
    """Withdraw a node runtime: nodes of the cluster that run it are given no keys any more.

    Jobs that wait at the cluster with it end with `runtime-withdrawn`; jobs that were given keys go on.

    
    Example:
      hdrs-hpc cluster withdraw isambard-ai sha256:3f0c…
    """
    from hdrs_hpc.broker import sites

    where = options.broker_home(home)
    sites.withdraw_runtime(where, name, digest)
    show.done(f"{name} gives no keys to {digest}")
    if not sites.registered_runtimes(where, name):
        click.echo(f"  next: hdrs-hpc cluster install {name}")


@cluster.command()
@_NAME
@_PROJECT
@options.home
@options.as_json
@click.pass_context
def doctor(
    ctx: click.Context, name: str, projects: tuple[str, ...], home: Path | None, as_json: bool
) -> None:
    """Try everything that the broker needs of a cluster; each finding with its remedy.

    Exit code 0: all good.  7: something is not.

    \b
    Example:
      hdrs-hpc cluster doctor isambard-ai
    """
    from hdrs_hpc.broker import sites

    where = options.broker_home(home)
    found = {
        project: sites.doctor(where, name, project) for project in sites.projects_on(where, name, projects)
    }
    if as_json:
        show.emit_json({project: [vars(check) for check in checks] for project, checks in found.items()})
    else:
        for project, checks in found.items():
            click.echo(click.style(f"{name} as {project}", bold=True))
            for check in checks:
                mark = show.DONE if check.ok else click.style("✗", fg="red")
                click.echo(f"{mark} {check.name}: {check.message}")
                if not check.ok:
                    click.echo(f"    → {check.remedy}")
    ctx.exit(0 if all(check.ok for checks in found.values() for check in checks) else 7)


@cluster.command("list")
@options.home
@options.as_json
def list_(home: Path | None, as_json: bool) -> None:
    """List the clusters that the broker knows.

    \b
    Example:
      hdrs-hpc cluster list
    """
    from hdrs_hpc.broker.home import clusters

    where = options.broker_home(home)
    found = clusters.every(where)
    state = {item.name: "drained" if clusters.drained(where, item.name) else "open" for item in found}
    if as_json:
        show.emit_json(
            [
                {
                    "name": item.name,
                    "type": item.type,
                    "isolation": item.isolation,
                    "nodes": item.max_nodes,
                    "projects": sorted(item.projects),
                    "drained": state[item.name] == "drained",
                }
                for item in found
            ]
        )
        return
    rows = [
        (i.name, i.type, i.isolation, i.max_nodes, ", ".join(sorted(i.projects)) or "any", state[i.name])
        for i in found
    ]
    show.table(
        ("cluster", "type", "isolation", "nodes", "projects", "state"), rows, empty="No cluster is known yet."
    )


@cluster.command()
@_NAME
@click.option("--undo", is_flag=True, help="Open it for new work again.")
@options.home
def drain(name: str, undo: bool, home: Path | None) -> None:
    """Stop new work for a cluster; what runs there goes on.

    \b
    Example:
      hdrs-hpc cluster drain isambard-ai
    """
    from hdrs_hpc.broker import sites

    sites.drain(options.broker_home(home), name, drained=not undo)
    show.done(f"{name} is open for new work" if undo else f"{name} takes no new work; jobs wait and say so")
