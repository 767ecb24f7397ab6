"""How commands show things: JSON for machines, short tables and pages for people."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import click

from hdrs_hpc.client.pages import layout
from hdrs_hpc.client.pages.layout import count as count

WIDEST_PAGE = 80
DONE = click.style("✓", fg="green")
NARROWEST_LAST_COLUMN = 20
"""A last column with less room than this is not wrapped: it would be read with more pain than a long line."""


def emit_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def done(text: str, *, err: bool = False) -> None:
    """``✓ text``."""
    click.echo(f"{DONE} {text}", err=err)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str, drop: Sequence[str] = ()
) -> None:
    """A plain table; ``empty`` is said where there is no row.

    Where it is wider than the screen, the columns named in ``drop`` are left out in that order, and told; then the
    last column is wrapped.  Where nobody looks, such as in a pipe, nothing is left out or wrapped.
    """
    if not rows:
        click.echo(empty)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in table_lines(columns, rows, drop, width):
        click.echo(line)


def table_lines(
    columns: Sequence[str], rows: Sequence[Sequence[object]], drop: Sequence[str], width: int | None
) -> Iterator[str]:
    """The lines of :func:`table` on a screen of ``width`` characters; None: as wide as they come."""
    texts = [["" if cell is None else layout.printable(str(cell)) for cell in row] for row in rows]
    shown = list(range(len(columns)))
    hidden = []
    for name in drop:
        if width is None or _wide(columns, texts, shown) <= width:
            break
        shown.remove(columns.index(name))
        hidden.append(name)
    sizes = [_size(columns, texts, index) for index in shown]
    head = "  ".join(columns[index].ljust(size) for index, size in zip(shown, sizes, strict=True))
    yield click.style(head.rstrip(), bold=True)
    before = sum(sizes[:-1]) + 2 * (len(sizes) - 1)
    room = None if width is None or width - before < NARROWEST_LAST_COLUMN else width - before
    for row in texts:
        cells = [row[index].ljust(size) for index, size in zip(shown[:-1], sizes[:-1], strict=True)]
        last = row[shown[-1]]
        pieces = textwrap.wrap(last, room) if room is not None and len(last) > room else [last]
        yield "  ".join([*cells, *pieces[:1]]).rstrip()
        for piece in pieces[1:]:
            yield " " * before + piece
    if hidden:
        yield click.style(f"not shown (--json has it): {', '.join(hidden)}", dim=True)


def _wide(columns: Sequence[str], texts: Sequence[Sequence[str]], shown: Sequence[int]) -> int:
    return sum(_size(columns, texts, index) for index in shown) + 2 * (len(shown) - 1)


def _size(columns: Sequence[str], texts: Sequence[Sequence[str]], index: int) -> int:
    return max(len(columns[index]), *(len(row[index]) for row in texts))


def facts(pairs: Sequence[tuple[str, object]], *, err: bool = False) -> None:
    """``name  value`` lines, names aligned; what is None is left out."""
    shown = [(layout.printable(name), value) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        lines = [layout.printable(line) for line in str(value).split("\n")]
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {lines[0]}", err=err)
        for line in lines[1:]:
            click.echo(f"{' ' * width}  {line}", err=err)


def sections(found: Sequence[layout.Section], *, err: bool = False) -> None:
    """A page's sections, at most 80 columns wide, also where nobody looks."""
    width = min(WIDEST_PAGE, shutil.get_terminal_size((WIDEST_PAGE, 24)).columns)
    for line, heading in layout.lines(found, width):
        click.echo(click.style(line, bold=True) if heading else line, err=err)


def page(found: layout.Page, digest: str, signatures: Sequence[str]) -> None:
    """A document that is not being signed, with its digest and who has signed it."""
    head, foot = layout.Section(found.title, [digest]), layout.Section("Signatures", signatures)
    sections((head, *found.sections, foot))


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


def of_patients(number: int) -> str:
    """`` of 2 patients``; nothing where no item tells whose it is."""
    return f" of {count(number, 'patient')}" if number else ""
