"""Metrics: flat numbers only, counts protected."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdrs_hpc.broker.workers.airlock.check import Checked, check_set
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs.checking.declared import Declared
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts

AMPLE = InputFacts(people=100_000, items=1_000_000, instances=10_000_000, real=False)
RULES = OutputRules.from_dict({"table": {"min-count": 10, "round": 5}, "metrics": {}})


def check(data: bytes, counts: tuple[str, ...] = (), measures: tuple[str, ...] = ()) -> Checked:
    return check_set(
        [(Declared("m", "metrics", "m.json", counts=counts, measures=measures), data)],
        RULES,
        bytes(16),
        AMPLE,
    )[0]


def rebuilt(data: bytes, counts: tuple[str, ...] = (), measures: tuple[str, ...] = ()) -> dict[str, object]:
    checked = check(data, counts, measures)
    assert checked.refused is None, checked.report["sentences"]
    assert checked.rebuilt is not None
    value = json.loads(checked.rebuilt)
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"a":1,"a":2}', "duplicate-key"),
        (b'{"a":NaN}', "malformed-document"),
        (b'{"a":-Infinity}', "malformed-document"),
        (b'{"a":1e999}', "malformed-document"),
        (b'{"a":' + b"9" * 10_000 + b"}", "malformed-document"),
        (b'{"a":' + b"9" * 100 + b"}", "malformed-document"),
        (b'{"a":1e99}', "malformed-metrics"),
        (b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "artefact-too-large"),
        (b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", "document-too-deep"),
        (b'{"a":{"b":1}}', "malformed-metrics"),
        (b'{"a":[1]}', "malformed-metrics"),
        (b'{"a":"text"}', "malformed-metrics"),
        (b'{"a":true}', "malformed-metrics"),
        (b'{"a":null}', "malformed-metrics"),
        (b"[1]", "malformed-metrics"),
        (b"7", "malformed-metrics"),
        (b"{}", "malformed-metrics"),
        (b'{"":1}', "malformed-metrics"),
        (b'{"Smith, John":1}', "malformed-metrics"),
        (b'{"a@b":1}', "malformed-metrics"),
        (b'{"a/b":1}', "malformed-metrics"),
        (b'{"' + b"a" * 41 + b'":1}', "malformed-metrics"),
        (b'{"\\ud800":1}', "malformed-document"),
        (json.dumps({f"m{i}": i for i in range(65)}).encode(), "malformed-metrics"),
        (b'{"a":1}{"b":2}', "malformed-document"),
        (b'\xef\xbb\xbf{"a":1}', "malformed-document"),
        (b'{"nhs_number":9434765919}', "identifier-in-artefact"),
        (b'{"p9434765919":0.5}', "identifier-in-artefact"),
        (b'{"auc:9434765919":0.5}', "identifier-in-artefact"),
        (b'{"nbformat":4,"cells":[]}', "artefact-type-refused"),
    ],
)
def test_bad_metrics_are_refused_by_name(data: bytes, code: str) -> None:
    assert check(data).refused == code


@pytest.mark.parametrize("data", [b'{"a":1}', b'{"n":12.5}', b'{"n":-3}'])
def test_declared_count_must_be_there_and_whole(data: bytes) -> None:
    assert check(data, ("n",)).refused == "metric-count-not-whole"


def test_numbers_keep_four_significant_digits() -> None:
    data = b'{"auc":0.912345678,"loss":-1234567,"zero":0.0,"tiny":1.23456e-9}'
    assert rebuilt(data, measures=("loss", "zero")) == {
        "auc": 0.9123,
        "loss": -1235000,
        "zero": 0,
        "tiny": 1.235e-9,
    }


def test_counts_are_rounded_and_small_ones_become_null() -> None:
    made = rebuilt(b'{"n_patients":123,"n_rare":4,"auc":0.9}', ("n_patients", "n_rare"))
    assert made == {"n_patients": 125, "n_rare": None, "auc": 0.9}


def test_numbers_about_small_groups_only_go_with_their_counts() -> None:
    checked = check(b'{"n_patients":4,"auc":0.9}', ("n_patients",))
    assert (checked.refused, checked.rebuilt) == ("nothing-left-to-release", None)


@pytest.mark.parametrize(
    "spelled", [b"12.0", b"1e1", b"-0", b"-12", b"12.5", b"true", b"null", b'"12"', b"1200000000000"]
)
def test_a_declared_count_is_spelled_as_one(spelled: bytes) -> None:
    checked = check(b'{"n_patients":200,"n_rare":%s}' % spelled, ("n_patients", "n_rare"))
    assert checked.refused in ("metric-count-not-whole", "malformed-metrics")


@pytest.mark.parametrize(
    "spelled", [b"+5", b"05", b"0x5", b"1_000", b"\xd9\xa3", b"\xef\xbc\x91", b"12\xc2\xa0"]
)
def test_what_json_does_not_know_is_no_number(spelled: bytes) -> None:
    assert check(b'{"n":%s}' % spelled, ("n",)).refused == "malformed-document"


@pytest.mark.parametrize("spelled", [b"3", b"3.0", b"30e-1", b"3.00001", b"-3", b"1e3"])
@pytest.mark.parametrize("name", [b"n_rare", b"deaths", b"count_hiv", b"x"])
def test_a_whole_number_without_a_declaration_is_refused(name: bytes, spelled: bytes) -> None:
    """Attack: no rule for counts reaches a count that is called something else, or written as a fraction."""
    data = b'{"n_patients":200,"%s":%s}' % (name, spelled)
    assert check(data, ("n_patients",)).refused == "undeclared-count"


def test_whole_measures_are_declared_and_shown_to_the_reviewers() -> None:
    data = b'{"CT.spacing.median": 3.0, "auc": 0.93, "n_patients": 200}'
    for measures in (("CT.spacing.median",), ("*.median",)):
        checked = check(data, ("n_patients",), measures)
        assert checked.report["findings"] == [
            {
                "code": "whole-numbers-not-counts",
                "message": "a whole number that was declared as a measure",
                "where": "entry CT.spacing.median",
            }
        ]
    assert check(data, ("n_patients",), ("*.mean", "median")).refused == "undeclared-count"


def test_counts_of_a_built_in_workload_may_be_absent_and_are_protected_where_they_are() -> None:
    known = Declared("m", "metrics", "m.json", counts=("n_patients",), known_counts=("n_slides",))
    for text, made in (
        (b'{"n_patients":123}', {"n_patients": 125}),
        (b'{"n_patients":123,"n_slides":4}', {"n_patients": 125, "n_slides": None}),
    ):
        checked = check_set([(known, text)], RULES, bytes(16), AMPLE)[0]
        assert checked.rebuilt is not None and json.loads(checked.rebuilt) == made
    assert (
        check_set([(known, b'{"n_patients":123,"n_slides":4.0}')], RULES, bytes(16), AMPLE)[0].refused
        == "metric-count-not-whole"
    )


def test_a_count_is_at_most_what_it_counts() -> None:
    few = InputFacts(people=40, items=90, instances=4_000, real=True)
    for name, count, refused in (
        ("n_patients", 40, None),
        ("n_patients", 41, "count-exceeds-inputs"),
        ("n_slices", 4_000, None),
        ("n_slices", 4_001, "count-exceeds-inputs"),
    ):
        declared = Declared("m", "metrics", "m.json", counts=(name,))
        data = json.dumps({name: count}).encode()
        assert check_set([(declared, data)], RULES, bytes(16), few)[0].refused == refused


@pytest.mark.parametrize("number", [9434765919, 9434765870, 101240007])
def test_an_nhs_or_chi_number_is_no_count(number: int) -> None:
    """The last one is a number of Scotland's that has lost its leading zero."""
    data = json.dumps({"n": number}).encode()
    assert check(data, ("n",)).refused == "identifier-in-artefact"


