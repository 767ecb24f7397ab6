"""Attacks on a table by the way in which its cells, labels and totals are written."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hdrs_hpc.broker.workers.airlock.check import Checked, check_set
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs.checking.identifiers import is_nhs_number
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from tests.support import declaring

AMPLE = InputFacts(people=100_000, items=1_000_000, instances=10_000_000, real=True)
RULES = OutputRules.from_dict({"table": {"min-count": 10, "round": 5}})

# Ways to write 1, 5 or 12 that are not the one way; each must be refused wherever it stands.
ODD_SPELLINGS = [
    "1 ", " 1", "01", "+5", "-0", "1e1", "12.0", "12.", ".5", "1_0", "1,234", "1 234", "1\u00a0234", "1'234",
    "1\u202f234", "1/25", "1:25", "1|25", "\u0663", "\u0967", "\uff11\uff12", "\u00b2", "\u2460", "\u216b", "\u00bd",
    "\U0001d7d3",
    "12\u200b", "\ufeff12", "12\ufe0e", "1\u0301", "0x5", "0b1", "<10", ">5", "~5", "=5", "#5", "5%",
    "5 %", "5*", "(5)",
    "[5]", "$5", "5?", "5!", "12 of 30", "12 patients", "n=5", "n = 5", "deaths 5", "\u2211", "\u221e", "nan", "inf",
    "null", "None", "-", "–", "?", "1 TRUE", '"5"', "5;6", "5\t", "1\u20e3",
    "patients 5", "123456789x", "12345678\u0663", "1234567890.", "a123456789",
]  # fmt: skip
NUMBERS = {"-0", "1e1", "12.0"}
WORDS = {"nan", "inf", "null", "None", "a123456789"}
"""Written like words: plain as labels, no numbers."""


def check(
    text: str,
    counts: tuple[str, ...] = ("n",),
    inputs: InputFacts = AMPLE,
    columns: dict[str, Any] | None = None,
) -> Checked:
    """``columns``: what was declared, where it is not what the text has."""
    made = declaring.declared("t", columns or declaring.columns(text.encode(), counts), size=20 << 20)
    return check_set([(made, text.encode())], RULES, bytes(16), inputs)[0]


SITE, COUNT = {"key": ["a", "b", "Total"]}, {"count": "patients"}
DEATHS: dict[str, dict[str, Any]] = {
    "nothing": {"site": SITE, "n": COUNT},
    "label": {"site": SITE, "deaths": {"key": ["few", "many", "Total"]}, "n": COUNT},
    "measure": {
        "site": SITE,
        "deaths": {"measure": "estimate", "from": -5, "to": 100, "step": 1},
        "n": COUNT,
    },
}
"""Ways in which a spec may declare a column of deaths that it does not call a count."""


def cell(value: str) -> str:
    return '"' + value.replace('"', '""') + '"' if any(mark in value for mark in ',"\n') else value


@pytest.mark.parametrize("odd", ODD_SPELLINGS)
def test_an_odd_spelling_is_refused_as_a_count(odd: str) -> None:
    for text in (f"site,n\na,{cell(odd)}\nb,30\n", f"site,n\nb,30\nTotal,{cell(odd)}\n"):
        assert check(text).refused in ("count-not-whole", "formula-in-table", "malformed-table")


@pytest.mark.parametrize("odd", ODD_SPELLINGS)
def test_an_odd_spelling_makes_no_column_a_label(odd: str) -> None:
    """Attack: small counts beside a large one, each written so that its column is taken for text."""
    refusals = {"label-not-plain", "formula-in-table", "malformed-table"}
    rows = f"site,deaths,n\na,{cell(odd)},40\nb,{{}},30\n"
    for other in ("few", "Total", "All patients"):
        checked = check(rows.format(other))  # even where the spec declares that spelling as a label
        assert checked.refused in ({None} if odd in WORDS else refusals), (other, checked.refused)
        assert check(rows.format(other), columns=DEATHS["label"]).refused in {*refusals, "key-not-declared"}


@pytest.mark.parametrize("odd", ODD_SPELLINGS)
def test_an_odd_spelling_is_no_measure_unless_json_spells_numbers_so(odd: str) -> None:
    checked = check(f"site,deaths,n\na,{cell(odd)},40\nb,7,30\n", columns=DEATHS["measure"])
    if odd in NUMBERS:
        assert [finding["code"] for finding in checked.report["findings"]] == ["whole-numbers-not-counts"]
    else:
        assert checked.refused in {
            "cell-outside-its-column",
            "mixed-column",
            "formula-in-table",
            "malformed-table",
        }


@pytest.mark.parametrize(
    "total", ["Total", "TOTAL", "Overall", "All", "All patients", "Grand total", "Sum", "Any"]
)
@pytest.mark.parametrize(
    "cells", [("3", "4", "7"), ("3.0", "4.0", "7.0"), ("3", "", "7"), ("3", "4", "Total")]
)
def test_the_label_of_a_total_changes_no_kind(total: str, cells: tuple[str, str, str]) -> None:
    """Attack: small counts in a column that is not declared as such, under a row called All."""
    a, b, c = cells
    text = f"site,deaths,n\na,{a},40\nb,{b},30\n{total},{c},70\n"
    site = {"key": ["a", "b", total]}
    assert check(text, columns={**DEATHS["nothing"], "site": site}).refused == "columns-not-as-declared"
    assert check(text, columns={**DEATHS["label"], "site": site}).refused == "key-not-declared"
    checked = check(text, columns={**DEATHS["measure"], "site": site})
    if c == "Total":
        assert checked.refused == "cell-outside-its-column"
    else:
        assert checked.report["findings"][0]["code"] == "whole-numbers-not-counts"
    checked = check(f"deaths,n\n{a},40\n{b},30\n{total},70\n")
    assert checked.refused in ("mixed-column", "label-not-plain")


def test_quoted_numbers_are_texts_and_so_no_numbers() -> None:
    assert check('site,n\na,"12"\nb,30\n').refused == "count-not-whole"
    assert check('site,x,n\na,"1.5",40\nb,2.5,30\n').refused == "mixed-column"
    assert check('site,x,n\na,"1.5",40\nb,"2.5",30\n').refused == "mixed-column"
    assert check('"site","n"\n"a, b",40\n"c",30\n').refused is None


@pytest.mark.parametrize("blank", ["", " ", "\u00a0", "\u3000", "\u2800", "\u115f"])
def test_a_blank_label_is_refused(blank: str) -> None:
    codes = ("label-not-plain", "formula-in-table", "malformed-table")
    assert check(f"site,n\na,40\n{blank},30\n").refused in codes
    assert check(f"site,sex,n\na,{blank},40\nb,m,30\n").refused in codes


def test_a_blank_beside_the_label_of_a_total_is_refused_too() -> None:
    assert check("site,sex,n\na,f,40\na,m,30\nTotal,,70\n").refused == "label-not-plain"
    assert check("year,site,n\n2020,a,40\n2021,a,30\n,Total,70\n").refused == "label-not-plain"
    assert check("site,sex,n\na,f,40\na,m,30\nTotal,Total,70\n").refused is None


@pytest.mark.parametrize(
    ("one", "other", "code"),
    [
        ("north", "North", "label-ambiguous"),
        ("north east", "north-east", "label-ambiguous"),
        ("north east", "northeast", "label-ambiguous"),
        ("north", "north.", "label-ambiguous"),
        ("north", "\uff4e\uff4f\uff52\uff54\uff48", "label-not-plain"),
        ("north", "north ", "label-not-plain"),
        ("north east", "north  east", "label-not-plain"),
        ("file", "\ufb01le", "label-not-plain"),
        ("e\u0301t\u00e9", "ete", "label-not-plain"),
        ("north", "n\u043erth", "label-not-plain"),
        ("Total", "All", "label-ambiguous"),
        ("All patients", "Overall", "label-ambiguous"),
    ],
)
def test_labels_that_a_reader_would_take_for_one_are_refused(one: str, other: str, code: str) -> None:
    assert check(f"site,n\n{one},40\n{other},30\n").refused == code


def test_rows_that_nothing_tells_apart_are_refused() -> None:
    assert check("site,n\na,40\na,30\n").refused == "rows-not-told-apart"
    assert check("n,x\n40,1.5\n30,2.5\n").refused == "rows-not-told-apart"
    bins = "bin_low,bin_high,n\n0,0.5,40\n0.5,2,30\n2,8,20\n"
    assert check(bins).refused == "rows-not-told-apart"
    edges = {"key": ["0", "0.5", "2", "8"]}
    assert check(bins, columns={"bin_low": edges, "bin_high": edges, "n": COUNT}).refused is None


@pytest.mark.parametrize("label", ["0-9", "10–19", "0.5 to 0.75", "10 and over", "under 18", "65+", "40 to 49 years",
                                   "grade 2", "T2", "HER2+", "H&E", "2024-03", "2024-Q1", "Sjögren", "BI-RADS 4",
                                   "CHEST", "Dr. Müller's", "stage 3b", "left (upper) lobe", "Total"])  # fmt: skip
def test_plain_labels_pass(label: str) -> None:
    assert check(f"what,n\n{label},40\nother,30\n").refused is None


def test_whole_numbers_are_declared() -> None:
    for name in ("deaths", "n_deaths", "x", "total", "n_low", "number_from"):
        text = f"site,{name},n\na,1,40\nb,2,30\n"
        assert check(text, columns=DEATHS["nothing"]).refused == "columns-not-as-declared"
    columns = {"site": SITE, "age": {"measure": "median", "from": 0, "to": 120, "step": 1}, "n": COUNT}
    assert check("site,age,n\na,61,40\nb,58,30\n", columns=columns).refused is None
    for old in ("58", "young"):
        text = f"site,age,n\na,old,40\nb,{old},30\n"
        assert check(text, columns=columns).refused == "cell-outside-its-column"


def test_a_count_is_at_most_what_it_counts() -> None:
    few = InputFacts(people=60, items=90, instances=4_000, real=True)
    for name, cells, refused in (
        ("n_patients", (40, 20), None),
        ("n_patients", (61, 20), "count-exceeds-inputs"),
        ("n_patients", (60, 31), "count-exceeds-inputs"),  # 90 items, so at most 90 patients in separate rows
        ("patients", (60, 30), None),
        ("n", (2_000, 2_000), None),
        ("n", (2_000, 2_001), "count-exceeds-inputs"),
        ("n", (4_001, 20), "count-exceeds-inputs"),
    ):
        rows = "".join(f"s{at},{count}\n" for at, count in enumerate(cells))
        assert check(f"site,{name}\n{rows}", (name,), few).refused == refused, (name, cells)


def test_a_total_is_counted_once_however_often_it_is_claimed() -> None:
    """Attack: rows called totals, so that nobody adds them up."""
    few = InputFacts(people=60, items=90, instances=100, real=True)
    good = "site,sex,n\na,f,30\na,m,20\nb,f,30\nb,m,20\na,Total,50\nb,Total,50\nTotal,Total,100\n"
    assert check(good, inputs=few).refused is None
    rows = "".join(f"s{at},Total,50\n" for at in range(4))
    assert check(f"site,sex,n\n{rows}", inputs=few).refused == "count-exceeds-inputs"


def test_one_patient_a_row_is_refused() -> None:
    """Attack: each row is one patient, and says that it counts ten."""
    inputs = InputFacts(people=500, items=1_500, instances=9_000, real=True)
    for name in ("n", "n_patients"):
        rows = "".join(f"a{at // 200},p{at % 200},20,{at / 7:.4f}\n" for at in range(500))
        assert check(f"arm,who,{name},x\n{rows}", (name,), inputs).refused == "count-exceeds-inputs"
    pseudonyms = "".join(f"P{at:016d},20\n" for at in range(20))
    assert check(f"who,n\n{pseudonyms}", inputs=inputs).refused == "identifier-in-artefact"
    assert check("who,n\n0h5kq2m8x4tv9w3rz6yb,20\nother,30\n").refused == "identifier-in-artefact"


def test_one_patient_a_row_is_refused_when_the_counts_are_their_slices() -> None:
    """Attack: what each row counts is true and large, and says nothing of how many patients the row is about."""
    inputs = InputFacts(people=500, items=1_500, instances=9_000, real=True)
    rows = "".join(f"a{at // 200},p{at % 200},18,{at / 7:.4f}\n" for at in range(500))
    assert check(f"arm,who,n_slices,x\n{rows}", ("n_slices",), inputs).refused == "rows-finer-than-people"
    bins = "".join(f"{at + 1},18,{at / 7:.4f}\n" for at in range(200))
    assert check(f"bin,n_slices,x\n{bins}", ("n_slices",), inputs).refused == "rows-finer-than-people"
    few = InputFacts(people=12, items=400, instances=9_000, real=True)
    words = "".join(f"{word},200\n" for word in ("ash", "birch", "elm", "fir", "oak"))
    assert check(f"who,n_slices\n{words}", ("n_slices",), few).refused == "rows-finer-than-people"


def test_a_table_of_slices_passes_where_its_rows_could_be_groups_or_count_patients_too() -> None:
    few = InputFacts(people=500, items=1_500, instances=9_000, real=True)
    rows = "".join(f"{at + 1},18,{at / 7:.4f}\n" for at in range(50))
    assert check(f"bin,n_slices,x\n{rows}", ("n_slices",), few).refused is None
    assert check("site,n_slices,x\na,4000,1.5\nTotal,4000,1.5\n", ("n_slices",), few).refused is None
    told = "arm,n_slices,n_patients,x\na,4000,240,1.5\nb,200,1,2.5\nc,4000,240,3.5\n"
    checked = check(told, ("n_slices", "n_patients"), few)
    assert checked.rebuilt is not None and b"2.5" not in checked.rebuilt
    one = InputFacts(people=3, items=3, instances=900, real=False)
    assert check("site,n_slices\na,900\n", ("n_slices",), one).refused is None


def nhs_numbers(count: int) -> list[int]:
    draw = random.Random(7)
    found: list[int] = []
    while len(found) < count:
        number = draw.randrange(4_000_000_000, 8_000_000_000)
        if is_nhs_number(str(number)):
            found.append(number)
    return found


def test_a_thousand_nhs_numbers_as_counts_are_refused() -> None:
    numbers = nhs_numbers(1_000)
    rows = "".join(f"a{at // 200},b{at % 200},{number}\n" for at, number in enumerate(numbers))
    assert check(f"x,y,n\n{rows}").refused == "identifier-in-artefact"
    assert check(f"x,n\na,{numbers[0]}\nb,40\n").refused == "identifier-in-artefact"
    other = numbers[0] + 1 if numbers[0] % 10 < 9 else numbers[0] - 1
    assert check(f"x,n\na,{other}\nb,40\n").refused == "count-exceeds-inputs"


def test_weights_as_statistics_are_too_many_for_a_summary() -> None:
    """Attack: ten thousand weights beside one constant count."""
    columns = [f"w{at}" for at in range(80)]
    rows = [f"a{row},40," + ",".join(f"{row + 0.5 + at / 197:.6f}" for at in range(80)) for row in range(125)]
    text = "\n".join([",".join(["layer", "n", *columns]), *rows, ""])
    assert check(text).refused == "table-too-large"


def test_rows_in_which_no_count_is_left_go() -> None:
    checked = check("site,m,n\nrare,3,4\na,40,30\nb,50,60\nc,60,70\nTotal,153,164\n", ("m", "n"))
    assert checked.rebuilt is not None
    assert b"rare" not in checked.rebuilt
    assert checked.report["repaired"]["rows-removed"] >= 1
    assert not any(set(line.split(",")[1:]) == {"*"} for line in checked.rebuilt.decode().splitlines()[1:])
