from __future__ import annotations

import pyarrow as pa
import pytest

from imaging.reading import split_by_patient

SHARES = {"train": 0.7, "validation": 0.2, "test": 0.1}


def cohort(patients: list[str | None]) -> pa.Table:
    items = [f"series/{number}" for number in range(len(patients))]
    return pa.table({"item": items, "patient": pa.array(patients, pa.string())})


def test_no_patient_is_in_two_splits_and_nobody_is_lost() -> None:
    table = cohort([f"P{number % 300}" for number in range(1000)])
    splits = split_by_patient(table, SHARES)
    patients = {name: set(rows["patient"].to_pylist()) for name, rows in splits.items()}
    assert sum(map(len, patients.values())) == 300 == len(set().union(*patients.values()))
    assert sum(rows.num_rows for rows in splits.values()) == 1000
    assert len(patients["train"]) / 300 == pytest.approx(0.7, abs=0.08)
    assert len(patients["test"]) / 300 == pytest.approx(0.1, abs=0.06)


def test_patients_who_join_later_move_nobody() -> None:
    before = split_by_patient(cohort([f"P{number}" for number in range(50)]), SHARES)
    after = split_by_patient(cohort([f"P{number}" for number in range(80)]), SHARES)
    for name, rows in before.items():
        assert set(rows["patient"].to_pylist()) <= set(after[name]["patient"].to_pylist())


def test_another_salt_is_another_split() -> None:
    table = cohort([f"P{number}" for number in range(50)])
    assert split_by_patient(table, SHARES, "a")["train"] != split_by_patient(table, SHARES, "b")["train"]


def test_items_of_unknown_patients_are_refused_unless_each_shall_stand_alone() -> None:
    table = cohort(["P1", None, None])
    with pytest.raises(ValueError, match="names no patient"):
        split_by_patient(table, SHARES)
    splits = split_by_patient(table, SHARES, unknown_apart=True)
    assert sum(rows.num_rows for rows in splits.values()) == 3


@pytest.mark.parametrize("shares", [{}, {"train": 0.5}, {"train": 1.5, "test": -0.5}])
def test_shares_that_are_none_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        split_by_patient(cohort(["P1"]), shares)