def test_the_order_of_names_carries_nothing() -> None:
    one, other = (check(data).rebuilt for data in (b'{"b":0.5,"a":0.25}', b'{"a":0.25,"b":0.5}'))
    assert one == other == b'{\n "a": 0.25,\n "b": 0.5\n}\n'


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("aGVsbG8gd29ybGQgc2VjcmV0", True),
        ("result.Zm9yIHRoZSByZWNvcmQ", True),
        ("deadbeef00c0ffee12ab34cd", True),
        ("mfrggzdfmztwq2lknnwg23tpob", True),
        ("CT.slice_spacing_mm.median", False),
        ("MeanDiceOfLeftLungLobe", False),
        ("sensitivity_at_specificity_095", False),
        ("few_slides.haematoxylin_od", False),
        ("intersectionoverunion.fold3", False),
        ("hounsfield.p95", False),
    ],
)
def test_names_that_read_like_a_code_are_shown_to_the_reviewers(name: str, told: bool) -> None:
    codes = [finding["code"] for finding in check(json.dumps({name: 0.5}).encode()).report["findings"]]
    assert ("name-like-code" in codes) == told


def test_counts_that_add_up_cannot_be_subtracted() -> None:
    made = rebuilt(b'{"n_all":100,"n_men":96,"n_women":4}', ("n_all", "n_men", "n_women"))
    assert made["n_women"] is None
    assert list(made.values()).count(None) >= 2


def test_metrics_without_counts_are_shown_to_the_reviewers() -> None:
    assert check(b'{"auc":0.93}').report["findings"][0]["code"] == "metrics-without-counts"


@given(st.binary(max_size=200))
def test_random_bytes_end_in_a_code_and_never_in_a_crash(data: bytes) -> None:
    assert check(data).refused is not None


@given(st.dictionaries(st.from_regex(r"[a-z]{1,6}", fullmatch=True), st.floats() | st.integers(), max_size=6))
def test_any_flat_numbers_are_refused_or_rebuilt_to_flat_numbers(value: dict[str, float]) -> None:
    checked = check(json.dumps(value).encode())
    if checked.refused is None:
        assert checked.rebuilt is not None
        assert json.loads(checked.rebuilt).keys() == value.keys()
