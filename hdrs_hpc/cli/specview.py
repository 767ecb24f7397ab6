"""How ``spec`` shows what it found and what is about to be signed."""

from __future__ import annotations

from pathlib import Path

import click

from hdrs_hpc.cli import options, signing
from hdrs_hpc.client.pages import job_spec
from hdrs_hpc.client.speccheck import SpecReport
from hdrs_hpc.client.specdraft import DraftedSpec
from hdrs_hpc.documents import kinds
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.policy.facts import Facts

_GOOD, _BAD = click.style("✓", fg="green"), click.style("✗", fg="red")


def show_report(report: SpecReport, *, error: bool = False) -> None:
    """Every fault with its line, code and remedy; then each rule that was applied."""
    lines: list[str] = []
    for item in report.findings:
        line = f":{item.line}" if item.line else ""
        where = f" {click.style(item.where, dim=True)}" if item.where else ""
        lines.append(f"{_BAD} {report.path.name}{line}{where}  {click.style(item.code, bold=True)}")
        lines.append(f"    {item.message}")
        lines.append("    " + click.style(f"→ {item.remedy}", fg="cyan"))
    for item in report.warnings:
        lines.append(f"{click.style('!', fg='yellow')} {item.where}  {item.code}")
        lines.append(f"    {item.message}. {item.remedy}")
    if report.decision is not None:
        rules = report.decision.rules
        width = max((len(rule.rule) for rule in rules), default=0)
        lines += [f" {_GOOD if rule.ok else _BAD}  {rule.rule:{width}}  {rule.message}" for rule in rules]
    unsure = click.style("?", fg="yellow")
    lines += [f"{unsure} not applied here, the broker will: {text}" for text in report.untold]
    for line in (*lines, _verdict(report)):
        click.echo(line, err=error)


def show_doubts(report: SpecReport) -> None:
    """What of a good spec may still be a fault: told on standard error before it is signed."""
    for item in report.warnings:
        click.echo(f"! {item.where}: {item.message}", err=True)
    for text in report.untold:
        click.echo(f"not applied here, the broker will: {text}", err=True)


def confirm(
    drafted: DraftedSpec,
    project: Facts | None,
    how: options.Signing,
    *,
    key: Path,
    root: TrustRoot,
    question: str = "Sign this?",
) -> None:
    """Show what the spec leads to, as far as the project is known here, and ask."""
    kind = kinds.JOB_SPEC
    unsigned = Envelope(kind.payload_type, drafted.payload)
    page = job_spec.page(drafted.spec, project)
    signing.confirm(kind, unsigned, page, how, key=key, root=root, question=question)


def _verdict(report: SpecReport) -> str:
    if not report.ok:
        count = len(report.findings)
        faults = click.style(f"{count} {'fault' if count == 1 else 'faults'}", fg="red")
        return f"{faults}; `hdrs-hpc explain CODE` tells more"
    if report.decision is None:
        good = click.style("The form is right.", fg="green")
        return f"{good} No hdrs-hpc.toml is near and no login was used, so no project's rules were applied."
    by = f" by what {report.broker} shows now" if report.broker else ""
    good = click.style("This job may run", fg="green")
    return f"{good}{by}, at isolation {report.decision.isolation}."
