"""The airlock as a whole: rules of the grant, reports, determinism."""

from __future__ import annotations

import hashlib
import json

import pytest

from hdrs_hpc.broker.workers.airlock.check import check, check_set
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs.checking.declared import Declared, OutputRulesError
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from tests.support import declaring

AMPLE = InputFacts(people=100_000, items=1_000_000, instances=10_000_000, real=False)
TEXT = b"site,n,mean\na,4,1.23456\nb,40,2.34567\nc,51,3.45678\n"
TABLE = declaring.table(TEXT + b"d,74,4.56789\n", name="cohort")
GRANT = {"reviewers": 2, "table": {"min-count": 10, "round": 5}, "image": {}, "weights": {"keep": "project"}}
SALT = b"0123456789abcdef"


def test_class_outside_the_grant_is_refused() -> None:
    metrics = Declared("m", "metrics", "m.json")
    assert (
        check(metrics, b'{"a":1}', OutputRules.from_dict(GRANT), SALT, AMPLE).refused == "class-not-granted"
    )
    assert (
        check(TABLE, TEXT, OutputRules.from_dict({"image": {}}), SALT, AMPLE).refused == "class-not-granted"
    )


@pytest.mark.parametrize("cls", ["weights", "log", "__class__"])
def test_class_without_a_rule_is_refused(cls: str) -> None:
    weights = Declared("w", cls, "w.safetensors")
    assert check(weights, b"x", OutputRules.from_dict(GRANT), SALT, AMPLE).refused == "class-not-supported"


def test_thresholds_come_from_the_grant() -> None:
    strict = OutputRules.from_dict({"table": {"min-count": 50, "round": 10}})
    text = b"site,n,mean\na,4,1.23456\nb,47,2.34567\nc,51,3.45678\nd,74,4.56789\n"
    checked = check(TABLE, text, strict, SALT, AMPLE)
    assert checked.rebuilt == b"site,n,mean\nc,50,3.457\nd,70,4.568\n"
    # Hidden ones that are below 50 together take another along.
    fewer = check(TABLE, text.replace(b"47", b"40"), strict, SALT, AMPLE)
    assert fewer.rebuilt == b"site,n,mean\nd,70,4.568\n"
    assert checked.report["rules"] == {"min-count": 50, "round": 10, "significant-digits": 4}


def test_absent_thresholds_are_the_national_ones() -> None:
    assert OutputRules.from_dict({"table": {}}).as_dict() == {
        "table": {"min-count": 10, "round": 5, "significant-digits": 4}
    }


@pytest.mark.parametrize("bad", [{"table": 10}, {"table": {"min-count": 0}}, {"table": {"round": "5"}},
                                 {"table": {"min-count": True}}, {"metrics": []}])  # fmt: skip
def test_rules_that_say_nothing_clear_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(OutputRulesError):
        OutputRules.from_dict(bad)


def test_declaration_round_trips_and_is_bounded() -> None:
    declared = Declared("f", "image", "f.png", (), "cohort", 2048)
    assert Declared.from_dict(json.loads(json.dumps(declared.as_dict()))) == declared
    for change in (
        {"max-size": 0},
        {"max-size": 1 << 40},
        {"counts": ["n", "N"]},
        {"columns": [["n", {}, 1]]},
    ):
        with pytest.raises(OutputRulesError):
            Declared.from_dict({**declared.as_dict(), **change})


def test_same_input_gives_the_same_bytes_and_report() -> None:
    """A step that runs again after a crash must not change what reviewers have signed."""
    first, second = (
        check_set([(TABLE, TEXT)], OutputRules.from_dict(GRANT), SALT, AMPLE)[0] for _ in range(2)
    )
    assert (first.rebuilt, first.report_bytes) == (second.rebuilt, second.report_bytes)


def test_report_commits_to_the_original_without_letting_it_be_guessed() -> None:
    rules = OutputRules.from_dict(GRANT)
    checked = check(TABLE, TEXT, rules, SALT, AMPLE)
    assert hashlib.sha256(TEXT).hexdigest() not in checked.report_bytes.decode()
    expected = hashlib.sha256(SALT + hashlib.sha256(TEXT).digest()).hexdigest()
    assert checked.report["original"]["commitment"] == f"sha256:{expected}"
    other = check(TABLE, TEXT, rules, SALT[::-1], AMPLE)
    assert other.report["original"]["commitment"] != checked.report["original"]["commitment"]
    assert other.rebuilt == checked.rebuilt


def test_report_names_the_digest_of_what_may_leave_and_says_it_in_sentences() -> None:
    checked = check(TABLE, TEXT, OutputRules.from_dict(GRANT), SALT, AMPLE)
    assert checked.rebuilt is not None
    digest = f"sha256:{hashlib.sha256(checked.rebuilt).hexdigest()}"
    assert checked.rebuilt_digest == checked.report["rebuilt"]["digest"] == digest
    assert checked.report["sentences"] == [
        "1 count below 10 suppressed.",
        "1 more count suppressed to protect them.",
        "2 rows removed in which no count was left.",
        "2 numbers rounded: counts to the nearest 5, others to 4 significant digits.",
        "Whatever it may hide fits into 6 bytes.",
        "n counts n.",
    ]


def test_short_salt_and_double_names_are_our_bug_not_a_refusal() -> None:
    with pytest.raises(ValueError, match="salt"):
        check(TABLE, TEXT, OutputRules.from_dict(GRANT), b"short", AMPLE)
    with pytest.raises(ValueError, match="one name"):
        check_set([(TABLE, TEXT), (TABLE, TEXT)], OutputRules.from_dict(GRANT), SALT, AMPLE)
