from __future__ import annotations

from dataclasses import replace

import pytest
from party import GRANT, NINES, ONES, OTHERS, TWOS, changed

from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.review import OutputDecision
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.policy import review

VALUE = OTHERS["output-decision"][1]
NONCE = "0123456789ABCDEFGHJKMNPQRS"


@pytest.fixture
def facts(party) -> review.ReviewFacts:
    return review.ReviewFacts(
        grant=Grant.from_value(GRANT),
        trust_root=TrustRoot.from_value(party.root_value()),
        job="7K3QW2",
        artefacts={"cohort": review.UnderReview(rebuilt=ONES, report=TWOS)},
        nonce=NONCE,
    )


def _codes(facts: review.ReviewFacts, value: dict = VALUE, checker: str = "cy") -> list[str]:
    results = review.decide(OutputDecision.from_value(value), checker, facts)
    return [rule.code for rule in results if not rule.ok]


def test_a_checker_from_outside_decides_on_what_was_shown(facts):
    assert _codes(facts) == []


@pytest.mark.parametrize("who", ["rae", "ada", "nobody"])
def test_who_is_no_checker_decides_nothing(facts, who):
    assert "not-a-checker" in _codes(facts, checker=who)


def test_a_checker_who_researches_in_the_project_decides_nothing(facts):
    inside = replace(facts, grant=Grant.from_value(changed(GRANT, "people/researchers", ["rae", "sam"])))
    assert _codes(inside, checker="sam") == ["conflict-of-interest"]


@pytest.mark.parametrize(
    ("path", "new", "code"),
    [
        ("job", "8K3QW2", "decision-for-another-job"),
        ("project", "heart-fm", "decision-for-another-job"),
        ("nonce", "Z" * 26, "decision-for-another-job"),
        ("decisions/0/rebuilt", NINES, "decision-for-other-content"),
        ("decisions/0/report", NINES, "decision-for-other-content"),
    ],
)
def test_a_decision_replayed_on_something_else_is_refused(facts, path, new, code):
    assert _codes(facts, changed(VALUE, path, new)) == [code]


def test_a_decision_replayed_on_another_artefact_is_refused(facts):
    codes = _codes(facts, changed(VALUE, "decisions/0/artefact", "other"))
    assert codes == ["decision-for-other-content", "decision-incomplete"]


def test_every_artefact_is_decided_on(facts):
    more = {**facts.artefacts, "spacing": review.UnderReview(NINES, NINES)}
    assert _codes(replace(facts, artefacts=more)) == ["decision-incomplete"]


def test_a_second_decision_of_the_same_checker_is_refused(facts):
    assert _codes(replace(facts, decided_by=frozenset({"cy"}))) == ["already-decided"]


def _verdict(verdict: str) -> OutputDecision:
    return OutputDecision.from_value(changed(VALUE, "decisions/0/verdict", verdict))


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        ([], "pending"),
        (["approve"], "pending"),
        (["refuse"], "pending"),
        (["approve", "approve"], "release"),
        (["approve", "refuse"], "withhold"),
        (["return", "approve"], "withhold"),
        (["refuse", "refuse"], "withhold"),
        (["approve", "approve", "refuse"], "withhold"),
    ],
)
def test_disagreement_withholds_and_nothing_is_settled_before_all_have_decided(verdicts, outcome):
    decisions = {f"checker-{index}": _verdict(verdict) for index, verdict in enumerate(verdicts)}
    assert review.combine(decisions, "cohort", 2) == outcome


def test_an_artefact_that_nobody_named_is_withheld():
    decisions = {"cy": _verdict("approve"), "di": _verdict("approve")}
    assert review.combine(decisions, "spacing", 2) == "withhold"
