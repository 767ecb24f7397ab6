"""Synthetic patients in a small set here; the whole set is scored by ``tests/tools/deid_score.py`` for the docs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from phantom_phi import TYPES, phantoms
from phantom_phi_score import Score, score

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import deid_score


@pytest.fixture(scope="module")
def small() -> Score:
    return deid_score.run(persons=18, each=7)


def test_every_type_of_the_challenge_is_scored(small: Score) -> None:
    assert set(small.counts) == set(TYPES)
    assert len(TYPES) == 10
    assert all(total > 0 for _, total in small.counts.values())


def test_the_score_is_above_the_best_of_the_challenge(small: Score) -> None:
    assert small.percent() > 99.93, small.failures[:10]


def test_no_inserted_identifier_is_left_in_any_byte(small: Score) -> None:
    assert small.leaks == []
    assert small.percent("text_removed") == 100.0, [f for f in small.failures if f[2].kind == "text_removed"]


def test_instances_of_many_kinds_are_scored() -> None:
    kinds = {str(phantom.dataset.SOPClassUID) for phantom in phantoms(5, 6)}
    assert len(kinds) >= 8


@pytest.mark.parametrize("kind", TYPES)
def test_the_scorer_sees_an_engine_that_gives_nothing(kind: str) -> None:
    assert score((p, None) for p in phantoms(4, 7)).percent(kind) == 0.0


@pytest.mark.parametrize("kind", ["text_removed", "uid_changed", "date_shifted", "pixels_hidden"])
def test_the_scorer_sees_an_engine_that_removes_nothing(kind: str) -> None:
    result = score((p, p.dataset) for p in phantoms(4, 7))
    assert result.percent(kind) < 2.0
    assert result.leaks
