"""Metrics: flat numbers only, counts protected."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdrs_hpc.broker.airlock.check import Checked, check_set
from hdrs_hpc.broker.airlock.declared import Declared, OutputRules

RULES = OutputRules.from_dict({"table": {"min-count": 10, "round": 5}, "metrics": {}})


def check(data: bytes, counts: tuple[str, ...] = ()) -> Checked:
    return check_set([(Declared("m", "metrics", "m.json", counts), data)], RULES, bytes(16))[0]


def rebuilt(data: bytes, counts: tuple[str, ...] = ()) -> dict[str, object]:
    checked = check(data, counts)
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
        (b'{"a":1e999}', "malformed-metrics"),
        (b'{"a":' + b"9" * 10_000 + b"}", "malformed-document"),
        (b'{"a":' + b"9" * 100 + b"}", "malformed-metrics"),
        (b'{"a":1e99}', "malformed-metrics"),
        (b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "document-too-large"),
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
        (b'{"\\ud800":1}', "malformed-metrics"),
        (json.dumps({f"m{i}": i for i in range(65)}).encode(), "malformed-metrics"),
        (b'{"a":1}{"b":2}', "malformed-document"),
        (b'\xef\xbb\xbf{"a":1}', "malformed-document"),
        (b'{"nhs_number":9434765919}', "identifier-in-artefact"),
        (b'{"nbformat":4,"cells":[]}', "artefact-type-refused"),
    ],
)
def test_bad_metrics_are_refused_by_name(data: bytes, code: str) -> None:
    assert check(data).refused == code


@pytest.mark.parametrize("data", [b'{"a":1}', b'{"n":12.5}', b'{"n":-3}'])
def test_declared_count_must_be_there_and_whole(data: bytes) -> None:
    assert check(data, ("n",)).refused == "metric-count-not-whole"


def test_numbers_keep_four_significant_digits() -> None:
    assert rebuilt(b'{"auc":0.912345678,"loss":-1234567,"zero":0.0,"tiny":1.23456e-9}') == {
        "auc": 0.9123,
        "loss": -1235000,
        "zero": 0,
        "tiny": 1.235e-9,
    }


def test_counts_are_rounded_and_small_ones_become_null() -> None:
    made = rebuilt(b'{"n_patients":123,"n_rare":4,"auc":0.9}', ("n_patients", "n_rare"))
    assert made == {"n_patients": 125, "n_rare": None, "auc": 0.9}


def test_numbers_about_small_groups_only_go_with_their_counts() -> None:
    made = rebuilt(b'{"n_patients":4,"auc":0.9}', ("n_patients",))
    assert made == {"n_patients": None, "auc": None}


def test_count_by_name_is_protected_without_a_declaration() -> None:
    checked = check(b'{"n_rare":4,"auc":0.93}')
    assert checked.rebuilt is not None and json.loads(checked.rebuilt) == {"n_rare": None, "auc": None}
    assert checked.report["findings"][0]["code"] == "treated-as-count"


def test_counts_written_as_fractions_are_counts() -> None:
    """Attack: a float is no whole number, so no rule for counts would reach it."""
    checked = check(b'{"n_patients": 3.0, "count_hiv": 1.0}')
    assert checked.rebuilt is not None
    assert json.loads(checked.rebuilt) == {"n_patients": None, "count_hiv": None}
    assert rebuilt(b'{"n_patients": 123.0, "n_rare": 4e0}', ("n_patients", "n_rare")) == {
        "n_patients": 125,
        "n_rare": None,
    }
    assert rebuilt(b'{"n_patients": 123, "n_rare": 4.00001}') == {"n_patients": 125, "n_rare": None}


def test_whole_numbers_that_are_not_declared_are_shown_to_the_reviewers() -> None:
    checked = check(b'{"deaths": 3.0, "auc": 0.93, "n_patients": 200}', ("n_patients",))
    assert checked.report["findings"] == [
        {
            "code": "whole-numbers-not-counts",
            "message": "a whole number that was not declared as a count",
            "where": "entry deaths",
        }
    ]


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
