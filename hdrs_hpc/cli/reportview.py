"""Prints a verification's report: what is proven, what to note, what can't be proven."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from hdrs_hpc.audit.report import Mark, Report

_SIGNS = {Mark.PROVEN: "[green]✓[/]", Mark.NOTE: "[yellow]![/]", Mark.NOT_PROVEN: "[dim]?[/]"}


def show(report: Report) -> None:
    """One line a finding, then the verdict."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[bold]{escape(report.about)}[/]")
    for line in report.lines:
        console.print(f"{_SIGNS[line.mark]} {escape(line.text)}")
    verdict = "verified" if report.anchored else "verified, self-consistent only"
    console.print(f"[bold green]{verdict}[/]   (? = what this can not prove)")
