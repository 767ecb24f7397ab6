"""``hdrs-hpc imaging stage --plan``: what a staging would do, told before anything is decoded or written."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hdrs_hpc.cli import show
from hdrs_hpc.cli.imaging_bars import Bars

if TYPE_CHECKING:
    from connectors.sources import Source
    from imaging.staging.engine import StagePlan
    from imaging.staging.forecast import Forecast
    from imaging.staging.pool import ParserPool

_UNDECIDED = {
    "files-with-one-uid": "files share an SOP Instance UID: their pixels decide which is taken",
    "text": "items would be searched for burned-in text, and may be kept out for it",
    "face": "head scans would be searched for a face, and may be kept out",
}


def tell_plan(
    source: Source, plan: StagePlan, parsers: ParserPool, reports: tuple[Path, ...], as_json: bool
) -> None:
    """Print the forecast, and write it (JSON) where reports are wanted."""
    from imaging.staging.forecast import foresee

    unreadable: Counter[str] = Counter()
    with contextlib.closing(source), Bars() as bars:
        forecast = foresee(
            source, plan, bars.staged, parsers=parsers, unreadable=lambda code: unreadable.update([code])
        )
    said = {**forecast.as_dict(), "unreadable": dict(unreadable)}
    for path in reports:
        path.write_text(json.dumps(said, indent=2) + "\n", "utf-8")
    if as_json:
        click.echo(json.dumps(said))
        return
    _print(forecast, unreadable)


def _print(forecast: Forecast, unreadable: Counter[str]) -> None:
    whole = forecast.total()
    click.echo(
        f"Would stage {show.count(whole.source_items, 'item')} of {forecast.items_in} "
        f"({show.size(whole.source_bytes)} of {show.size(forecast.bytes_in)})"
        f"{show.of_patients(forecast.patients)}:"
    )
    lines = [
        (
            show.count(one.items, kind),
            modality,
            f"{one.source_items} files",
            show.size(one.source_bytes),
            f"about {show.size(one.copy_bytes)} in {show.count(one.objects, 'object')}",
        )
        for (kind, modality), one in sorted(forecast.groups.items())
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo(
            "  " + "  ".join(cell.ljust(wide) for cell, wide in zip(line, widths, strict=True)).rstrip()
        )
    click.echo(
        f"The copy: about {show.size(whole.copy_bytes)}, {show.size(whole.at_most)} at most, in "
        f"{show.count(whole.objects, 'object')}. Guessed from headers:"
    )
    for how, count in sorted(forecast.basis.items()):
        click.echo(f"  {count:>6} {how}")
    if forecast.refused or unreadable:
        click.echo("Would stay out:")
    for code, refusal in forecast.as_dict()["refused"].items():
        named = ", ".join(f"{name}: {count}" for name, count in refusal.get("details", {}).items())
        how = " (failed)" if refusal["failed"] else " (skipped)" if code == "not-imaging" else ""
        click.echo(f"  {refusal['count']:>6} {code}{how}{f': {named}' if named else ''}")
    for code, count in sorted(unreadable.items()):
        click.echo(f"  {count:>6} {code} (the source lists them and can't give them)")
    for what, count in forecast.undecided.items():
        click.echo(f"Not known before decoding: {count} {_UNDECIDED[what]}.")
    click.echo("Nothing was decoded or written; pixels that prove broken are known only when they are.")
