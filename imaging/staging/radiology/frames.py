"""Frames of one group as columns of numbers, so that 100,000 of them are sorted and split in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.staging.radiology.headers import Coordinate
from imaging.staging.radiology.volume import Slice

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

CLOCKS: tuple[Coordinate, ...] = ("acquisition-time-s", "content-time-s")
"""Times of day: only differences of them may reach a copy."""
_HALF_DAY_S = 43_200.0


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """``position`` (n, 3), ``orientation`` (n, 6), ``spacing`` (n, 2), NaN where absent; coordinates (n,) by name,
    NaN where a frame has none."""

    slices: tuple[Slice, ...]
    position: Floats
    orientation: Floats
    spacing: Floats
    coordinates: dict[Coordinate, Floats]
    words: dict[str, NDArray[np.str_]]
    """``phase-encoding`` and ``acquired`` (n,), where frames differ in them."""

    @classmethod
    def of(cls, slices: Sequence[Slice]) -> Frames:
        headers = [one.header for one in slices]
        names = sorted({name for header in headers for name in header.coordinates})
        nan3, nan6, nan2 = (np.nan,) * 3, (np.nan,) * 6, (np.nan,) * 2
        return cls(
            tuple(slices),
            np.array([header.position_mm or nan3 for header in headers], dtype=np.float64),
            np.array([header.orientation or nan6 for header in headers], dtype=np.float64),
            np.array([header.spacing_mm or nan2 for header in headers], dtype=np.float64),
            {
                name: _unwrapped(
                    name,
                    np.array([header.coordinates.get(name, np.nan) for header in headers], dtype=np.float64),
                )
                for name in names
            },
            {
                name: told
                for name, told in (
                    ("phase-encoding", np.array([header.phase_encoding for header in headers])),
                    ("acquired", np.array([header.acquired for header in headers])),
                )
                if len(set(told.tolist())) > 1
            },
        )

    def __len__(self) -> int:
        return len(self.slices)

    def take(self, which: Any) -> Frames:
        """Those that a mask or indices name, in that order."""
        at: Indices = np.flatnonzero(which) if np.asarray(which).dtype == bool else np.asarray(which, np.intp)
        return Frames(
            tuple(self.slices[place] for place in at),
            self.position[at],
            self.orientation[at],
            self.spacing[at],
            {name: values[at] for name, values in self.coordinates.items()},
            {name: values[at] for name, values in self.words.items()},
        )

    def parts(self, labels: NDArray[Any]) -> list[Frames]:
        """One table a label, in the order of the labels."""
        return [self.take(labels == label) for label in np.unique(labels)]

    @property
    def placed(self) -> NDArray[np.bool_]:
        """Which say position, orientation and spacing."""
        told = np.column_stack((self.position, self.orientation, self.spacing))
        return np.asarray(np.isfinite(told).all(axis=1))

    @property
    def believable(self) -> NDArray[np.bool_]:
        """Which have unit direction vectors at right angles, and a spacing and position that a scanner can have."""
        row, column = self.orientation[:, :3], self.orientation[:, 3:]
        with np.errstate(invalid="ignore"):
            return np.asarray(
                (np.abs(np.linalg.norm(row, axis=1) - 1) <= 1e-2)
                & (np.abs(np.linalg.norm(column, axis=1) - 1) <= 1e-2)
                & (np.abs(np.einsum("ij,ij->i", row, column)) <= 1e-2)
                & (self.spacing > 0).all(axis=1)
                & (self.spacing < 1000).all(axis=1)
                & (np.abs(self.position) <= 1e5).all(axis=1)
            )


def near(values: Floats, tolerance: float | Floats) -> Indices:
    """(n, k) vectors → (n,) labels: vectors within ``tolerance`` of a label's first, in every component, share it.

    Labels are numbered in ascending order of their first vector, so they do not depend on the order given.
    Rounding alone would split equal values that lie at a boundary.
    """
    unique, inverse = np.unique(values, axis=0, return_inverse=True)
    labels = np.full(len(unique), -1, dtype=np.intp)
    count = 0
    while (left := np.flatnonzero(labels < 0)).size:
        first = unique[left[0]]
        labels[left[(np.abs(unique[left] - first) <= tolerance).all(axis=1)]] = count
        count += 1
    return np.asarray(labels[inverse.reshape(-1)], dtype=np.intp)


def runs(values: Floats, tolerance: float) -> Indices:
    """(n,) numbers → (n,) labels, ascending: neighbours no further apart than ``tolerance`` share one; NaN is −1."""
    labels = np.full(len(values), -1, dtype=np.intp)
    told = np.flatnonzero(np.isfinite(values))
    order = told[np.argsort(values[told], kind="stable")]
    labels[order] = np.concatenate(([0], np.cumsum(np.diff(values[order]) > tolerance)))[: len(order)]
    return labels


def _unwrapped(name: Coordinate, values: Floats) -> Floats:
    """Times of day over midnight go on counting."""
    if name not in CLOCKS or not np.isfinite(values).any():
        return values
    if np.nanmax(values) - np.nanmin(values) > _HALF_DAY_S:
        return np.where(values < _HALF_DAY_S, values + 2 * _HALF_DAY_S, values)
    return values
