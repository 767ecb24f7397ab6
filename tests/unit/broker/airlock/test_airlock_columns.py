"""Tables and metrics whose columns were declared one by one: a cell is exactly what its column says."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest
from pydantic import ValidationError

from hdrs_hpc.broker.workers.airlock.check import Checked, check_set
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs import columns as signed
from hdrs_hpc.catalogue.outputs.checking.declared import Declared
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from tests.support import declaring

AMPLE = InputFacts(people=100_000, items=1_000_000, instances=10_000_000, real=False)
RULES = OutputRules.from_dict({"table": {"min-count": 10, "round": 5}, "metrics": {}})
COUNT = {"count": "patients"}
MEAN = {"measure": "mean", "from": -10, "to": 50, "step": 0.25, "n": "n"}
COLUMNS: dict[str, Any] = {"site": {"key": ["north", "south"], "also": ["TOTAL"]}, "n": COUNT, "mean": MEAN}


def check(data: bytes, columns: dict[str, Any] = COLUMNS, cls: str = "table") -> Checked:
    declared = declaring.declared("t", columns, cls=cls)
    assert Declared.from_dict(declared.as_dict()) == declared
    return check_set([(declared, data)], RULES, bytes(16), AMPLE)[0]


def test_a_table_that_is_what_it_says_passes_with_its_measures_on_their_steps() -> None:
    checked = check(b"site,n,mean\nnorth,22,1.3\nsouth,38,-9.9\nTOTAL,60,2\n")
    assert checked.rebuilt == b"site,n,mean\nnorth,20,1.25\nsouth,40,-10\nTOTAL,60,2\n"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"site,n,mean\nwest,22,1.5\nsouth,38,2.5\n", "key-not-declared"),
        (b"site,n,mean\nNorth,22,1.5\nsouth,38,2.5\n", "key-not-declared"),
        (b"site,n,mean\n,22,1.5\nsouth,38,2.5\n", "key-not-declared"),
        (b"site,n,mean\nnorth,22,50.25\nsouth,38,2.5\n", "cell-outside-its-column"),
        (b"site,n,mean\nnorth,22,-10.25\nsouth,38,2.5\n", "cell-outside-its-column"),
        (b"site,n,mean\nnorth,22,low\nsouth,38,2.5\n", "cell-outside-its-column"),
        (b'site,n,mean\nnorth,22,"1.5"\nsouth,38,2.5\n', "mixed-column"),
        (b"site,n,mean\nnorth,22.0,1.5\nsouth,38,2.5\n", "count-not-whole"),
        (b"site,n,mean,more\nnorth,22,1.5,1\nsouth,38,2.5,2\n", "columns-not-as-declared"),
        (b"site,n\nnorth,22\nsouth,38\n", "columns-not-as-declared"),
        (b"site,n,Mean\nnorth,22,1.5\nsouth,38,2.5\n", "columns-not-as-declared"),
        (b"site,n,mean\nnorth,22,1.5\nnorth,38,2.5\n", "rows-not-told-apart"),
    ],
)
def test_a_cell_that_is_not_what_its_column_says_is_refused(data: bytes, code: str) -> None:
    assert check(data).refused == code


def test_a_count_is_at_most_what_was_declared() -> None:
    columns = {**COLUMNS, "n": {**COUNT, "most": 40}}
    assert check(b"site,n,mean\nnorth,22,1.5\nsouth,40,2.5\n", columns).refused is None
    assert check(b"site,n,mean\nnorth,22,1.5\nsouth,41,2.5\n", columns).refused == "cell-outside-its-column"


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ({"vocabulary": "dicom-modality@1"}, ("CT", "MR"), ("CT", "XX")),
        ({"ranges": [0, 0.5, 10]}, ("0 to 0.5", "0.5 to 10", "10 and over"), ("0.5 to 0", "0 to 1")),
        ({"grid": {"from": 2019, "to": 2023, "step": 1}}, ("2019", "2020", "2021"), ("2019", "2024")),
        ({"grid": {"from": 0, "to": 1, "step": 0.1}}, ("0", "0.1", "0.3"), ("0", "0.15")),
    ],
)
def test_keys_come_from_vocabularies_grids_and_ranges(
    key: dict[str, Any], good: tuple[str, ...], bad: tuple[str, ...]
) -> None:
    columns = {"group": {"key": key}, "n": COUNT}
    for labels, refused in ((good, None), (bad, "key-not-declared")):
        rows = "".join(f"{label},{20 + place}\n" for place, label in enumerate(labels))
        assert check(f"group,n\n{rows}".encode(), columns).refused == refused


def test_small_counts_of_declared_columns_are_suppressed_with_their_measures() -> None:
    checked = check(b"site,n,mean\nnorth,4,1.5\nsouth,38,2.5\nTOTAL,42,2.25\n")
    assert checked.refused is None
    assert b"4,1.5" not in (checked.rebuilt or b"")


def test_metrics_are_a_table_of_one_row() -> None:
    columns = {"n": COUNT, "auc": {"measure": "score", "from": 0, "to": 1, "step": 0.01}}
    assert check(b'{"auc":0.937,"n":22}', columns, "metrics").rebuilt == b'{\n "auc": 0.94,\n "n": 20\n}\n'
    assert check(b'{"n":22}', columns, "metrics").refused is None, "what was not measured is left out"
    assert check(b'{"auc":1.5,"n":22}', columns, "metrics").refused == "cell-outside-its-column"
    assert check(b'{"auc":0.9,"n":22,"f1":0.8}', columns, "metrics").refused == "columns-not-as-declared"


def test_the_report_says_what_each_count_counts() -> None:
    columns = {**COLUMNS, "n": {"count": "patients with at least one scan"}}
    checked = check(b"site,n,mean\nnorth,22,1.5\nsouth,38,2.5\n", columns)
    assert "n counts patients with at least one scan." in checked.report["sentences"]


# --- attacks


def test_columns_leave_in_the_declared_order() -> None:
    """Attack: a permutation of eight columns holds 15 bits."""
    names = ["site", "n", "mean", "n_b", "n_c"]
    columns = {**COLUMNS, "n_b": COUNT, "n_c": COUNT}
    rows = [["north", "22", "1.3", "35", "51"], ["south", "38", "-9.9", "36", "52"]]
    made = set()
    for order in permutations(range(len(names))):
        text = "".join(",".join(row[at] for at in order) + "\n" for row in [names, *rows])
        made.add(check(text.encode(), columns).rebuilt)
    assert made == {b"site,n,mean,n_b,n_c\nnorth,20,1.25,35,50\nsouth,40,-10,35,50\n"}


def test_rows_leave_in_the_order_of_their_keys() -> None:
    """Attack: rows that differ in nothing but a measure, ordered by the number that is to be sent out."""
    rows = [b"north,22,1.5\n", b"south,22,1.5\n", b"TOTAL,44,1.5\n"]
    made = {check(b"site,n,mean\n" + b"".join(order)).rebuilt for order in permutations(rows)}
    assert made == {b"site,n,mean\nnorth,20,1.5\nsouth,20,1.5\nTOTAL,45,1.5\n"}


@pytest.mark.parametrize(
    ("words", "most"),
    [
        ("patients", 60),
        ("patients with at least one scan", 60),
        ("Different patients of the arm", 60),
        ("women", 60),
        ("series of images", 90),
        ("slides", 90),
        ("images of patients", 4_000),
        ("patients' images", 4_000),
        ("nodules", 4_000),
        ("patient visits", 4_000),
    ],
)
@pytest.mark.parametrize("name", ["n", "n_patients", "n_slices", "visits"])
def test_a_count_is_at_most_what_its_words_count_whatever_it_is_called(
    name: str, words: str, most: int
) -> None:
    few = InputFacts(people=60, items=90, instances=4_000, real=True)
    columns = {name: {"count": words}}
    for cls, text in (("table", f"{name}\n{{}}\n"), ("metrics", f'{{{{"{name}": {{}}}}}}')):
        for count, refused in ((most, None), (most + 1, "count-exceeds-inputs")):
            declared = declaring.declared("t", columns, cls=cls)
            found = check_set([(declared, text.format(count).encode())], RULES, bytes(16), few)[0].refused
            assert found == refused


def test_slices_called_patients_let_no_row_be_one_patient() -> None:
    """Attack: the column is called n_patients, and what it counts is a patient's slices."""
    few = InputFacts(people=500, items=1_500, instances=9_000, real=True)
    arms = [f"arm {letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"] + [f"leg {at}" for at in range(40)]
    text = "arm,n_patients\n" + "".join(f"{arm},18\n" for arm in arms)
    for words, refused in (("slices", "rows-finer-than-people"), ("patients", None)):
        columns = {"arm": {"key": arms}, "n_patients": {"count": words}}
        declared = declaring.declared("t", columns)
        assert check_set([(declared, text.encode())], RULES, bytes(16), few)[0].refused == refused


