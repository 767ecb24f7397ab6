"""The tables of cohort-summary: totals, and ranges pooled until nobody stands alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdrs_hpc.workloads.cohort_tables import cohort, slice_spacing_mm, spacing_bins
from hdrs_hpc.workloads.pixels import Moments, stain


def row(
    patient: str | None, modality: str = "CT", part: str | None = "CHEST", mm: float = 1.0
) -> dict[str, Any]:
    return {"patient": patient, "modality": modality, "body_part": part, "spacing_mm": [mm, 0.5, 0.5]}


def test_a_patient_counts_once_in_every_total() -> None:
    rows = [row("A"), row("A"), row("A", part="HEAD"), row("B", "MR", None), row("A", "MR", "HEAD")]
    assert cohort(rows) == [
        ("CT", "CHEST", 1, 2),
        ("CT", "HEAD", 1, 1),
        ("CT", "TOTAL", 1, 3),
        ("MR", "HEAD", 1, 1),
        ("MR", "UNKNOWN", 1, 1),
        ("MR", "TOTAL", 2, 2),
        ("TOTAL", "TOTAL", 2, 5),
    ]


rows_of_any_kind = st.lists(
    st.builds(
        row,
        st.sampled_from([None, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]),
        st.sampled_from(["CT", "MR", "PT"]),
        st.just("CHEST"),
        st.sampled_from([0.3, 0.5, 0.7, 1.0, 1.25, 2.5, 5.0, 7.0, 10.0, 40.0]),
    ),
    max_size=120,
)


@given(rows_of_any_kind, st.integers(1, 12))
def test_every_range_holds_enough_patients_or_is_the_only_one(rows: list[dict[str, Any]], least: int) -> None:
    made = spacing_bins(rows, least)
    assert sum(each.n_series for each in made) == len(rows)
    assert all(each.n_patients >= least for each in made) or len(made) == 1
    for group in {each.group for each in made}:
        own = [each for each in made if each.group == group]
        assert own[0].low_mm == 0.0
        assert own[-1].high_mm is None
        assert [each.high_mm for each in own[:-1]] == [each.low_mm for each in own[1:]]


def test_a_small_modality_is_pooled_with_the_others() -> None:
    rows = [row(f"P{n}") for n in range(12)] + [row("Q", "MR")]
    (only,) = spacing_bins(rows, 10)
    assert (only.group, only.n_series, only.n_patients) == ("all series", 13, 13)


@pytest.mark.parametrize(
    ("spacing", "found"),
    [([2.5, 0.7, 0.7], 2.5), ([0.5, 0.5], None), ([None, 0.5, 0.5], None), (None, None)],
)
def test_slice_spacing_is_the_first_of_three_axes(
    spacing: list[float | None] | None, found: float | None
) -> None:
    assert slice_spacing_mm({"spacing_mm": spacing}) == found


def test_moments_put_together_are_those_of_the_whole() -> None:
    values = np.random.default_rng(0).normal(-300, 500, 10_000)
    parts = [
        Moments(len(p), float(p.mean()), float(((p - p.mean()) ** 2).sum()))
        for p in np.split(values, [7, 900])
    ]
    whole = Moments.together([*parts, Moments(0, 0.0, 0.0)])
    assert whole.n == 10_000
    assert whole.mean == pytest.approx(values.mean())
    assert whole.sd == pytest.approx(values.std())


def test_pure_stains_are_told_apart_and_glass_is_no_tissue() -> None:
    def pixels(density: list[float]) -> np.ndarray[Any, Any]:
        rgb = np.clip(256 * 10 ** -np.array(density) - 1, 0, 255).astype(np.uint8)
        return np.broadcast_to(rgb[:, None, None], (3, 8, 8)).copy()

    blue, pink = stain(pixels([0.65, 0.70, 0.29])), stain(pixels([0.07, 0.99, 0.11]))
    assert blue.haematoxylin > 0.9 > 0.1 > abs(blue.eosin)
    assert pink.eosin > 0.9 > 0.1 > abs(pink.haematoxylin)
    assert stain(np.full((3, 8, 8), 250, np.uint8)).tissue_share == 0
