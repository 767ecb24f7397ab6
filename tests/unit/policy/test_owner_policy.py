"""Whose data and whose project: rules on grants, registrations, closures and jobs, without any broker."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from party import GRANT, NINES, ONES, OTHERS, REGISTRATION, TWOS

from hdrs_hpc.documents import owners
from hdrs_hpc.documents.models.closure import Closure
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.policy import closing, registration
from hdrs_hpc.policy import grant as grant_policy
from hdrs_hpc.policy.rules import RuleResult

OWNED = {"north-chest-ct": "north"}


def _codes(results: tuple[RuleResult, ...]) -> list[str | None]:
    return [rule.code for rule in results if not rule.ok]


@pytest.fixture
def root(party) -> TrustRoot:
    return TrustRoot.from_value(party.root_value())


@pytest.mark.parametrize(
    ("signers", "met"),
    [(("ada", "bob"), True), (("ada",), False), (("ada", "eli"), False), (("eli", "fay"), False),
     (("ada", "cy"), False), (("ada", "bob", "eli"), True)],
)  # fmt: skip
def test_an_owner_has_agreed_when_enough_of_its_own_custodians_signed(root, signers, met):
    (found,) = owners.consents(root, signers, OWNED)
    assert (found.met, found.needed) == (met, 2)


def test_an_owner_that_the_root_does_not_list_can_not_agree(root):
    (found,) = owners.consents(root, ("ada", "bob", "eli", "fay"), {"x": "gone"})
    assert not found.met and found.missing == ()


def test_a_checker_of_the_owner_is_no_custodian(root):
    assert owners.strangers_to_dataset(root, ("ada", "cy"), "north") == ("cy",)


@pytest.mark.parametrize("threshold", ["trust-root", "grant", "dataset-registration", "organisation"])
def test_a_grant_of_real_data_under_a_weak_root_is_refused_by_name(party, threshold):
    value = party.root_value()
    if threshold == "organisation":
        value["organisations"]["south"]["threshold"] = 1
    else:
        value["thresholds"][threshold] = 1
    facts = grant_policy.GrantFacts(
        now=datetime(2026, 11, 25, tzinfo=UTC),
        signers=("ada", "bob"),
        trust_root=TrustRoot.from_value(value),
        registrations={"north-chest-ct": DatasetRegistration.from_value(REGISTRATION)},
    )
    assert _codes(grant_policy.decide(Grant.from_value(GRANT), facts)) == ["real-data-needs-two"]


def test_one_person_may_still_press_the_red_button_where_data_are_real(party):
    assert party.root_value()["thresholds"]["closure"] == 1
    assert TrustRoot.from_value(party.root_value()).one_person_decides == ()


# --- registrations


def _register(root: TrustRoot, registered: list[dict[str, Any]], **changes: Any) -> list[str | None]:
    facts = registration.RegistrationFacts(
        signers=("eli", "fay"),
        trust_root=root,
        registered=tuple(DatasetRegistration.from_value(REGISTRATION | item) for item in registered),
    )
    mine = {
        "owner": "south",
        "name": "south-ct",
        "version": TWOS,
        "source": {"type": "folder", "path": "/south"},
    }
    return _codes(registration.decide(DatasetRegistration.from_value(REGISTRATION | mine | changes), facts))


WEB = {"type": "dicomweb", "url": "https://pacs.north.example/dicom-web", "select": {"modalities": ["CT"]}}
DIMSE = {"type": "dimse", "host": "pacs.north", "called-ae": "ARCHIVE", "select": {"everything": True}}
S3 = {"type": "s3", "bucket": "north-data", "prefix": "ct/", "endpoint": "https://s3.north"}
SFTP = {
    "type": "sftp",
    "host": "files.north",
    "user": "reader",
    "host-key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHwFBFpyHarZUrY5DMpXAb4P/rRBJwBS7eG+m3CuSnMe",
    "identity": "/k",
    "path": "/data/ct",
}


@pytest.mark.parametrize(
    ("theirs", "mine", "taken"),
    [
        (WEB, WEB, True),
        (WEB, WEB | {"select": {"modalities": ["MR"]}}, True),
        (WEB, WEB | {"url": "https://PACS.north.example:443/dicom-web/"}, True),
        (WEB, WEB | {"url": "https://pacs.south.example/dicom-web"}, False),
        (DIMSE, DIMSE | {"calling-ae": "OTHER"}, True),
        (DIMSE, DIMSE | {"called-ae": "SOUTH"}, False),
        (S3, S3 | {"prefix": ""}, True),
        (S3, S3 | {"prefix": "ct/2021/"}, True),
        (S3, S3 | {"prefix": "mr/"}, False),
        (SFTP, SFTP | {"user": "another", "path": "/data"}, True),
        (SFTP, SFTP | {"path": "/data/mr"}, False),
        (SFTP, {"type": "folder", "path": "/data/ct"}, False),
        ({"type": "folder", "path": "/a/b"}, {"type": "folder", "path": "//a/./c/../b/"}, True),
        ({"type": "folder", "path": "/a/b"}, {"type": "folder", "path": "/a/bc"}, False),
    ],
)
def test_an_archive_that_one_owner_registered_is_not_registered_for_another(root, theirs, mine, taken):
    found = _register(root, [{"source": theirs}], source=mine)
    assert found == (["dataset-owned-by-another"] if taken else [])
    assert _register(root, [{"owner": "south", "name": "other", "source": theirs}], source=mine) == []


# --- closures


def _close(root: TrustRoot, action: str, *signers: str, **more: Any) -> list[str | None]:
    value = OTHERS["closure"][1] | {"action": action} | ({"freeze": ONES} if action == "unfreeze" else {})
    facts = {"granted_by": ("ada", "bob"), "owners": OWNED, "state": "ACTIVE", "freezes": (ONES,)} | more
    made = closing.ClosingFacts(signers=signers, trust_root=root, **facts)
    return _codes(closing.decide(Closure.from_value(value), made))


@pytest.mark.parametrize("action", ["freeze", "close", "revoke"])
def test_a_project_is_stopped_by_those_whom_it_concerns(root, action):
    assert _close(root, action, "ada") == []
    assert _close(root, action, "bob", granted_by=("ada", "eli")) == []
    assert _close(root, action, "fay", granted_by=("ada", "bob", "eli")) == [], "of a granting organisation"
    assert _close(root, action, "eli") == ["not-their-project"]
    assert _close(root, action, "ada", "eli") == ["not-their-project"]


def test_a_freeze_is_lifted_by_those_who_could_grant(root):
    assert _close(root, "unfreeze", "ada", "bob") == []
    assert _close(root, "unfreeze", "ada") == ["threshold-not-met", "owner-signatures-missing"]
    assert _close(root, "unfreeze", "ada", "bob", freezes=(NINES,)) == ["freeze-not-in-force"]
    assert _close(root, "unfreeze", "ada", "bob", state="CLOSING") == ["project-closed"]
    both = {"owners": OWNED | {"south-mr": "south"}, "granted_by": ("ada", "bob", "eli", "fay")}
    assert _close(root, "unfreeze", "ada", "bob", **both) == ["owner-signatures-missing"]
    assert _close(root, "unfreeze", "ada", "bob", "eli", "fay", **both) == []


def test_only_the_lifting_of_a_freeze_names_one(root):
    from hdrs_hpc.core.errors import BadDocumentError

    for value in ({"action": "freeze", "freeze": ONES}, {"action": "unfreeze"}):
        with pytest.raises(BadDocumentError) as caught:
            Closure.from_value(OTHERS["closure"][1] | value)
        assert [item.code for item in caught.value.findings] == ["freeze-not-named"]
