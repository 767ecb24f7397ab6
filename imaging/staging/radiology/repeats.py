"""Several images at one position: what tells them apart becomes the axis t, or splits the stack.

A coordinate is believed where its values form a grid with the positions (each value at nearly every position once);
else only order within a position is left.  Values that lack positions become items of their own, so that no cell of
an array is ever invented.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from imaging.staging.radiology.frames import CLOCKS, Floats, Frames, Indices, runs
from imaging.staging.radiology.headers import Coordinate
from imaging.staging.radiology.volume import UNITS, AxisT

TOLERANCE: dict[Coordinate, float] = {
    "temporal-position": 0.5,
    "b-value": 0.5,
    "gradient-x": 1e-3,
    "gradient-y": 1e-3,
    "gradient-z": 1e-3,
    "inversion-time-ms": 0.5,
    "flip-angle-deg": 0.1,
    "repetition-time-ms": 0.5,
    "cardiac-phase-percent": 0.1,
    "respiratory-phase-percent": 0.1,
    "mosaic-number": 0.5,
    "time-offset-ms": 0.5,
    "trigger-time-ms": 0.5,
    "acquisition-number": 0.5,
    "acquisition-time-s": 1e-3,
    "content-time-s": 1e-3,
}
"""How far written values may lie apart and mean one; in the order in which coordinates are believed.

Ordinals and what the sequence was set to come before clocks, which some makers count slice by slice."""

_ORDER: tuple[Coordinate, ...] = (
    "trigger-time-ms",
    "time-offset-ms",
    "acquisition-number",
    "acquisition-time-s",
    "instance-number",
    "content-time-s",
    "frame-number",
)
"""What orders images of one position where no coordinate forms a grid.

Content time comes late: it tells when an image was made, and reconstruction takes images in any order."""
_MEASURED: tuple[Coordinate, ...] = (
    "trigger-time-ms",
    "time-offset-ms",
    "acquisition-time-s",
    "content-time-s",
)
_BY_HEART: tuple[Coordinate, ...] = (
    *_MEASURED,
    "inversion-time-ms",
    "repetition-time-ms",
    "cardiac-phase-percent",
    "respiratory-phase-percent",
)
"""What slices of one heart or breath hold each may have their own values of."""
_GRADIENT: tuple[Coordinate, ...] = ("gradient-x", "gradient-y", "gradient-z")
CONTRASTS: tuple[tuple[Coordinate, float, str], ...] = (
    ("tube-voltage-kv", 0.5, "multi-energy"),
    ("echo-time-ms", 0.02, "multi-echo"),
    ("echo-number", 0.5, "multi-echo"),
)
"""What parts images of one position into items: coordinate, how far its values may lie apart, note."""
_WORDS = (("phase-encoding", "several-phase-encodings"), ("acquired", "several-acquisitions"))
"""The same of what is no number."""
_SEQUENCE = 3
"""Images at every position from which on they are taken for a sequence though no coordinate says so; two are
rather one image sent twice, or two states without a name."""
_FILLED = 0.5
"""Part of a coordinate's cells that must be there before it is believed."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """``cells`` (t, z): frames by index, every position ascending; with what t means where there is more than one."""

    cells: Indices
    axis_t: AxisT | None


@dataclass(frozen=True, slots=True)
class Arranged:
    grids: tuple[Grid, ...]
    notes: tuple[str, ...]


def contrasts(frames: Frames, place: Indices) -> tuple[NDArray[np.intp], str] | None:
    """(n,) labels by echo, tube voltage, phase encoding or way of acquisition and the note, if images of one position
    have several.

    These are split rather than kept as an axis because each has a contrast of its own, and since tools
    (dcm2niix, viewers) do so too; a value that only differs from slice to slice splits nothing.
    """
    for name, tolerance, note in CONTRASTS:
        values = frames.coordinates.get(name)
        if values is not None:
            labels = runs(values, tolerance)
            if len(set(labels)) > 1 and _pairs(place, labels) > len(set(place)):
                return labels, note
    for word, note in _WORDS:
        if word in frames.words and len(set(frames.words[word].tolist())) > 1:
            _, labels = np.unique(frames.words[word], return_inverse=True)
            repeated = _pairs(place, labels) > len(set(place))
            if repeated or (word == "phase-encoding" and _contradict(set(frames.words[word].tolist()))):
                return np.asarray(labels.reshape(-1), dtype=np.intp), note
    return None


def _contradict(encodings: set[str]) -> bool:
    """Whether axes or polarities of phase encoding are told that no one acquisition has, wherever its slices lie."""
    axes = {encoding.rstrip("+-") for encoding in encodings} - {""}
    return len(axes) > 1 or len({encoding[-1:] for encoding in encodings} & {"+", "-"}) > 1


