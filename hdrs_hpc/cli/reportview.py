"""Prints a verification's report: what is proven, what to note, what can't be proven."""

from __future__ import annotations

import click

from hdrs_hpc.audit.report import Mark, Report

_SIGNS = {
    Mark.PROVEN: click.style("✓", fg="green"),
    Mark.NOTE: click.style("!", fg="yellow"),
    Mark.NOT_PROVEN: click.style("?", dim=True),
}


def show(report: Report) -> None:
    """One line a finding, then the verdict."""
    click.secho(report.about, bold=True)
    for line in report.lines:
        click.echo(f"{_SIGNS[line.mark]} {line.text}")
    verdict = "verified" if report.anchored else "verified, self-consistent only"
    click.echo(f"{click.style(verdict, fg='green', bold=True)}   (? = what this can not prove)")
