"""How ``spec`` shows what it found and what is about to be signed."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hdrs_hpc.client.speccheck import SpecReport
from hdrs_hpc.client.specdraft import DraftedSpec


def show_report(report: SpecReport, *, error: bool = False) -> None:
    """Every fault with its line, code and remedy; then each rule that was applied."""
    console = Console(stderr=error, highlight=False)
    name = escape(report.path.name)
    for item in report.findings:
        line = f":{item.line}" if item.line else ""
        where = f" [dim]{escape(item.where)}[/dim]" if item.where else ""
        console.print(f"[red]✗[/red] {name}{line}{where}  [bold]{item.code}[/bold]", soft_wrap=True)
        console.print(f"    {escape(item.message)}", soft_wrap=True)
        console.print(f"    [cyan]→ {escape(item.remedy)}[/cyan]", soft_wrap=True)
    for item in report.warnings:
        console.print(f"[yellow]![/yellow] {escape(item.where)}  {item.code}", soft_wrap=True)
        console.print(f"    {escape(item.message)}. {escape(item.remedy)}", soft_wrap=True)
    if report.decision is not None:
        table = Table(box=None, show_header=False, padding=(0, 1))
        for rule in report.decision.rules:
            mark = "[green]✓[/green]" if rule.ok else "[red]✗[/red]"
            table.add_row(mark, rule.rule, escape(rule.message))
        console.print(table)
    for text in report.untold:
        console.print(f"[yellow]?[/yellow] not applied here, the broker will: {escape(text)}", soft_wrap=True)
    console.print(_verdict(report), soft_wrap=True)


def show_payload(drafted: DraftedSpec) -> None:
    """The whole that is signed, on standard error, so that standard output stays for machines."""
    console = Console(stderr=True, highlight=False)
    console.print("[bold]You are about to sign exactly this:[/bold]")
    console.print_json(drafted.payload.decode("utf-8"), ensure_ascii=False)
    if drafted.bundle is not None:
        console.print(f"with a bundle of {len(drafted.bundle):,} bytes")


def _verdict(report: SpecReport) -> str:
    if not report.ok:
        count = len(report.findings)
        return f"[red]{count} {'fault' if count == 1 else 'faults'}[/red]; `hdrs-hpc explain CODE` tells more"
    if report.decision is None:
        return (
            "[green]The form is right.[/green] No hdrs-hpc.toml is near and no login was used, "
            "so no project's rules were applied."
        )
    by = f" by what {report.broker} shows now" if report.broker else ""
    return f"[green]This job may run[/green]{by}, at isolation {report.decision.isolation}."
