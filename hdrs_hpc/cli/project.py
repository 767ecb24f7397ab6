"""``hdrs-hpc project``: what may be done, what is left, and the red button."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hdrs_hpc.cli import options, show

_NAME = click.argument("name")
_REASON = click.option("--reason", required=True, help="Why; it is signed and kept.")


@click.group()
def project() -> None:
    """See your projects; custodians freeze and close them.

    \b
    Example:
      hdrs-hpc project show lung-fm
    """


@project.command("list")
@options.context
@options.as_json
def list_(context: str | None, as_json: bool) -> None:
    """List the projects that you may see.

    \b
    Example:
      hdrs-hpc project list
    """
    found = options.session(context).api.get("/v1/projects")
    if as_json:
        show.emit_json(found)
        return
    rows = [
        (
            p["name"],
            _state(p),
            None if p["state"] in ("CLOSING", "CLOSED") else p["days-left"],
            None if p["state"] in ("CLOSING", "CLOSED") else _gpu_hours(p),
            p["jobs"],
            p["title"],
        )
        for p in found
    ]
    show.table(
        ("project", "state", "days left", "GPU-hours left", "jobs", "title"),
        rows,
        empty="You have no project here.",
    )


@project.command("show")
@_NAME
@options.context
@options.as_json
def show_(name: str, context: str | None, as_json: bool) -> None:
    """Show a project: its data, what may run, limits, days and GPU-hours left, what may leave.

    \b
    Example:
      hdrs-hpc project show lung-fm
    """
    from hdrs_hpc.client import projectview

    session = options.session(context)
    found = session.api.get(f"/v1/projects/{name}")
    if session.settings.person in found["researchers"]:
        projectview.remember(session, name, found)
    if as_json:
        show.emit_json(found)
        return
    limits = found["limits"]
    show.facts(
        [
            ("project", f"{found['name']}: {found['title']}"),
            ("state", _state(found)),
            ("runs until", _runs_until(found)),
            _destroyed(found),
            ("people", f"{', '.join(found['researchers'])}; lead {found['lead']}"),
            ("workloads", ", ".join(found["workloads"]["builtin"]) or "no built-in one"),
            ("own code", found["workloads"]["own-code"]),
            ("clusters", f"{_clusters(found)}; at least {limits['isolation']}"),
            ("nodes", _nodes(found)),
            ("a job", f"up to {show.count(limits['nodes'], 'node')} for {limits['time']}"),
            ("GPU-hours", _gpu_hours_told(found)),
            ("outputs", _outputs(found["outputs"])),
            ("kept", _kept(found)),
            ("grant", f"version {found['grant-version']}, {found['grant']}"),
        ]
    )
    click.echo()
    rows = [
        (name, data["kind"], data["items"], data["sensitivity"], data["profile"], _select(data["select"]))
        for name, data in found["data"].items()
    ]
    show.table(("dataset", "kind", "items", "sensitivity", "profile", "selection"), rows, empty="No data.")
    if stays := [item for item in found["kept"] if item["state"] == "kept"]:
        click.echo()
        show.table(
            ("job", "output kept", "class", "size", "since", "cluster"),
            [
                (k["job"], k["output"], k["class"], show.size(k["size"]), k["kept-at"], k["cluster"])
                for k in stays
            ],
            empty="",
        )


@project.command()
@_NAME
@options.context
@options.as_json
def report(name: str, context: str | None, as_json: bool) -> None:
    """Show a custodian what became of the data at staging: counts, and why items stayed out.

    Which files these are stays in the data zone: the whole report and the map of files lie in the broker's home.

    \b
    Example:
      hdrs-hpc project report lung-fm
    """
    found = options.session(context).api.get(f"/v1/projects/{name}/staging-reports")
    if as_json:
        show.emit_json(found)
        return
    if not found:
        click.echo(f"Nothing was staged for {name}.")
    for number, item in enumerate(found):
        click.echo("\n" * (number > 0), nl=False)
        _staged(item)


def _staged(item: dict[str, Any]) -> None:
    made = item["made-for"]
    show.facts(
        [
            ("staged", f"{item['dataset']} for {item['project']}"),
            ("grant", made.get("grant")),
            ("date", made.get("date")),
            ("copy", f"{item['copy']} on {item['cluster']}: {item['state']}"),
            ("why ended" if made else "no copy", item["reason"]),
            ("version", item["version"]),
            ("profile", item["profile"]),
            ("files", f"{item['items-staged']} of {item['items-in']} staged" if made else None),
            ("holds", _holds(item) if made else None),
        ]
    )
    rows = [
        (reason["code"], reason["count"], "failed" if reason["failed"] else "by rule", reason["meaning"])
        for reason in sorted(item["reasons"], key=lambda reason: -reason["count"])
    ]
    if rows:
        show.table(("not in the copy", "files", "why", "meaning"), rows, empty="")


def _holds(item: dict[str, Any]) -> str:
    counts = [show.count(n, kind.removesuffix("s")) for kind, n in item["staged"].items() if n]
    return f"{', '.join(counts) or 'nothing'}{show.of_patients(item['patients'])}"


@project.command()
@_NAME
@_REASON
@options.signing
@options.context
@options.as_json
def freeze(name: str, reason: str, how: options.Signing, context: str | None, as_json: bool) -> None:
    """Stop a project at once: no new job, no key is given, running jobs are cancelled.

    Staged data and keys stay until the project is closed or its time is over; what is in review may still be
    decided.  As many custodians as grant the data can lift it: `hdrs-hpc project unfreeze`.

    \b
    Example:
      hdrs-hpc project freeze lung-fm --reason "query from the ethics committee"
    """
    from hdrs_hpc.cli import closing

    closing.close(name, "freeze", reason, how=how, context=context, as_json=as_json)


@project.command()
@_NAME
@_REASON
@options.signing
@options.context
@options.as_json
def unfreeze(name: str, reason: str, how: options.Signing, context: str | None, as_json: bool) -> None:
    """Lift a freeze: signed by as many custodians as a grant, with those of every owner of the data.

    The first one writes NAME.unfreeze.signed.json, the next ones add theirs with `hdrs-hpc project sign`.  A project
    that was frozen twice needs it twice.

    \b
    Example:
      hdrs-hpc project unfreeze lung-fm --reason "query answered, DAC-2026-0150"
    """
    from hdrs_hpc.cli import closing

    closing.unfreeze(name, reason, how=how, context=context, as_json=as_json)


@project.command()
@click.argument("file", type=options.FILE)
@options.signing
@options.context
@options.as_json
def sign(file: Path, how: options.Signing, context: str | None, as_json: bool) -> None:
    """Add your signature to a closure that needs more than one, and send it once enough have signed.

    \b
    Example:
      hdrs-hpc project sign lung-fm.unfreeze.signed.json
    """
    from hdrs_hpc.cli import closing

    closing.sign_further(file, how=how, context=context, as_json=as_json)


@project.command()
@_NAME
@click.option("--reason", help="Why; it is signed and kept.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be destroyed.")
@options.signing
@options.context
@options.as_json
def close(
    name: str,
    reason: str | None,
    dry_run: bool,
    how: options.Signing,
    context: str | None,
    as_json: bool,
) -> None:
    """End a project: its keys are destroyed, then its data; the certificate follows.

    Running jobs are cancelled.  What is in review may be decided for as long as the grant's review-grace.

    \b
    Example:
      hdrs-hpc project close lung-fm --dry-run
      hdrs-hpc project close lung-fm --reason "study finished"
    """
    from hdrs_hpc.cli import closing

    if dry_run:
        closing.show_plan(name, context=context, as_json=as_json)
        return
    if reason is None:
        raise click.UsageError("Give the reason with --reason, or --dry-run to see what would be destroyed.")
    closing.close(name, "close", reason, how=how, context=context, as_json=as_json)


@project.command()
@_NAME
@options.out
@options.context
def certificate(name: str, out: Path | None, context: str | None) -> None:
    """Fetch the certificate of destruction of a closed project, after verifying its signature.

    \b
    Example:
      hdrs-hpc project certificate lung-fm --out certificate.json
    """
    from hdrs_hpc.cli.signing import write
    from hdrs_hpc.documents import kinds, trust
    from hdrs_hpc.documents.envelope import Envelope

    session = options.session(context)
    raw = session.api.get_bytes(f"/v1/projects/{name}/certificate")
    found = trust.verify(Envelope.parse(raw), kinds.CERTIFICATE, session.root).document
    target = out or Path(f"{name}.certificate.json")
    write(target, raw)
    show.done(
        f"wrote {target}: {found.project}, {found.assurance}, issued {found.issued_at:%Y-%m-%d %H:%M} UTC"
    )
    click.echo(f"  prove it: hdrs-hpc certificate verify {target} --trust ROOT")


def _state(found: dict[str, Any]) -> str:
    return (
        f"{found['state']}, frozen"
        if found["frozen"] and found["state"] in ("APPROVED", "ACTIVE")
        else found["state"]
    )


def standing(found: dict[str, Any]) -> str:
    """Whether anything may run under the grant in force of a project."""
    if found["state"] in ("CLOSING", "CLOSED"):
        return f"The project is {found['state'].lower()}: nothing runs under its grant any more."
    if found["frozen"]:
        how = f"`hdrs-hpc project unfreeze {found['name']}`"
        return f"The project is frozen: nothing runs under its grant until {how}."
    return "It is in force."


def _runs_until(found: dict[str, Any]) -> str:
    if found["state"] in ("CLOSING", "CLOSED"):
        return f"nothing any more; it was granted until {found['run-until']}"
    return f"{found['run-until']} ({show.count(found['days-left'], 'day')} left)"


def _kept(found: dict[str, Any]) -> str:
    most = found["limits"]["kept-size"]
    if most is None:
        return "nothing for later jobs"
    return f"{show.size(found['kept-bytes'])} of {most} for later jobs"


def _gpu_hours(found: dict[str, Any]) -> str:
    return f"{max(0.0, found['gpu-hours'] - found['gpu-hours-used']):.1f}"


def _gpu_hours_told(found: dict[str, Any]) -> str:
    if found["state"] in ("CLOSING", "CLOSED"):
        return f"{found['gpu-hours-used']:.1f} of {found['gpu-hours']} were used"
    return f"{_gpu_hours(found)} of {found['gpu-hours']} left"


def _destroyed(found: dict[str, Any]) -> tuple[str, str]:
    if found["state"] == "CLOSED":
        return "destroyed", f"everything; `hdrs-hpc project certificate {found['name']}` fetches the proof"
    return "destroyed by", found["destroy-by"]


def _clusters(found: dict[str, Any]) -> str:
    told = []
    for name in found["limits"]["clusters"]:
        offer = found["clusters"].get(name)
        most = (
            f"{offer['isolation']}, {show.count(offer['nodes'], 'node')}" if offer else "not at this broker"
        )
        told.append(f"{name} ({most}{', drained' if offer and offer['drained'] else ''})")
    return ", ".join(told)


def _nodes(found: dict[str, Any]) -> str:
    """What each cluster told of its nodes, a line for each kind, and when."""
    from hdrs_hpc.forms.words import memory_text, walltime_text

    lines = []
    for name, offer in found["clusters"].items():
        has = offer["capacity"]
        if has is None:
            lines.append(f"{name}: not known yet; the broker asks the cluster by itself")
            continue
        kinds = (
            f"{show.count(kind['nodes'], 'node')} of {show.count(kind['cpus'], 'CPU')}, "
            f"{memory_text(kind['mem-mb'])}, {', '.join(kind['gres']) or 'no GPU'}"
            for kind in has["kinds"]
        )
        longest = has["max-time-s"]
        limit = f"; a job up to {walltime_text(longest)}" if longest is not None else ""
        limit += "; whole nodes, charged with all their GPUs" if has["whole-nodes"] else ""
        lines.append(f"{name}: {'; '.join(kinds)}{limit} (told {offer['capacity-told-at']})")
    return "\n".join(lines)


def _outputs(rules: dict[str, Any]) -> str:
    parts = []
    for name, rule in rules.items():
        if name != "reviewers":
            inner = ", ".join(f"{key} {value}" for key, value in rule.items())
            parts.append(f"{name} ({inner})" if inner else name)
    return f"{', '.join(parts) or 'none'}; {rules['reviewers']} reviewers"


def _select(select: dict[str, Any]) -> str:
    return (
        " ".join(f"{key}={','.join(v) if isinstance(v, list) else v}" for key, v in select.items()) or "all"
    )