def test_a_column_of_another_name_that_counts_the_same_is_no_way_back() -> None:
    """Attack: two tables of one job, whose margin is called otherwise than the cells that it sums up."""
    fine = {"site": {"key": ["a", "b", "c"]}, "sex": {"key": ["f", "m"]}, "n": COUNT}
    coarse = {"site": {"key": ["a", "b", "c"]}, "everybody": COUNT}
    texts = (
        b"site,sex,n\na,m,4\na,f,40\nb,m,51\nb,f,62\nc,m,40\nc,f,33\n",
        b"site,everybody\na,44\nb,113\nc,73\n",
    )
    declared = declaring.declared("fine", fine), declaring.declared("coarse", coarse)
    made = check_set(list(zip(declared, texts, strict=True)), RULES, bytes(16), AMPLE)
    shown = [(one.rebuilt or b"").decode().split("\n") for one in made]
    assert "a,f,40" not in shown[0] or "a,45" not in shown[1]


RARE: dict[str, Any] = {
    "n_patients": COUNT,
    "n_rare": COUNT,
    "mean_age": {"measure": "mean", "from": 0, "to": 120, "step": 0.1, "n": "n_patients"},
    "rare_mean_age": {"measure": "mean", "from": 0, "to": 120, "step": 0.1, "n": "n_rare"},
    "unsaid": {"measure": "mean", "from": 0, "to": 120, "step": 0.1},
}