def arrange(frames: Frames, place: Indices) -> Arranged:
    """Order frames whose positions ``place`` (n,) repeat into one or more full grids."""
    notes: list[str] = []
    key = np.zeros(len(frames), dtype=np.intp)
    used: list[Coordinate] = []
    cells = _pairs(place, key)
    positions = len(set(place))
    regular = len(set(np.bincount(place))) == 1
    for name, tolerance in TOLERANCE.items():
        if cells == len(frames):
            break
        values = frames.coordinates.get(name)
        if values is None:
            continue
        finer = _combined(key, runs(values, tolerance))
        found = _pairs(place, finer)
        room = positions * (int(finer.max()) + 1)
        if regular and name in _BY_HEART and found < room:
            continue  # nothing is missing: some slices have times of their own
        if found > cells and found > _FILLED * room:
            key, cells = finer, found
            used.append(name)
    if cells < len(frames):
        key, told = _ranked(frames, place, key)
        used += told
    by_places = _same_places(place, key)
    if not used:
        if len(by_places) > 1 or len(by_places[0]) < _SEQUENCE:
            by_places = [[one] for keys in by_places for one in keys]
            notes.append("repeated-positions")
        else:
            notes.append("order-by-repeat")
    elif len(by_places) > 1:
        notes.append("incomplete-grid")
    grids = []
    for keys in by_places:
        table = _cells(place, key, keys)
        axis = _axis(frames, table, used) if len(table) > 1 else None
        if axis is not None and axis.per_slice:
            notes.append("per-slice-times")
        grids.append(Grid(table, axis))
    return Arranged(tuple(grids), tuple(sorted({note for note in notes if note})))


def _pairs(place: Indices, key: Indices) -> int:
    """How many different (place, key) there are."""
    return len(np.unique(_combined(place, key)))


def _combined(coarse: Indices, fine: Indices) -> Indices:
    """(n,) labels, ascending by ``coarse``, then by ``fine``."""
    span = int(fine.max()) - int(fine.min()) + 1
    _, labels = np.unique(coarse * span + (fine - fine.min()), return_inverse=True)
    return np.asarray(labels.reshape(-1), dtype=np.intp)


def _ranked(frames: Frames, place: Indices, key: Indices) -> tuple[Indices, list[Coordinate]]:
    """Keys made finer by each frame's rank among those of its place and key; the coordinate that tells them apart."""
    told = [
        np.where(np.isfinite(values), values, -np.inf)
        for name in _ORDER
        if (values := frames.coordinates.get(name)) is not None
    ]
    order = np.lexsort((np.arange(len(frames)), *reversed(told), key, place))
    cell = _combined(place, key)[order]
    first = np.flatnonzero(np.diff(cell, prepend=-1))
    rank = np.empty(len(frames), dtype=np.intp)
    rank[order] = np.arange(len(frames)) - np.repeat(first, np.diff(np.append(first, len(frames))))
    finer = _combined(key, rank)
    for name in _MEASURED:
        values = frames.coordinates.get(name)
        if values is not None and np.isfinite(values).all():
            steps = np.diff(values[order])[np.diff(cell) == 0]
            if (steps > TOLERANCE[name]).all():
                return finer, [name]
    return finer, []


def _same_places(place: Indices, key: Indices) -> list[list[int]]:
    """Keys (ascending) that have the same set of positions, those with the most positions first."""
    sets: dict[bytes, list[int]] = defaultdict(list)
    sizes: dict[bytes, int] = {}
    order = np.lexsort((place, key))
    bounds = np.append(np.flatnonzero(np.diff(key[order], prepend=-1)), len(key))
    for start, stop in pairwise(bounds):
        which = order[start:stop]
        mark = place[which].tobytes()
        sets[mark].append(int(key[which[0]]))
        sizes[mark] = stop - start
    return [sets[mark] for mark in sorted(sets, key=lambda one: (-sizes[one], sets[one]))]


def _cells(place: Indices, key: Indices, keys: Sequence[int]) -> Indices:
    which = np.flatnonzero(np.isin(key, keys))
    return which[np.lexsort((place[which], key[which]))].reshape(len(keys), -1)


def _axis(frames: Frames, cells: Indices, used: Sequence[Coordinate]) -> AxisT:
    """What t means: the first coordinate that told its images apart; beside it, all that vary with t alone."""
    told: dict[Coordinate, AxisT] = {}
    for name in (*TOLERANCE, "echo-time-ms"):
        values = frames.coordinates.get(name)
        if values is None:
            continue
        table = values[cells]
        if name in _GRADIENT:
            table = np.nan_to_num(table)  # b = 0 and trace images have no direction
        if not np.isfinite(table).all():
            continue
        if name in CLOCKS:
            table = table - table.min()  # a time of day would tell when the patient was there
        spread = bool(np.ptp(table, axis=1).max() > TOLERANCE.get(name, 0.02))
        firsts = table.min(axis=1)
        if spread and name not in used and not (name in CLOCKS and (np.diff(firsts) > 0).all()):
            continue
        if np.ptp(firsts) > 0:
            meaning, unit = UNITS[name]
            told[name] = AxisT(meaning, unit, _rounded(firsts), per_slice=spread)
    if "b-value" not in told and not any(name in used for name in _GRADIENT):
        told = {name: axis for name, axis in told.items() if name not in _GRADIENT}
    main = next((name for name in used if name in told and name not in _GRADIENT), None)
    if main is None:
        index = AxisT("index", "", tuple(float(number) for number in range(len(cells))))
        return AxisT(index.meaning, index.unit, index.values, tuple(told.values()))
    axis = told.pop(main)
    return AxisT(axis.meaning, axis.unit, axis.values, tuple(told.values()), axis.per_slice)


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)
