"""What is compared: contenders that do the same work, the figure that is taken of each, and the goals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Cache = Literal["cold", "warm"]
Better = Literal["lower", "higher"]

WALL, PEAK, OUTPUT, GROWN = "wall-s", "peak-bytes", "output-bytes", "output-over-input"
WORK, SYNC = "work-s", "sync-s"
"""Figures that every run has; others are those that a contender reports itself."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A program, run as a process of its own.

    ``needs``: modules, programs written ``bin:name`` and libraries written ``lib:name``, without which it can't run.
    ``outputs``: a folder that is removed before a run and brought to the medium at its end, as part of its time.
    ``inputs``: what it reads.
    ``scale``: how many times more the whole work is than the part that it does; ``remark`` says so.  Its wall time is
    scaled by that, but for what it took to start, where it reports ``work-s``.
    """

    name: str
    argv: tuple[str, ...]
    needs: tuple[str, ...] = ()
    outputs: Path | None = None
    inputs: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    scale: float = 1.0
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Goal:
    """Either against ``peers`` (the best of them counts): our figure is at least ``least`` times as good.  Or, without
    peers, ``limit``: our figure is that or better.

    ``figure``: "" for the comparison's own.  ``source``: where the number comes from.
    """

    text: str
    source: str
    peers: tuple[str, ...] = ()
    least: float = 1.0
    limit: float | None = None
    figure: str = ""
    better: Better | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """A figure that others published, of their machine; never part of a goal."""

    name: str
    low: float
    high: float
    remark: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Contenders in turn, ours first.  ``figure`` is a name of :data:`WALL` …, or one that they report."""

    name: str
    title: str
    unit: str
    contenders: tuple[Contender, ...]
    goals: tuple[Goal, ...] = ()
    figure: str = WALL
    better: Better = "lower"
    cache: Cache = "warm"
    notes: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()
    rounds: int | None = None
    """Fewer than asked for, where one run says enough."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A comparison that can't be made here, and why."""

    name: str
    title: str
    reason: str