def test_a_metric_does_not_leave_without_the_count_it_rests_on() -> None:
    only = {"n_patients": COUNT, "mean_age": RARE["mean_age"]}
    assert check(b'{"mean_age": 63.7}', only, "metrics").refused == "metric-count-not-whole"
    assert check(b'{"n_patients": 1, "mean_age": 63.7}', only, "metrics").refused == "nothing-left-to-release"
    assert check(b'{"n_patients": 100}', only, "metrics").refused is None


def test_a_suppressed_count_takes_the_metrics_that_rest_on_it_along() -> None:
    data = b'{"n_patients": 500, "n_rare": 1, "mean_age": 61.5, "rare_mean_age": 63.7, "unsaid": 63.7}'
    checked = check(data, RARE, "metrics")
    assert json.loads(checked.rebuilt or b"") == {
        "n_patients": 500, "n_rare": None, "mean_age": 61.5, "rare_mean_age": None, "unsaid": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "refused"),
    [
        ("0 to 5,100\n5 to 10,30\n0 to 10,130\n10 and over,50\n", "ranges-overlap"),
        ("0 to 5,100\n0 to 10,103\n", "ranges-overlap"),
        ("0 and over,153\n5 to 10,30\n", "ranges-overlap"),
        ("0 to 10,130\n10 and over,50\n", None),
        ("10 and over,50\n5 to 10,30\n0 to 5,100\n", None),
    ],
)
def test_ranges_of_one_column_do_not_overlap(rows: str, refused: str | None) -> None:
    columns = {"group": {"key": {"ranges": [0, 5, 10]}}, "n": COUNT}
    assert check(f"group,n\n{rows}".encode(), columns).refused == refused


@pytest.mark.parametrize(
    ("grid", "rows"),
    [
        ({"from": 0, "to": 5, "step": 1}, "1,20\n1.0,30\n1.00,40\n"),
        ({"from": 0, "to": 5, "step": 0.0001}, "1.2311,20\n1.2312,30\n2,40\n"),
    ],
)
def test_a_group_stands_once_however_its_number_is_spelled(grid: dict[str, Any], rows: str) -> None:
    columns = {"group": {"key": {"grid": grid}}, "n": COUNT}
    assert check(f"group,n\n{rows}".encode(), columns).refused == "rows-not-told-apart"


def test_each_group_may_pool_its_own_ranges() -> None:
    columns = {"site": {"key": ["a", "b"]}, "group": {"key": {"ranges": [0, 5, 10]}}, "n": COUNT}
    apart = b"site,group,n\na,0 to 10,20\nb,0 to 5,30\nb,5 to 10,40\n"
    assert check(apart, columns).refused is None
    inside = b"site,group,n\na,0 to 10,20\na,0 to 5,15\nb,0 to 5,30\n"
    assert check(inside, columns).refused == "ranges-overlap"


GRID = {"grid": {"from": 0, "to": 5, "step": 1}}


@pytest.mark.parametrize(
    ("column", "passes"),
    [
        ({"key": ["CT", "40 to 49", "65+", "2024-03", "2024-12", "2024-Q1"], "also": ["TOTAL"]}, True),
        ({"key": ["2019", "2020"]}, True),
        ({"key": ["CT", "<10"]}, False),
        ({"key": ["1/2", "1/4"]}, False),
        ({"key": ["2019", "Total"]}, False),
        ({"key": ["CT", "many words " * 6]}, False),
        ({"key": ["CT"], "also": ["n = 5"]}, False),
        ({"key": GRID}, True),
        ({"key": GRID, "also": ["9"]}, True),
        ({"key": GRID, "also": ["TOTAL"]}, False),
        ({"key": {"ranges": [0, 0.5, 1_000_000]}, "also": ["TOTAL"]}, True),
        ({"key": {"ranges": [-5, 5]}}, False),
    ],
)
def test_a_key_that_no_cell_may_be_is_not_signed(column: dict[str, Any], passes: bool) -> None:
    if passes:
        signed.KeyColumn.model_validate(column)
    else:
        with pytest.raises(ValidationError, match="a key is a few words"):
            signed.KeyColumn.model_validate(column)


@pytest.mark.parametrize("step", [1e-310, 1e-15])
def test_a_measure_has_no_more_steps_than_can_be_counted(step: float) -> None:
    """Attack: a step of 1e-310 ended the checker, which refused every output of the job."""
    with pytest.raises(ValidationError, match="steps"):
        signed.MeasureColumn.model_validate({**MEAN, "step": step})


def test_ranges_of_large_numbers_are_written_out() -> None:
    columns = {"group": {"key": {"ranges": [0, 1_000_000, 1_234_567]}}, "n": COUNT}
    rows = b"group,n\n0 to 1000000,30\n1000000 to 1234567,40\n1234567 and over,50\n"
    assert check(rows, columns).refused is None
