"""How commands show things: JSON for machines, short tables for people, what is signed on standard error."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import click

DONE = click.style("✓", fg="green")


def emit_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def done(text: str, *, err: bool = False) -> None:
    """``✓ text``."""
    click.echo(f"{DONE} {text}", err=err)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """A plain table; ``empty`` is said where there is no row.  What does not fit the screen is wrapped."""
    if not rows:
        click.echo(empty)
        return
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    # Where nobody looks, such as in a pipe, nothing is cut off to fit a screen.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 240
    simple = all(cell.isascii() and cell.isprintable() for row in cells for cell in row)
    if simple and sum(widths) + 2 * len(widths) <= width:
        for number, row in enumerate([[*columns], *cells]):
            line = "  ".join(map(str.ljust, row, widths)).rstrip()
            click.echo(line if number else click.style(line, bold=True))
        return
    _wrapped(columns, cells, width)


def _wrapped(columns: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> None:
    """By rich, which takes a tenth of a second to import: only where a table does not fit without it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    made = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in cells:
        made.add_row(*map(escape, row))
    Console(highlight=False, width=width).print(made)


def facts(pairs: Sequence[tuple[str, object]], *, err: bool = False) -> None:
    """``name  value`` lines, names aligned; what is None is left out."""
    shown = [(name, value) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        lines = str(value).splitlines() or [""]
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {lines[0]}", err=err)
        for line in lines[1:]:
            click.echo(f"{' ' * width}  {line}", err=err)


def payload(raw: bytes) -> None:
    """The whole that is about to be signed, on standard error: standard output stays for machines."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    console.print("[bold]You are about to sign exactly this:[/bold]")
    console.print_json(raw.decode("utf-8"), ensure_ascii=False)


def size(count: int | None) -> str:
    """Bytes for people: ``1.4 MiB``."""
    if count is None:
        return ""
    number, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == "TiB":
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


def short(digest: str | None) -> str:
    """A digest as people compare it at a glance; the whole one is in ``--json``."""
    return "" if digest is None else f"{digest[:19]}…" if digest.startswith("sha256:") else digest


def count(number: int, noun: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
