"""Find whole-number moves along linear relations: the proof that a suppressed cell could be something else.

The search is a floating-point simplex, so it may err; what it gives is checked in whole numbers before it
counts as a proof.  A missed proof costs one suppression more, never one too few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_EPS = 1e-7
_MAX_PIVOTS = 5000
_MAX_BRANCHES = 40

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Moves:
    """Homogeneous relations ``matrix @ d = 0`` with ``lower ≤ d ≤ upper`` and a price for each unit moved.

    ``matrix`` (relations, cells) of whole numbers; ``lower ≤ 0 ≤ upper``, (cells,), may be infinite.
    """

    matrix: NDArray[np.int64]
    lower: Vector
    upper: Vector
    price: Vector


def find_move(moves: Moves, cell: int, by: int) -> NDArray[np.int64] | None:
    """A cheap whole-number ``d`` with ``d[cell] == by`` that keeps all relations and bounds, or None."""
    if not moves.lower[cell] <= by <= moves.upper[cell]:
        return None
    others = np.flatnonzero(np.arange(moves.matrix.shape[1]) != cell)
    matrix = moves.matrix[:, others].astype(np.float64)
    # d = up - down, both ≥ 0, so that the price of a move is linear
    both = np.hstack([matrix, -matrix])
    wanted = -moves.matrix[:, cell].astype(np.float64) * by
    low = np.zeros(both.shape[1])
    high = np.concatenate([moves.upper[others], -moves.lower[others]])
    price = np.concatenate([moves.price[others], moves.price[others]])
    stack = [(low, high)]
    for _ in range(_MAX_BRANCHES):
        if not stack:
            return None
        low, high = stack.pop()
        found = _simplex(both, wanted - both @ low, high - low, price)
        if found is None:
            continue
        found += low
        whole = np.rint(found)
        off = np.abs(found - whole)
        if off.max(initial=0.0) > 1e-5:
            index = int(off.argmax())
            left, right = high.copy(), low.copy()
            left[index], right[index] = np.floor(found[index]), np.ceil(found[index])
            stack += [(right, high), (low, left)]
            continue
        move = np.zeros(moves.matrix.shape[1], dtype=np.int64)
        half = len(others)
        move[others] = (whole[:half] - whole[half:]).astype(np.int64)
        move[cell] = by
        return move if _holds(moves, move) else None
    return None


def _holds(moves: Moves, move: NDArray[np.int64]) -> bool:
    in_bounds = bool(np.all(move >= moves.lower) and np.all(move <= moves.upper))
    return in_bounds and not np.any(moves.matrix @ move)


def _simplex(matrix: Matrix, wanted: Vector, upper: Vector, price: Vector) -> Vector | None:
    """Minimise ``price @ x`` under ``matrix @ x = wanted``, ``0 ≤ x ≤ upper``; None when there is no such x.

    Two-phase primal simplex with upper bounds (the textbook method, e.g. Chvátal, Linear Programming, ch. 8):
    a variable outside the basis rests at its lower or its upper bound.
    """
    if np.any(upper < 0):
        return None
    rows, columns = matrix.shape
    sign = np.where(wanted < 0, -1.0, 1.0)
    table = np.hstack([matrix * sign[:, None], np.eye(rows)])
    bound = np.concatenate([upper, np.full(rows, np.inf)])
    state = _State(
        table, np.abs(wanted), bound, np.arange(columns, columns + rows), np.zeros(columns + rows, bool)
    )
    if not state.minimise(np.concatenate([np.zeros(columns), np.ones(rows)])):
        return None
    if state.values[state.basis >= columns].sum() > 1e-6:
        return None
    state.bound[columns:] = 0.0
    if not state.minimise(np.concatenate([price, np.zeros(rows)])):
        return None
    solution = np.where(state.at_upper, state.bound, 0.0)
    solution[state.basis] = state.values
    return solution[:columns]


@dataclass
class _State:
    table: Matrix
    values: Vector  # of the basic variables
    bound: Vector
    basis: NDArray[np.int64]
    at_upper: NDArray[np.bool_]

    def minimise(self, price: Vector) -> bool:
        for pivot in range(_MAX_PIVOTS):
            reduced = price - price[self.basis] @ self.table
            gain = np.where(self.at_upper, reduced, -reduced)
            gain[self.basis] = 0.0
            gain[self.bound <= 0.0] = 0.0  # a variable that can't move
            candidates = np.flatnonzero(gain > _EPS)
            if not len(candidates):
                return True
            # steepest first; after a while Bland's rule, which can't cycle
            entering = int(candidates[gain[candidates].argmax()] if pivot < 500 else candidates[0])
            if not self._move(entering):
                return False
        return False

    def _move(self, entering: int) -> bool:
        direction = -1.0 if self.at_upper[entering] else 1.0
        alpha = self.table[:, entering] * direction
        limits = np.full(len(alpha), np.inf)
        falls, rises = alpha > _EPS, alpha < -_EPS
        limits[falls] = self.values[falls] / alpha[falls]
        limits[rises] = (self.bound[self.basis[rises]] - self.values[rises]) / -alpha[rises]
        limits = np.maximum(limits, 0.0)
        nearest = limits.min(initial=np.inf)
        step = min(nearest, self.bound[entering])
        if not np.isfinite(step):
            return False
        self.values -= alpha * step
        if self.bound[entering] <= nearest:
            self.at_upper[entering] = not self.at_upper[entering]
            return True
        ties = np.flatnonzero(limits <= nearest + 1e-12)
        row = int(ties[self.basis[ties].argmin()])
        leaving = int(self.basis[row])
        self.at_upper[leaving] = bool(rises[row])
        arrives = self.bound[entering] - step if self.at_upper[entering] else step
        self.at_upper[entering] = False
        self.table[row] /= self.table[row, entering]
        factors = self.table[:, entering].copy()
        factors[row] = 0.0
        touched = np.flatnonzero(factors)
        self.table[touched] -= np.outer(factors[touched], self.table[row])
        self.basis[row] = entering
        self.values[row] = arrives
        return True
