"""How a page is laid out: headings, named values, tables, sentences, in lines of plain text that fit the screen."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hdrs_hpc.forms.words import duration_text

_INDENT = "  "
FILLERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and signs that look like an empty place."""
_NARROWEST = 8
"""No column is made narrower than this to fit the screen."""


@dataclass(frozen=True)
class NamedValues:
    """Names with their values; what is None is left out."""

    pairs: Sequence[tuple[str, object]]


@dataclass(frozen=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


Block = NamedValues | Table | str
"""A string is a sentence or more; one that begins with ``- `` is an item of a list."""


@dataclass(frozen=True)
class Section:
    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    title: str
    sections: Sequence[Section]


def lines(sections: Sequence[Section], width: int) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it is a heading.  A section without content is left out."""
    for section in sections:
        if not section.blocks:
            continue
        yield "", False
        yield from ((line, True) for line in _wrapped(" ".join(section.heading.split("\n")), width))
        for place, block in enumerate(section.blocks):
            if place and isinstance(block, Table):
                yield "", False
            for line in _block(block, width - len(_INDENT)):
                yield f"{_INDENT}{line}".rstrip(), False


def printable(text: str) -> str:
    """A terminal must not obey what a name or a message holds, and nothing that is there may look like nothing."""
    seen = (
        char if char.isprintable() and char not in FILLERS else "\N{REPLACEMENT CHARACTER}" for char in text
    )
    return "".join(seen)


def count(number: int, noun: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(names: Sequence[str]) -> str:
    """``ada, bob and cy``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names) or "nobody"


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at.second else f"{at:%Y-%m-%d %H:%M} UTC"


def last_moment(end: datetime) -> str:
    """Of something that is over at ``end``: a whole last day is told as that day."""
    if (end.hour, end.minute, end.second) == (0, 0, 0):
        return f"the end of {end - timedelta(days=1):%Y-%m-%d} (UTC)"
    return moment(end)


def span(value: timedelta) -> str:
    """``14 days``, in the unit in which it was written."""
    text = duration_text(value)
    return count(int(text[:-1]), {"d": "day", "h": "hour", "m": "minute"}[text[-1]])


def _block(block: Block, width: int) -> Iterator[str]:
    if isinstance(block, NamedValues):
        yield from _named(block, width)
    elif isinstance(block, Table):
        yield from _table(block, width)
    else:
        yield from _wrapped(block, width)


def _named(values: NamedValues, width: int) -> Iterator[str]:
    shown = [(printable(name), str(value)) for name, value in values.pairs if value is not None]
    names = max((len(name) for name, _ in shown if len(name) <= width // 2), default=0)
    room = width - names - 2
    for name, value in shown:
        if len(name) > names or max(map(len, value.split()), default=0) > room:  # a digest, copied whole
            yield from _wrapped(name, width)
            yield from (f"{_INDENT}{line}" for line in _wrapped(value, width - 2))
            continue
        first, *further = _wrapped(value, room)
        yield f"{name:{names}}  {first}"
        yield from (f"{'':{names}}  {line}" for line in further)


def _table(table: Table, width: int) -> Iterator[str]:
    rows = [[str(name) for name in table.columns]]
    rows += [["" if cell is None else str(cell) for cell in row] for row in table.rows]
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    words = [
        max(len(word) for cell in column for word in [*cell.split(), ""])
        for column in zip(*rows, strict=True)
    ]
    while sum(sizes) + 2 * (len(sizes) - 1) > width and max(sizes) > _NARROWEST:
        # No word is broken, such as a fingerprint, while another column has room between its words.
        places = range(len(sizes))
        loose = [place for place in places if sizes[place] > max(words[place], _NARROWEST)]
        sizes[max(loose or places, key=sizes.__getitem__)] -= 1
    for row in rows:
        cells = [_wrapped(cell, size) for cell, size in zip(row, sizes, strict=True)]
        for place in range(max(map(len, cells))):
            pieces = (cell[place] if place < len(cell) else "" for cell in cells)
            yield "  ".join(f"{piece:{size}}" for piece, size in zip(pieces, sizes, strict=True)).rstrip()


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width``; only a line feed begins a new one, and several empty ones are shown as one."""
    found: list[str] = []
    for line in text.strip("\n").split("\n"):
        hanging = _INDENT if line.startswith("- ") else ""
        made = textwrap.wrap(printable(line), width, break_on_hyphens=False, subsequent_indent=hanging)
        if made or found[-1:] != [""]:
            found += made or [""]
    return found
