"""The demo's last screen: what happened, from the documents and the log that the demo left."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.table import Table

from hdrs_hpc.catalogue import isolation

DONE, MIND = "[green]✓[/]", "[yellow]![/]"


def show_ending(console: Console, folder: Path, facts: dict[str, Any], seconds: float) -> None:
    """Print it; every figure is read from the exported log, the certificate or the two searches."""
    entries = facts["log"]
    table = Table.grid(padding=(0, 2))
    table.add_row(f"{DONE} approved", "grant lung-demo v1, 2 of 2 custodians")
    table.add_row(f"{DONE} staged", _staged(entries))
    table.add_row(f"{DONE} ran", _ran(facts))
    level = isolation.level(facts["isolation"])
    mark = DONE if isolation.is_contained(level.name) else MIND
    table.add_row(f"{mark} isolation", f"{level.name}: {level.meaning}")
    table.add_row(f"{DONE} released", _released(facts, entries))
    table.add_row(f"{DONE} destroyed", _destroyed(entries))
    found, elsewhere = facts["in_source"], facts["elsewhere"]
    mark = DONE if elsewhere == 0 else "[red]✗[/]"
    table.add_row(f"{mark} searched", f"{found} canaries: {found} found in the source, {elsewhere} elsewhere")
    console.print(Rule(f"[bold]The whole life, in {seconds:.0f} seconds[/]", align="left"))
    console.print(table)
    shown = _relative(folder)
    program = _relative(Path(sys.argv[0]).absolute()) if Path(sys.argv[0]).name == "hdrs-hpc" else "hdrs-hpc"
    trust = f"--trust {shown}/trust-root.json"
    console.print(f"\nLook   {shown}/released/spacing.png", highlight=False)
    console.print(f"Read   {shown}/staging-report-1.html", highlight=False)
    console.print(
        f"Prove  {program} certificate verify {shown}/certificate.json {trust}",
        highlight=False,
        soft_wrap=True,
    )
    console.print("Next   make demo CLUSTER=slurm · docs/ai-developer.md", highlight=False)


def _staged(entries: list[Any]) -> str:
    sealed = _details(entries, "copy-sealed")
    items = sum(detail["items"] for detail in sealed)
    refused = sum(detail["refused"] for detail in sealed)
    opted_out = sum(detail["opted-out"] for detail in sealed)
    objects = sum(detail["objects"] for detail in sealed)
    about = max((detail["opt-out-about"] for detail in sealed), default=0)
    return (
        f"{items} files as {objects} sealed objects, {refused} refused, {opted_out} of patients who opted out "
        f"(lists of up to {about})"
    )


def _ran(facts: dict[str, Any]) -> str:
    first, second = facts["jobs"]
    progress = facts["job"]["attempts"][-1]["progress"] or {}
    read = progress.get("bytes-read", 0) / 1e6
    items = progress.get("items-read", 0)
    return (
        f"job {first}: {items} series and slides, {read:.0f} MB through the agent, Dask over TLS; "
        f"job {second}: own code"
    )


def _released(facts: dict[str, Any], entries: list[Any]) -> str:
    count = len(_details(entries, "artefact-released"))
    primary = secondary = 0
    for artefact in facts["review"]["outputs"]:
        repaired = artefact["report"].get("repaired", {})
        primary += repaired.get("counts-suppressed-as-small", 0)
        secondary += repaired.get("counts-suppressed-to-protect-them", 0)
    return f"{count} artefacts; {primary} cells under 10 suppressed, {secondary} more to protect them"


def _destroyed(entries: list[Any]) -> str:
    begun = _moment(entries, "closure-accepted")
    ended = max(_moments(entries, "key-destroyed"))
    objects = sum(d["objects"] for e in ("copy-removed", "attempt-removed") for d in _details(entries, e))
    keys = len(_details(entries, "key-destroyed"))
    return (
        f"{keys} keys and the project's own, the last within {(ended - begun).total_seconds():.0f} s of closing; "
        f"{objects} objects; certificate verified"
    )


def _details(entries: list[Any], event: str) -> list[Any]:
    return [entry["detail"] for entry in entries if entry["event"] == event]


def _moments(entries: list[Any], event: str) -> Iterable[datetime]:
    return [datetime.fromisoformat(entry["at"]) for entry in entries if entry["event"] == event]


def _moment(entries: list[Any], event: str) -> datetime:
    return next(iter(_moments(entries, event)))


def _relative(folder: Path) -> str:
    try:
        return str(folder.relative_to(Path.cwd()))
    except ValueError:
        return str(folder)
