"""``hdrs-hpc playground``: up, status, as, down."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from rich.console import Console

from hdrs_hpc.cli import options, show
from hdrs_hpc.cli.actors import CommandFailedError
from hdrs_hpc.cli.main import missing_part
from hdrs_hpc.cli.playground import keeper
from hdrs_hpc.cli.playground.making import HERE, MARKER, OPERATOR, PEOPLE, PROJECT, Playground
from hdrs_hpc.core.errors import ConflictError, NotFoundError, SiteError

PARTS = ("dask_jobqueue", "fastapi", "pydicom")
"""Packages of the parts that it needs, one of each."""
CLOSED_S = 120.0
JOBS_S = 30.0
REMOVED_S = 30.0


class FolderInUseError(ConflictError):
    code = "playground-folder-in-use"
    meaning = "The folder exists and is no playground's."
    remedy = "Give another one with `--dir`; nothing was changed."


class PortTakenError(ConflictError):
    code = "playground-port-taken"
    meaning = "Another program listens on the port of the playground's broker."
    remedy = "Give another one with `--port`; of a playground that is there: stop that program, or `down` and `up`."


class PlaygroundBusyError(ConflictError):
    code = "playground-busy"
    meaning = "Another `playground up` or `down` works on this folder."
    remedy = "Wait for its end, or end it, then say yours again."


class NoPlaygroundError(NotFoundError):
    code = "playground-not-there"
    meaning = "There is no playground in the folder, or its broker does not run."
    remedy = "`hdrs-hpc playground up` makes it, or starts it again."


class PlaygroundFailedError(SiteError):
    code = "playground-failed"
    meaning = "A command by which the playground is made failed; its own words are above."
    remedy = (
        "The broker's words are in `broker.log` and `broker/logs` of the folder; `playground up` begins anew."
    )


def _usual() -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    state = Path(base) if base and Path(base).is_absolute() else Path.home() / ".local/state"
    return state / "hdrs-hpc" / "playground"


_DIR = click.option(
    "--dir",
    "folder",
    type=options.FOLDER,
    envvar="HDRS_HPC_PLAYGROUND",
    help="Where it lies.  [env: HDRS_HPC_PLAYGROUND; default: your XDG state folder]",
)


@click.group()
def playground() -> None:
    """A broker with a project on made-up data that stays, and people with keys: to learn with.

    \b
    Example:
      hdrs-hpc playground up
      eval "$(hdrs-hpc playground as okafor)"
      hdrs-hpc project show lung-demo
    """


@playground.command()
@_DIR
@click.option(
    "--cluster",
    type=click.Choice(["local", "slurm"]),
    default="local",
    show_default=True,
    help="slurm: the throw-away one of `make slurm-up`.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Of its broker.  [default: a free one]"
)
def up(folder: Path | None, cluster: str, port: int) -> None:
    """Make it, or start it again, and tell what each person could type next.

    It runs in the background until `down`, also when this terminal is closed.

    \b
    Example:
      hdrs-hpc playground up
    """
    site = _site(folder)
    with _alone(site.folder):
        state = site.state()
        if state is not None and keeper.running(site.folder) is not None:
            show.done(f"it is up: {state['url']}, in {site.folder}")
        else:
            try:
                state = _start_again(site, state) if state is not None else _make(site, cluster, port)
            except CommandFailedError as error:
                raise PlaygroundFailedError(str(error)) from None
            show.done(f"{state['url']} answers, in {site.folder}")
    _next(site)


@contextmanager
def _alone(folder: Path, *, forget: bool = False) -> Iterator[None]:
    """Two that make and remove at once would leave half of each; ``forget``: nothing of it stays, nor this mark."""
    mark = folder.with_name(f"{folder.name}.lock")
    mark.parent.mkdir(parents=True, exist_ok=True)
    with mark.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PlaygroundBusyError(where=str(folder)) from None
        yield
        if forget:
            mark.unlink(missing_ok=True)


def _make(site: Playground, cluster: str, port: int) -> dict[str, Any]:
    """In a new folder, or in one of an `up` that was interrupted: what that left is removed."""
    if site.folder.exists() and any(site.folder.iterdir()) and not (site.folder / MARKER).is_file():
        raise FolderInUseError(where=str(site.folder))
    _need_parts()
    if port:
        _require_free(port)
    keeper.stop(site.folder)
    _end_jobs(site)
    _remove(site.folder)
    site.folder.mkdir(mode=0o700, parents=True)
    (site.folder / MARKER).touch()
    return site.make(cluster, port)


def _need_parts() -> None:
    """A client-only install learns at once which extra it lacks, not from half a playground."""
    for name in PARTS:
        if find_spec(name) is None:
            raise missing_part(ModuleNotFoundError(name=name), "playground")


def _start_again(site: Playground, state: dict[str, Any]) -> dict[str, Any]:
    """After a reboot, for example."""
    keeper.stop(site.folder)
    _require_free(int(urlsplit(state["url"]).port or 0))
    site.serve()
    return state


def _require_free(port: int) -> None:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            raise PortTakenError(f"port {port}") from None


@playground.command()
@_DIR
@options.as_json
@click.pass_context
def status(ctx: click.Context, folder: Path | None, as_json: bool) -> None:
    """Tell whether it runs.  Exit code 0: it does.  7: it does not.

    \b
    Example:
      hdrs-hpc playground status
    """
    site = _site(folder)
    state, pid = site.state(), keeper.running(site.folder)
    is_up = state is not None and pid is not None
    if as_json:
        show.emit_json({"up": is_up, "folder": str(site.folder), "pid": pid, **(state or {})})
    elif is_up and state is not None:
        show.done(f"it is up: {state['url']} (pid {pid}), in {site.folder}")
    elif pid is not None:
        click.echo(
            f"A broker runs (pid {pid}) and its folder {site.folder} is not whole: hdrs-hpc playground down"
        )
    elif state is not None:
        click.echo(f"It is there, in {site.folder}, and does not run: hdrs-hpc playground up")
    else:
        click.echo("There is none: hdrs-hpc playground up")
    ctx.exit(0 if is_up else SiteError.exit_code)


@playground.command("as")
@_DIR
@click.argument("person", type=click.Choice([*PEOPLE, OPERATOR]))
def as_(folder: Path | None, person: str) -> None:
    """Print what makes this shell a person's: their login, which is renewed, and their key.

    \b
    Example:
      eval "$(hdrs-hpc playground as okafor)"
    """
    site = _site(folder)
    state = site.state()
    if state is None or keeper.running(site.folder) is None:
        raise NoPlaygroundError(where=str(site.folder))
    home = site.actor(person).home
    shown = {"HDRS_HPC_PLAYGROUND": site.folder}
    if person == OPERATOR:
        shown["HDRS_HPC_BROKER_HOME"] = site.broker
    else:
        try:
            site.log_in(person, state, quiet=True)
        except CommandFailedError as error:
            raise PlaygroundFailedError(str(error)) from None
        shown |= {"XDG_CONFIG_HOME": home / ".config", "XDG_STATE_HOME": home / ".local/state"}
    for name, value in shown.items():
        click.echo(f"export {name}={shlex.quote(str(value))}")


@playground.command()
@_DIR
def down(folder: Path | None) -> None:
    """Stop it and remove all of it: broker, people, keys, data, jobs.

    \b
    Example:
      hdrs-hpc playground down
    """
    site = _site(folder)
    if site.folder.exists() and any(site.folder.iterdir()) and not (site.folder / MARKER).is_file():
        raise FolderInUseError(where=str(site.folder))
    with _alone(site.folder, forget=True):
        state = site.state()
        if state is not None and state["cluster"] != HERE and keeper.running(site.folder) is not None:
            _close(site, state)
        ended = keeper.stop(site.folder)
        _end_jobs(site)
        there = site.folder.exists()
        _remove(site.folder)
    show.done(f"nothing of it is left in {site.folder}" if ended or there else "there was none")


def _remove(folder: Path) -> None:
    """Until it is gone: a command of an `up` that was killed may write for some seconds more."""
    until = time.monotonic() + REMOVED_S
    while folder.exists() and time.monotonic() < until:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            time.sleep(0.5)


def _close(site: Playground, state: dict[str, Any]) -> None:
    """What lies on another machine the broker takes away itself, when its project closes."""
    custodian = site.actor("abara")
    try:
        site.log_in("abara", state, quiet=True)
        custodian.run("project", "close", PROJECT, "--reason", "The playground is taken down", "--yes")
        until = time.monotonic() + CLOSED_S
        while custodian.ask("project", "show", PROJECT, quiet=True)["state"] != "CLOSED":
            if time.monotonic() > until:
                raise CommandFailedError("the project did not close in time")
            time.sleep(1)
    except CommandFailedError as error:
        click.echo(f"! something may be left on {state['cluster']}: {error}", err=True)


def _end_jobs(site: Playground) -> None:
    """Jobs on this machine outlive their broker: end them, and wait until they are over."""
    from connectors.clusters.local import LocalCluster
    from connectors.clusters.port import JobPhase
    from hdrs_hpc.broker.home import BrokerHome, clusters

    names = [path.name for path in (site.folder / "cluster/jobs" / PROJECT).glob("hdrs-*")]
    settings = [known for known in clusters.every(BrokerHome.at(site.broker)) if known.name == HERE]
    if not names or not settings:
        return
    cluster = LocalCluster(settings[0], PROJECT)
    for name in names:
        cluster.cancel(name)
    until = time.monotonic() + JOBS_S
    while time.monotonic() < until:
        found = cluster.find(names).jobs
        if all(job.phase is JobPhase.ENDED for jobs in found.values() for job in jobs):
            return
        time.sleep(0.2)


def _site(folder: Path | None) -> Playground:
    chosen = (folder or _usual()).absolute()
    with suppress(FileNotFoundError):
        chosen = chosen.resolve(strict=True)
    return Playground(chosen, Console(stderr=True, width=110))


def _next(site: Playground) -> None:
    """For each role one line that works in a fresh shell."""
    program = str(Path(sys.argv[0]).absolute()) if Path(sys.argv[0]).name == "hdrs-hpc" else "hdrs-hpc"
    where = "" if site.folder == _usual() else f" --dir {shlex.quote(str(site.folder))}"
    lines = {
        "okafor": f"project show {PROJECT}",
        "abara": f"grant show {PROJECT}",
        "chen": "review list",
        OPERATOR: "broker status",
    }
    click.echo("Next, in any shell:")
    for person, command in lines.items():
        click.echo(f"  {click.style(site.actor(person).title, bold=True)}")
        click.echo(f'    eval "$({program} playground as {person}{where})"; {program} {command}')
    click.echo(f"  To take all of it away: {program} playground down{where}")
