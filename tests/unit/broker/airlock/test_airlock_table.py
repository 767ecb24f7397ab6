"""Tables: what is read, what is refused by name, what comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdrs_hpc.broker.workers.airlock.check import Checked, check_set
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs.checking import numbers
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from tests.support import declaring

AMPLE = InputFacts(people=100_000, items=1_000_000, instances=10_000_000, real=False)
SALT = bytes(16)
RULES = OutputRules.from_dict({"table": {"min-count": 10, "round": 5}})


def check(
    data: bytes,
    counts: tuple[str, ...] = ("n",),
    size: int = 20 << 20,
    measures: tuple[str, ...] = (),
    inputs: InputFacts = AMPLE,
) -> Checked:
    declared = declaring.table(data, counts, measures=measures, size=size)
    return check_set([(declared, data)], RULES, SALT, inputs)[0]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"site,n\na,20\n\xff\xfe,30\n", "artefact-type-refused"),
        (b"site,n\na,20\n" + b"b,20\n" * 2000 + b"\xff,30\n", "malformed-table"),
        (b"site,n\na\x00b,20\n", "artefact-type-refused"),
        (b"site,n\n" + b"b,20\n" * 2000 + b"a\x00b,20\n", "malformed-table"),
        (b'site,n\n"a\nb",20\n', "malformed-table"),
        (b'site,n\n"a"b,20\n', "malformed-table"),
        (b'site,n\n"a,20\n', "malformed-table"),
        (b"site,n\na,20\rb,30\n", "malformed-table"),
        (b"site,n\na,20,7\n", "malformed-table"),
        (b"site,n\na\n", "malformed-table"),
        (b"site,n\n\na,20\n", "malformed-table"),
        (b"site,n\n", "malformed-table"),
        (b",n\n0,20\n", "malformed-table"),
        (b"n,N\n20,20\n", "malformed-table"),
        ("site,n\na\u202eb,20\n".encode(), "malformed-table"),
        ("site,n\na\u200bb,20\n".encode(), "malformed-table"),
        (b"site,n\na,20\nb,\xef\xbb\xbf30\n", "malformed-table"),
        (b"site,n\n=1+1,20\n", "formula-in-table"),
        (b"site,n\n@SUM(A1),20\n", "formula-in-table"),
        (b"site,n\n+441,20\n", "formula-in-table"),
        (b"site,n\n-A1,20\n", "formula-in-table"),
        (b"site,n\n =1+1,20\n", "formula-in-table"),
        (b"site,n\n\"=cmd|' /C calc'!A0\",20\n", "formula-in-table"),
        ("site,n\n\uff1d1+1,20\n".encode(), "formula-in-table"),
        (b"site,n\na,20.0\n", "count-not-whole"),
        (b"site,n\na,-20\n", "count-not-whole"),
        (b"site,n\na,\n", "count-not-whole"),
        (b"site,n\na,<10\n", "count-not-whole"),
        (b"site,n\na,020\n", "count-not-whole"),
        ("site,n\na,\u0662\u0660\n".encode(), "count-not-whole"),
        (b"site,m\na,20\n", "columns-not-as-declared"),
        (b"site,n\n" + b"x" * 65 + b",20\n", "free-text-in-table"),
        (b"site,n\nthe patient has had a cough for two weeks now,20\n", "free-text-in-table"),
        (b"site,n\n" + b"".join(b"s%d,20\n" % i for i in range(201)), "free-text-in-table"),
        (b"site,n\n" + b"x" * 300 + b",20\n", "table-too-large"),
        (b"site,n\n" + b"x" * 10_000_000 + b",20\n", "artefact-too-large"),
        (b"site,n\n" + b"a,20\n" * 5001, "table-too-large"),
        (
            b"n" + b"".join(b",c%d" % i for i in range(100)) + b"\n20" + b",1.5" * 100 + b"\n",
            "table-too-large",
        ),
        (b"uid,n\n1.2.840.113619.2.55.3.604688119.971,20\n", "identifier-in-artefact"),
        (b"nhs_number,n\n943 476 5919,20\n", "identifier-in-artefact"),
        (b"site,n,auc 943 476 5919\na,20,0.5\n", "identifier-in-artefact"),
        (b"code,n\nA9434765919,20\nB9434765870,30\nC4505577104,40\n", "identifier-in-artefact"),
        (b"", "artefact-empty"),
    ],
)
def test_bad_table_is_refused_by_name(data: bytes, code: str) -> None:
    checked = check(data)
    assert checked.refused == code
    assert checked.rebuilt is None and checked.media_type is None
    assert checked.report["verdict"] == "refused"
    assert checked.report["refusal"]["remedy"]


@pytest.mark.parametrize(
    "rows",
    [
        ("n_scans", "3", "4"),
        ("n_deaths", "1.0", "2.0"),
        ("n_deaths", "1e0", "2.00001"),
        ("n_deaths", "1.0", "15234.5"),
        ("deaths_count", "", "0.0"),
    ],
)
def test_a_column_that_is_not_declared_is_refused(rows: tuple[str, str, str]) -> None:
    name, one, other = rows
    columns = {"site": {"key": ["a", "b"]}, "n": {"count": "patients"}}
    declared = declaring.declared("t", columns)
    data = f"site,n,{name}\na,20,{one}\nb,30,{other}\n".encode()
    assert check_set([(declared, data)], RULES, SALT, AMPLE)[0].refused == "columns-not-as-declared"


@pytest.mark.parametrize("cell", [b"nan", b"Total"])
def test_a_measure_that_is_no_number_is_refused(cell: bytes) -> None:
    checked = check(b"site,n,x\na,20,1.5\nb,30,%s\n" % cell, measures=("x",))
    assert checked.refused == "cell-outside-its-column"


def test_refusal_quotes_nothing_from_the_table() -> None:
    checked = check(b"site,n\n=HYPERLINK(secret-name),20\n")
    assert b"secret" not in checked.report_bytes


def test_table_without_declared_counts_is_refused() -> None:
    assert check(b"site,x\na,1.5\n", counts=()).refused == "output-rules-malformed"


def test_good_table_comes_back_rounded_and_plain() -> None:
    checked = check(b'\xef\xbb\xbfsite,n,mean\r\n"a, b",22,-1.23456789\r\nc,38,1.5e-7\r\n')
    assert checked.refused is None
    assert checked.rebuilt == b'site,n,mean\n"a, b",20,-1.235\nc,40,0.00000015\n'
    assert checked.report["repaired"]["byte-order-mark-removed"] is True
    assert checked.report["repaired"]["numbers-rounded"] == 4


def test_whole_numbers_written_as_fractions_are_shown_to_the_reviewers() -> None:
    checked = check(b"site,n,deaths\na,20,1.0\nb,30,2.0\n", measures=("deaths",))
    assert [finding["code"] for finding in checked.report["findings"]] == ["whole-numbers-not-counts"]


def test_sums_that_are_no_counts_keep_their_name() -> None:
    checked = check(b"site,n,total_volume_ml\na,20,15234.71\nb,30,18211.43\n")
    assert checked.refused is None
    assert checked.report["findings"] == []


def test_the_order_of_rows_carries_nothing() -> None:
    """Attack: a permutation of twenty rows holds 61 bits."""
    rows = [
        b"%s,%d" % (name, 20 + at) for at, name in enumerate([b"c", b"grade 10", b"Total", b"b", b"grade 2"])
    ]
    made = {
        check(b"\n".join([b"site,n", *order, b""])).rebuilt
        for order in (rows, rows[::-1], rows[2:] + rows[:2])
    }
    assert made == {b"site,n\nb,25\nc,20\ngrade 2,25\ngrade 10,20\nTotal,20\n"}


def test_missing_statistic_stays_empty() -> None:
    checked = check(b"site,n,mean\na,22,\nc,38,1.5\n")
    assert checked.rebuilt == b"site,n,mean\na,20,\nc,40,1.5\n"


def test_bin_edges_label_rows_and_survive_beside_a_hidden_count() -> None:
    checked = check(b"bin_low,n\n0,3\n5,40\n10,60\n15,50\n")
    assert checked.rebuilt is not None
    lines = checked.rebuilt.decode().splitlines()
    assert [line.split(",")[0] for line in lines] == ["bin_low", "10", "15"]


def test_quantity_that_only_happens_to_step_evenly_is_hidden_with_its_count() -> None:
    checked = check(
        b"site,n,m,dose\na,3,90,1\nb,40,80,2\nc,60,70,3\nd,50,60,4\n", ("n", "m"), measures=("dose",)
    )
    assert checked.rebuilt is not None
    assert b"\na," not in checked.rebuilt and b"\nc,60,70,3\n" in checked.rebuilt


def test_findings_warn_of_dates_extremes_and_lone_nhs_numbers() -> None:
    checked = check(b"first_seen,code,n,max_age\nseen-2019-03-07,A9434765919,20,91.5\nnone,none,30,88.1\n")
    codes = {finding["code"] for finding in checked.report["findings"]}
    assert codes == {"full-date", "maybe-nhs-number", "extreme-values"}


def test_larger_than_declared_is_refused() -> None:
    assert check(b"site,n\na,20\n", size=5).refused == "artefact-too-large"


@given(st.binary(max_size=400))
def test_random_bytes_end_in_a_code_and_never_in_a_crash(data: bytes) -> None:
    assert check(data).refused is not None


@given(st.text(alphabet='a,n"\n 0123456789=-.*\ufeffTotal', max_size=80))
def test_random_csv_is_refused_or_rebuilt(text: str) -> None:
    checked = check(b"site,n\n" + text.encode())
    assert (checked.refused is None) == (checked.rebuilt is not None)
    if checked.rebuilt is not None:
        for line in checked.rebuilt.decode().splitlines()[1:]:
            count = line.rsplit(",", 1)[1]
            assert count == "*" or int(count) % 5 == 0


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e20, max_value=1e20))
def test_rounding_is_close_idempotent_and_short(value: float) -> None:
    text = repr(value)
    if not numbers.is_number(text):
        return
    short = numbers.rounded(text, 4)
    assert numbers.rounded(short, 4) == short
    assert abs(float(short) - value) <= 0.00051 * abs(value)
    assert len(short.replace("-", "").replace(".", "").strip("0")) <= 4
