"""Attacks by subtraction: ranges of one column that overlap between groups, their totals and other tables."""

from __future__ import annotations

from typing import Any

import pytest

from hdrs_hpc.broker.workers.airlock.check import check_set
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from tests.support import declaring

AMPLE = InputFacts(people=100_000, items=1_000_000, instances=10_000_000, real=False)
EXACT = OutputRules.from_dict({"table": {"min-count": 10, "round": 1}})
COUNT = {"count": "patients"}
AGE = {"key": {"ranges": [0, 5, 10]}, "also": ["Total"]}
SITE = {"key": ["a", "b", "c"], "also": ["Total"]}
SEX = {"key": ["f", "m"], "also": ["Total"]}
BY_SITE: dict[str, Any] = {"site": SITE, "age": AGE, "n": COUNT}


def refusals(*tables: tuple[dict[str, Any], str]) -> list[str | None]:
    given = [
        (
            declaring.declared(f"t{at}", columns),
            (",".join(columns) + "\n" + rows.replace(" ; ", "\n")).encode(),
        )
        for at, (columns, rows) in enumerate(tables)
    ]
    return [one.refused for one in check_set(given, EXACT, bytes(16), AMPLE)]


POOLED = "a,0 to 10,20 ; b,0 to 5,30 ; b,5 to 10,40"
"""Of the 20 of site a, 12 are under five and 8 are not: no cell says so."""


def test_pooling_each_group_by_itself_tells_nothing_of_the_pooled_one() -> None:
    assert refusals((BY_SITE, POOLED)) == [None]
    assert refusals((BY_SITE, POOLED + " ; a,Total,20 ; b,Total,70 ; Total,Total,90")) == [None]


@pytest.mark.parametrize(
    "totals",
    [
        "Total,0 to 5,42",  # less b's 30: 12 of site a, so that 8 are left for 5 to 10
        "Total,5 to 10,48",
        "Total,0 to 5,42 ; Total,5 to 10,48",
        "Total,0 to 10,90",
        "Total,0 to 10,90 ; Total,Total,90",
    ],
)
def test_a_row_of_totals_over_groups_that_are_pooled_differently_is_refused(totals: str) -> None:
    """Attack: all 0 to 5 less b 0 to 5 is a 0 to 5, and a 0 to 10 less that is a count of eight."""
    assert refusals((BY_SITE, f"{POOLED} ; {totals}")) == ["ranges-overlap"]


@pytest.mark.parametrize("words", ["patients", "people", "slides"])
@pytest.mark.parametrize("name", ["n", "everybody"])
@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ({"age": AGE}, "0 to 5,42 ; 5 to 10,48"),
        ({"AGE": AGE}, "0 to 5,42 ; 5 to 10,48"),
        ({"sex": SEX, "age": AGE}, "f,0 to 5,22 ; m,0 to 5,20 ; f,5 to 10,24 ; m,5 to 10,24"),
        ({"site": SITE, "sex": SEX, "age": AGE}, "a,f,0 to 5,12 ; b,f,0 to 5,30 ; b,m,5 to 10,40"),
        ({"site": SITE, "age": AGE}, "a,0 to 5,12"),
        ({"site": SITE, "age": {"key": {"ranges": [0, 7]}}}, "a,0 to 7,15"),
    ],
)
def test_another_table_of_the_job_is_no_way_back_to_a_pooled_range(
    columns: dict[str, Any], rows: str, name: str, words: str
) -> None:
    """Attack: the row of totals stands in a table of its own, which may be finer by other keys."""
    found = refusals((BY_SITE, POOLED), (columns | {name: {"count": words}}, rows))
    if name == "n" or words != "slides":
        assert found == ["ranges-overlap"] * 2
    else:
        assert found == [None, None], "another name that counts other things"


@pytest.mark.parametrize(
    "age", [["0-9", "0-4", "5-9"], ["under 9", "under 5", "5 to 9"], ["0+", "under 5", "5 and over"]]
)
def test_ranges_that_are_listed_as_labels_are_ranges(age: list[str]) -> None:
    columns = {"site": SITE, "age": {"key": age}, "n": COUNT}
    rows = f"a,{age[0]},20 ; b,{age[1]},30 ; b,{age[2]},40"
    assert refusals((columns, rows)) == [None]
    assert refusals((columns, f"{rows} ; Total,{age[1]},42")) == ["ranges-overlap"]


def test_ranges_that_are_the_same_everywhere_are_protected_by_suppression() -> None:
    alike = "a,0 to 5,12 ; a,5 to 10,8 ; b,0 to 5,30 ; b,5 to 10,40 ; Total,0 to 5,42 ; Total,5 to 10,48"
    assert refusals((BY_SITE, alike)) == [None]
    assert refusals((BY_SITE, POOLED), ({"site": SITE, "n": COUNT}, "a,20 ; b,70")) == [None, None]
    assert refusals(({"site": SITE, "age": AGE, "n": COUNT}, "a,0 to 5,12"), (BY_SITE, "b,0 to 10,70")) == [
        None,
        None,
    ]


def test_a_table_whose_ranges_overlap_with_none_is_not_refused_with_the_others() -> None:
    other = ({"site": SITE, "n": COUNT}, "a,20 ; b,70 ; c,30")
    assert refusals((BY_SITE, f"{POOLED} ; Total,0 to 5,42"), other) == ["ranges-overlap", None]


def test_five_thousand_rows_of_ranges_are_judged_in_time() -> None:
    words = [f"{first}{second}" for first in "bcdfghjklm" for second in "aeiou"]
    columns = {
        "site": {"key": words},
        "arm": {"key": words, "also": ["Total"]},
        "age": {"key": {"ranges": [0, 5, 10]}},
        "n": COUNT,
    }
    pooled = [
        f"{site},{arm},{age},20"
        for at, site in enumerate(words)
        for arm in words
        for age in (["0 to 10"] if at % 2 else ["0 to 5", "5 to 10"])
    ]
    assert refusals((columns, " ; ".join(pooled))) == [None]
    assert refusals((columns, " ; ".join([*pooled, "ba,Total,0 to 10,40"]))) == ["ranges-overlap"]
