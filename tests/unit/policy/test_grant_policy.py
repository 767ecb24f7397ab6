from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from party import GRANT, NINES, OTHERS, REGISTRATION, TWOS, changed

from hdrs_hpc.documents.models.approval import CodeApproval
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.policy import grant as policy


@pytest.fixture
def facts(party) -> policy.GrantFacts:
    return policy.GrantFacts(
        now=datetime(2026, 11, 25, tzinfo=UTC),
        signers=("ada", "bob"),
        trust_root=TrustRoot.from_value(party.root_value()),
        registrations={"north-chest-ct": DatasetRegistration.from_value(REGISTRATION)},
    )


def _codes(grant: dict, facts: policy.GrantFacts) -> list[str]:
    return [rule.code for rule in policy.decide(Grant.from_value(grant), facts) if not rule.ok]


def test_an_honest_grant_is_accepted(facts):
    assert _codes(GRANT, facts) == []


def test_the_next_version_follows_the_one_in_force(facts):
    later = replace(facts, in_force=Grant.from_value(GRANT), in_force_digest=NINES, project_state="ACTIVE")
    second = {**GRANT, "version": 2, "supersedes": NINES}
    assert _codes(second, later) == []
    assert _codes({**second, "version": 3}, later) == ["grant-version"]
    assert _codes({**second, "supersedes": TWOS}, later) == ["grant-version"]
    assert _codes(GRANT, later) == ["grant-version"], "the same grant again, or an older one"
    assert _codes(second, facts) == ["grant-version"], "a second version without a first"


def test_the_next_version_needs_those_whose_data_the_version_before_gave(facts):
    south = DatasetRegistration.from_value({**REGISTRATION, "name": "south-mr", "owner": "south"})
    second = {
        **GRANT,
        "version": 2,
        "supersedes": NINES,
        "data": {"south-mr": GRANT["data"]["north-chest-ct"]},
    }
    later = replace(
        facts,
        registrations={"south-mr": south},
        in_force=Grant.from_value(GRANT),
        in_force_digest=NINES,
        in_force_owners={"north-chest-ct": "north"},
    )
    assert _codes(second, replace(later, signers=("eli", "fay"))) == ["owner-signatures-missing"]
    assert _codes(second, replace(later, signers=("ada", "bob", "eli", "fay"))) == []


@pytest.mark.parametrize("state", ["CLOSING", "CLOSED"])
def test_a_closed_project_can_not_be_granted_again(facts, state):
    assert _codes(GRANT, replace(facts, project_state=state)) == ["project-closed"]


@pytest.mark.parametrize(
    ("path", "new", "codes"),
    [
        ("audience", "elsewhere", ["wrong-audience"]),
        ("audience", "north-sde", []),
        ("people/researchers", ["cy"], ["grant-person-unknown"]),
        ("people/lead", "nobody", ["grant-person-unknown"]),
        ("outputs/reviewers", 4, ["not-enough-checkers"]),
        ("data/north-chest-ct/version", TWOS, ["dataset-version-mismatch"]),
        ("data/north-chest-ct/select", {"PatientID": ["1"]}, ["selection-keyword-refused"]),
        ("data/north-chest-ct/columns", {"id": "patient-id"}, ["columns-misplaced"]),
        ("limits/isolation", "cooperative", ["grant-isolation-too-low"]),
    ],
)
def test_a_grant_that_does_not_fit_is_refused(facts, path, new, codes):
    assert _codes(changed(GRANT, path, new), facts) == codes


def test_nobody_signs_a_grant_for_a_project_they_lead_or_research_in(facts):
    assert _codes(changed(GRANT, "people/lead", "ada"), facts) == ["conflict-of-interest"]


def test_a_table_is_granted_by_its_columns(facts):
    table = DatasetRegistration.from_value({**REGISTRATION, "kind": "table"})
    facts = replace(facts, registrations={"north-chest-ct": table})
    bare = changed(GRANT, "data/north-chest-ct/select", {})
    assert _codes(bare, facts) == ["columns-misplaced"]
    assert _codes(changed(bare, "data/north-chest-ct/columns", {"id": "patient-id"}), facts) == []


def test_unregistered_data_can_not_be_granted(facts):
    assert _codes(GRANT, replace(facts, registrations={})) == ["dataset-not-registered"]


def test_a_demo_root_can_not_grant_real_data(party, facts):
    demo = replace(facts, trust_root=TrustRoot.from_value(party.root_value(demo=True)))
    assert _codes(GRANT, demo) == ["real-data-under-demo-root"]


def test_a_grant_whose_time_is_over_is_refused(facts):
    assert _codes(GRANT, replace(facts, now=datetime(2028, 1, 1, tzinfo=UTC))) == ["grant-already-over"]


@pytest.mark.parametrize(
    ("signer", "reviewer", "ok"), [("di", "di", True), ("di", "sam", False), ("rae", "rae", False)]
)
def test_a_code_approval_is_signed_by_the_reviewer_it_names_from_outside(signer, reviewer, ok):
    approval = CodeApproval.from_value({**OTHERS["code-approval"][1], "reviewer": reviewer})
    results = policy.check_code_approval(approval, signer, Grant.from_value(GRANT))
    assert all(item.ok for item in results) is ok


def test_what_is_not_built_or_not_filled_in_is_not_accepted_either(facts):
    """A client that does not ask the table before signing is no way round it."""
    assert _codes(changed(GRANT, "limits/network", "job"), facts) == ["not-built"]
    assert _codes(changed(GRANT, "outputs/weights", {"keep": "release"}), facts) == ["not-built"]
    assert _codes(changed(GRANT, "outputs/bits", 1), facts) == ["not-built"]
    assert _codes(changed(GRANT, "approval/reference", "DAC-0000"), facts) == ["draft-unfilled"]
