"""How the outcome of a try is shown to people."""

from __future__ import annotations

from pathlib import Path

import click

from hdrs_hpc.cli import reasons, show, watching
from hdrs_hpc.cli.trying.command import Outcome

_GOOD, _BAD = click.style("✓", fg="green"), click.style("✗", fg="red")
SHOWN_LINES = 12


def show_outcome(outcome: Outcome, kept: Path | None) -> None:
    """The end of the code, then every output as the reviewers would see it."""
    if outcome.reason is None or outcome.outputs:
        click.echo(f"{_GOOD} the code ended well after {outcome.code_s:.1f} s")
    else:
        _failed(outcome)
    if outcome.outputs:
        click.echo(f"The airlock would say, by the rules of {outcome.rules}:")
    for verdict in outcome.outputs:
        mark = _BAD if verdict.refused else _GOOD
        said = verdict.refused or f"to the reviewers, {show.size(len(verdict.rebuilt or b''))}"
        click.echo(f" {mark} {verdict.name} ({verdict.path})  {click.style(said, bold=True)}")
        for sentence in verdict.sentences or _explained(verdict.refused):
            click.echo(f"     {sentence}")
        _preview(verdict.rebuilt)
    if outcome.undeclared:
        click.echo("! files lie beside the declared outputs: they are never collected")
    if kept is not None and outcome.outputs:
        click.echo(f"Kept: {kept}/written as the code wrote it, {kept}/released as it would leave")


def _failed(outcome: Outcome) -> None:
    click.echo(f"{_BAD} the job would end as {click.style(str(outcome.reason), bold=True)}")
    if outcome.detail:
        click.echo(f"  {watching.crash(outcome.detail)}")
    if outcome.reason == "workload-failed" and not outcome.detail.get("bundle-line"):
        click.echo("    Where a module is missing above: install it beside hdrs-hpc, or give --runtime.")
    if outcome.reason != "workload-failed":  # of one's own code the crash itself tells what there is to tell
        for sentence in _explained(outcome.reason):
            click.echo(f"    {sentence}")


def _explained(code: str | None) -> tuple[str, ...]:
    """Meaning and remedy of a reason code."""
    found = next((item for item in reasons.known() if item.code == code), None)
    return (
        () if found is None else (found.meaning, found.remedy.replace("`hdrs-hpc job show JOB`", "the above"))
    )


def _preview(rebuilt: bytes | None) -> None:
    """The beginning of what would leave, where it is text."""
    try:
        lines = (rebuilt or b"").decode("utf-8").splitlines()
    except UnicodeDecodeError:
        return
    for line in lines[:SHOWN_LINES]:
        click.echo("     " + click.style(f"│ {line[:150]}", dim=True))
    if len(lines) > SHOWN_LINES:
        click.echo("     " + click.style(f"│ … {len(lines) - SHOWN_LINES} more lines", dim=True))
