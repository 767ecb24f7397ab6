"""Attacks on a suppressed count through what stands beside it: other spellings, blanks, totals, shares."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hdrs_hpc.broker.workers.airlock.check import Checked, check_set
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from tests.support import declaring

AMPLE = InputFacts(people=100_000, items=1_000_000, instances=10_000_000, real=False)
EXACT = OutputRules.from_dict({"table": {"min-count": 10, "round": 1}, "metrics": {}})
COUNT = {"count": "patients"}
SEX = {"key": ["M", "F"]}
SITE = {"key": ["A", "B"]}


def check(*tables: tuple[dict[str, Any], str]) -> list[Checked]:
    """Each table by its columns and its rows, apart by `` ; ``."""
    given = [
        (
            declaring.declared(f"t{at}", columns),
            (",".join(columns) + "\n" + rows.replace(" ; ", "\n") + "\n").encode(),
        )
        for at, (columns, rows) in enumerate(tables)
    ]
    return check_set(given, EXACT, bytes(16), AMPLE)


def shown(checked: Checked) -> list[str]:
    """The rows as released; none of a table that is refused."""
    return (checked.rebuilt or b"").decode().splitlines()[1:]


DEVIATION = {"measure": "sd", "from": 0, "to": 50, "step": 0.01, "n": "n"}


def test_a_missing_measure_beside_a_suppressed_count_is_hidden_too() -> None:
    """Attack: one person has no deviation, so a blank beside a star is a count of one."""
    site = {"key": ["A", "B", "C", "D"]}
    columns = {"site": site, "men": COUNT, "women": COUNT, "n": COUNT, "sd": {**DEVIATION, "n": "men"}}
    rows = "A,{},{},80,{} ; B,40,50,90,3 ; C,30,60,90,4 ; D,50,35,85,"
    made = [shown(check((columns, rows.format(*own)))[0]) for own in ((1, 79, ""), (7, 73, "2.5"))]
    assert made[0] == made[1]
    assert made[0][0] == "A,*,*,80,*"


def test_a_missing_metric_that_rests_on_a_suppressed_count_is_null_too() -> None:
    columns = {"n": COUNT, "n_all": COUNT, "sd": DEVIATION}
    made = set()
    for entries in ({"n": 1, "n_all": 80}, {"n": 7, "n_all": 80, "sd": 2.5}):
        declared = declaring.declared("t", columns, cls="metrics")
        made.add(check_set([(declared, json.dumps(entries).encode())], EXACT, bytes(16), AMPLE)[0].rebuilt)
    assert [json.loads(one or b"") for one in made] == [{"n": None, "n_all": 80, "sd": None}]


YEAR = {"key": {"grid": {"from": 2015, "to": 2025, "step": 1}}}
BY_SEX = "{0},M,3 ; {0},F,100 ; {1},M,50 ; {1},F,60"
BOTH = "{0},103 ; {1},110"


@pytest.mark.parametrize(
    ("one", "one_labels", "other", "other_labels"),
    [
        (YEAR, ("2019", "2020"), YEAR, ("2019.0", "2020.0")),
        (YEAR, ("2019", "2020"), {"key": ["2.019e3", "2.02e3"]}, ("2.019e3", "2.02e3")),
        ({"key": ["40-49", "50-59"]}, None, {"key": ["40 to 49", "50 to 59 years"]}, None),
        ({"key": ["0.5 to 1", "65+"]}, None, {"key": ["0.50–1.0", "65 and over"]}, None),
        ({"key": ["stage 1", "stage 2"]}, None, {"key": ["stage-1", "Stage 2"]}, None),
    ],
)
@pytest.mark.parametrize("called", ["group", "Group"])
def test_a_group_spelled_otherwise_unties_no_tables(
    one: dict[str, Any],
    one_labels: tuple[str, ...] | None,
    other: dict[str, Any],
    other_labels: tuple[str, ...] | None,
    called: str,
) -> None:
    """Attack: the margin of 103 and the 100 women give three men, where no rule saw that they are one group."""
    fine, coarse = check(
        ({"group": one, "sex": SEX, "n": COUNT}, BY_SEX.format(*(one_labels or one["key"]))),
        ({called: other, "n": COUNT}, BOTH.format(*(other_labels or other["key"]))),
    )
    assert not (
        any(row.endswith("F,100") for row in shown(fine)) and any(",103" in row for row in shown(coarse))
    )
    assert fine.refused is None


def test_a_column_spelled_otherwise_unties_no_tables() -> None:
    sites = "A,M,3 ; A,F,100 ; B,M,50 ; B,F,60"
    fine, coarse = check(
        ({"site_name": SITE, "sex": SEX, "n": COUNT}, sites),
        ({"site name": SITE, "n": COUNT}, "A,103 ; B,110"),
    )
    assert "A,F,100" not in shown(fine) or "A,103" not in shown(coarse)


def test_a_group_spelled_otherwise_unties_no_rows() -> None:
    sex = {**SEX, "also": ["Total"]}
    rows = "2019,M,3 ; 2019,F,100 ; 2019.0,Total,103 ; 2020,M,50 ; 2020,F,60 ; 2020.0,Total,110"
    assert "2019,F,100" not in shown(check(({"year": YEAR, "sex": sex, "n": COUNT}, rows))[0])


def test_the_last_months_of_a_year_are_periods() -> None:
    months = ["2024-09", "2024-10", "2024-11", "2024-12"]
    rows = " ; ".join(f"{month},{30 + at}" for at, month in enumerate(months))
    assert len(shown(check(({"month": {"key": months}, "n": COUNT}, rows))[0])) == 4


TOTALS = ["Persons", "Whole cohort", "Entire population", "Either sex", "Cohort", "Humans"]


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize(
    "rows",
    [
        "A,M,3 ; A,F,100 ; A,{0},103 ; B,M,50 ; B,F,60 ; B,{0},110",
        "A,{0},103 ; B,F,60 ; A,M,3 ; B,{0},110 ; A,F,100 ; B,M,50",
        "A,M,3 ; A,F,100 ; A,{0},103 ; B,M,50 ; B,F,60 ; B,{0},110 ; C,F,70 ; C,{0},72",
    ],
)
def test_a_total_by_any_name_is_tied_to_what_it_sums(total: str, rows: str) -> None:
    columns = {"site": {"key": ["A", "B", "C"]}, "sex": {"key": ["M", "F", total]}, "n": COUNT}
    made = shown(check((columns, rows.format(total)))[0])
    assert made and not {"A,F,100", f"A,{total},103"} <= set(made)


@pytest.mark.parametrize("total", TOTALS)
def test_a_total_by_any_name_is_tied_to_other_tables(total: str) -> None:
    columns = {"site": SITE, "sex": {"key": ["M", "F", total]}, "n": COUNT}
    fine = f"A,M,3 ; A,F,100 ; A,{total},103 ; B,M,50 ; B,F,60 ; B,{total},110"
    made = check((columns, fine), ({"site": SITE, "n": COUNT}, "A,103 ; B,110"))
    assert "A,F,100" not in shown(made[0]) or "A,103" not in shown(made[1])


def test_a_label_that_sums_up_others_in_places_is_told_to_the_checkers() -> None:
    columns = {"site": SITE, "scanner": {"key": ["one", "two", "other"]}, "n": COUNT}
    rows = "A,one,30 ; A,two,40 ; A,other,70 ; B,one,50 ; B,two,60 ; B,other,20"
    (made,) = check((columns, rows))
    assert [(one["code"], one["where"]) for one in made.report["findings"]] == [
        ("label-may-be-total", "column scanner")
    ]
    assert len(shown(made)) == 6


def test_quarters_and_months_are_ranges_that_overlap() -> None:
    """Attack: the quarter less two months is the third."""
    months = {"month": {"key": ["2024-01", "2024-02", "2024-03", "2024-Q1", "2024-Q2"]}, "n": COUNT}
    parts = "2024-01,40 ; 2024-02,3 ; 2024-03,50"
    assert check((months, f"{parts} ; 2024-Q1,93"))[0].refused == "ranges-overlap"
    assert check((months, parts), (months, "2024-Q1,93 ; 2024-Q2,40"))[0].refused == "ranges-overlap"
    assert check((months, f"{parts} ; 2024-Q2,93"))[0].refused is None


@pytest.mark.parametrize("n", [{"n": "n"}, {}])
@pytest.mark.parametrize(
    ("measure", "most", "few", "many"),
    [
        ("share", 1, ("0.02", "0.98", "0.001"), ("0", "1", "0.1", "0.5")),
        ("rate", 1, ("0.02", "0.98"), ("0", "0.1")),
        ("share", 100, ("2", "98"), ("0", "100", "10", "50")),
    ],
)
def test_a_share_of_few_is_hidden_whoever_they_are_a_share_of(
    measure: str, most: int, few: tuple[str, ...], many: tuple[str, ...], n: dict[str, str]
) -> None:
    """Attack: 0.02 of 150 patients are three, and 0.98 are all but three."""
    share = {"measure": measure, "from": 0, "to": most, "step": 0.001, **n}
    columns = {"site": SITE, "n": COUNT, "share": share}
    entries = {"n": COUNT, "share": share}
    for value in (*few, *many):
        (made,) = check((columns, f"A,150,{value} ; B,90,{most / 2:g}"))
        assert shown(made) == [f"A,150,{value if value in many else '*'}", f"B,90,{most / 2:g}"]
        declared = declaring.declared("t", entries, cls="metrics")
        data = f'{{"n": 150, "share": {value}}}'.encode()
        (made,) = check_set([(declared, data)], EXACT, bytes(16), AMPLE)
        assert (json.loads(made.rebuilt or b"")["share"] is None) == (value in few)


def test_a_key_with_one_value_unties_no_tables() -> None:
    made = check(
        ({"site": SITE, "sex": SEX, "n": COUNT}, "A,M,3 ; A,F,100 ; B,M,50 ; B,F,60"),
        ({"site": SITE, "arm": {"key": ["humans"]}, "n": COUNT}, "A,humans,103 ; B,humans,110"),
    )
    assert "A,F,100" not in shown(made[0]) or "A,humans,103" not in shown(made[1])
