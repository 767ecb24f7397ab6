"""The search for moves: what it gives holds, and where whole-number moves exist in flow tables it finds one."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hdrs_hpc.catalogue.outputs.checking.witness import Moves, find_move

matrices = st.integers(1, 3).flatmap(
    lambda rows: st.lists(
        st.lists(st.sampled_from([-1, 0, 1]), min_size=5, max_size=5), min_size=rows, max_size=rows
    )
)


@settings(deadline=None)
@given(matrix=matrices, values=st.lists(st.integers(0, 4), min_size=5, max_size=5), by=st.integers(-3, 3))
def test_move_holds_and_is_found_where_one_exists(
    matrix: list[list[int]], values: list[int], by: int
) -> None:
    made = np.array(matrix, dtype=np.int64)
    lower, upper = -np.array(values, dtype=float), np.full(5, 4.0)
    move = find_move(Moves(made, lower, upper, np.ones(5)), 0, by)
    exists = any(
        not np.any(made @ np.array([by, *rest]))
        for rest in itertools.product(*(range(-value, 5) for value in values[1:]))
        if -values[0] <= by <= 4
    )
    if move is not None:
        assert move[0] == by
        assert not np.any(made @ move)
        assert np.all(move >= lower) and np.all(move <= upper)
    assert (move is not None) == exists


def test_cheap_cells_are_moved_first() -> None:
    matrix = np.array([[1, 1, 1, 1]], dtype=np.int64)
    moves = Moves(matrix, np.full(4, -9.0), np.full(4, np.inf), np.array([1.0, 5.0, 0.1, 3.0]))
    move = find_move(moves, 0, 4)
    assert move is not None
    assert move.tolist() == [4, 0, -4, 0]


def test_no_relation_means_free_to_move() -> None:
    moves = Moves(np.zeros((0, 1), dtype=np.int64), np.array([-3.0]), np.array([np.inf]), np.ones(1))
    assert find_move(moves, 0, 6) is not None
    assert find_move(moves, 0, -4) is None
