"""``hdrs-hpc broker``: set one up, give it its trust root, run it, look at it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from hdrs_hpc.cli import options, show


@click.group()
def broker() -> None:
    """Set up and run a broker, on its own machine in the data zone.

    \b
    Example:
      hdrs-hpc broker init --audience north-sde
      hdrs-hpc broker trust root.json --root-digest sha256:9f2c…
      hdrs-hpc broker serve
    """


@broker.command()
@click.option("--audience", required=True, help="The broker's name, such as north-sde; it never changes.")
@options.home
@click.option("--host", default="127.0.0.1", show_default=True, help="Any other than loopback needs [tls].")
@click.option(
    "--port", default=8443, show_default=True, type=click.IntRange(0, 65535), help="0 for a free one."
)
@click.option(
    "--tick", default=30.0, show_default=True, type=click.FloatRange(0.05), help="Seconds between looks."
)
@click.option("--keys-out", type=options.NEW_FILE, help="Also write the broker's public keys to this file.")
@options.as_json
def init(
    audience: str, home: Path | None, host: str, port: int, tick: float, keys_out: Path | None, as_json: bool
) -> None:
    """Make a broker's home: settings, database, keystore and the broker's own keys.

    \b
    Example:
      hdrs-hpc broker init --audience north-sde --keys-out broker-keys.json
    """
    from hdrs_hpc.broker import setup
    from hdrs_hpc.broker.home import BrokerHome

    where = BrokerHome.at(home)
    keys = setup.init(where, audience=audience, host=host, port=port or setup.free_port(), tick_s=tick)
    if keys_out is not None:
        shutil.copyfile(keys, keys_out)
        keys = keys_out
    if as_json:
        told = {"home": str(where.root), "audience": audience, "url": where.settings().url}
        show.emit_json({**told, "broker-keys": str(keys)})
        return
    show.done(f"made the home of {audience} in {where.root}; it will listen on {where.settings().url}")
    click.echo(f"  its public keys are in {keys}")
    click.echo(
        f"  next: hdrs-hpc trust init root.json --audience {audience} --broker-keys {keys} --organisation … --person …"
    )


@broker.command()
@click.argument("file", type=options.FILE)
@click.option("--root-digest", required=True, help="Its digest, as you got it by another way than the file.")
@options.home
@options.as_json
def trust(file: Path, root_digest: str, home: Path | None, as_json: bool) -> None:
    """Pin the first trust root.  Its digest is the log's first entry and can't be changed afterwards.

    \b
    Example:
      hdrs-hpc broker trust root.json --root-digest sha256:9f2c…
    """
    from hdrs_hpc.broker import setup
    from hdrs_hpc.broker.filing import trust_root
    from hdrs_hpc.broker.store.database import Database
    from hdrs_hpc.documents.trust import load_root

    where = options.broker_home(home)
    raw = file.read_bytes()
    root = load_root(raw, root_digest)
    setup.check_audience(where, root)
    db = Database(where.database)
    with setup.keyd_of(where) as ask:
        trust_root.accept_first(db, ask, raw, root_digest)
    db.close()
    if as_json:
        show.emit_json({"digest": root.digest, "version": root.document.version, "people": list(root.people)})
        return
    show.done(f"{where.settings().audience} believes {root.digest}, signed by {', '.join(root.people)}")
    click.echo("  next: hdrs-hpc broker serve")


@broker.command()
@options.home
def serve(home: Path | None) -> None:
    """Run keyd, controller and web until stopped; one that dies is started again.  Logs: HOME/logs.

    \b
    Example:
      hdrs-hpc broker serve --home /srv/hdrs-hpc
    """
    from hdrs_hpc.broker import serve as supervisor

    where = options.broker_home(home)
    settings = where.settings()

    def ready(url: str) -> None:
        click.echo(f"{show.DONE} {settings.audience} answers on {url}; logs in {where.logs_dir}")

    click.echo(f"starting {', '.join(supervisor.MODULES)} of {settings.audience}; Ctrl-C stops them")
    supervisor.serve(where, ready)


@broker.command()
@options.home
@click.option(
    "--wait", type=click.FloatRange(0, 3600), default=0.0, help="Wait up to so many seconds until it is up."
)
@options.as_json
@click.pass_context
def status(ctx: click.Context, home: Path | None, wait: float, as_json: bool) -> None:
    """Tell which process lives and what waits.  Exit code 0: all up.  7: not.

    \b
    Example:
      hdrs-hpc broker status --wait 20
    """
    from hdrs_hpc.broker.reading import status as looking

    found = looking.wait(options.broker_home(home), wait)
    if as_json:
        show.emit_json(found.as_dict())
    else:
        _page(found.as_dict())
    ctx.exit(0 if found.up else 7)


def _page(found: dict[str, Any]) -> None:
    click.echo(f"{found['audience']} at {found['url']}, home {found['home']}")
    for process in found["processes"]:
        mark = show.DONE if process["answers"] else click.style("✗", fg="red")
        said = f", {process['said']}" if process["said"] else ""
        click.echo(
            f"{mark} {process['name']}"
            + (f" (pid {process['pid']}{said})" if process["pid"] else f" is down{said}")
        )
    show.facts(
        [
            (
                "trust root",
                found["trust-root"] or "none pinned (or keyd is down): `hdrs-hpc broker trust FILE`",
            ),
            ("projects", _counts(found["projects"])),
            ("jobs", _counts(found["jobs"])),
            (
                "received",
                "waits for the controller's next look" if found["jobs"].get("RECEIVED") else None,
            ),
            ("staging", found["copies-under-way"] or None),
            ("log", f"{found['log-size']} entries, {found['signed-size']} under keyd's last checkpoint"),
        ]
    )
    for alert in found["alerts"]:
        mark = click.style("!", fg="yellow")
        click.echo(f"{mark} {alert['about']}: {alert['code']}, {alert['message']} (since {alert['since']})")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "none"
