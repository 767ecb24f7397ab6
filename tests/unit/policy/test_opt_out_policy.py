"""Whose statement of who opted out counts, and which one comes next."""

from __future__ import annotations

from typing import Any

import pytest

from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.opt_out import OptOutChange
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.forms.document import InvalidDocumentError
from hdrs_hpc.policy import opt_out
from tests.support.party import ONES, OTHERS, REGISTRATION, TWOS, Party

CHANGE = OTHERS["opt-out-change"][1]
REGISTERED = (DatasetRegistration.from_value(REGISTRATION),)
REMOVAL = CHANGE | {"version": 2, "supersedes": ONES, "action": "remove", "reason": "Added in error."}


def facts(**changes: Any) -> opt_out.OptOutFacts:
    root = TrustRoot.from_value(Party().root_value())
    value: dict[str, Any] = {"signers": ("ada",), "registrations": REGISTERED, "version": 0, "document": None}
    return opt_out.OptOutFacts(trust_root=root, **value | changes)


def broken(change: dict[str, Any], **changes: Any) -> list[str | None]:
    return [
        rule.code for rule in opt_out.decide(OptOutChange.from_value(change), facts(**changes)) if not rule.ok
    ]


def test_the_first_statement_and_one_that_follows_are_allowed() -> None:
    assert broken(CHANGE) == []
    assert broken(REMOVAL, version=1, document=ONES) == []


@pytest.mark.parametrize(
    ("change", "changes", "code"),
    [
        (CHANGE | {"audience": "elsewhere"}, {}, "wrong-audience"),
        (CHANGE, {"registrations": ()}, "dataset-not-registered"),
        (CHANGE, {"signers": ("rae",)}, "opt-out-not-yours"),
        (CHANGE, {"signers": ("ada", "rae")}, "opt-out-not-yours"),
        (CHANGE, {"signers": ()}, "opt-out-not-yours"),
        (CHANGE, {"version": 1, "document": ONES}, "opt-out-outdated"),
        (REMOVAL, {"version": 1, "document": TWOS}, "opt-out-outdated"),
        (REMOVAL, {"version": 2, "document": ONES}, "opt-out-outdated"),
    ],
)
def test_what_is_refused(change: dict[str, Any], changes: dict[str, Any], code: str) -> None:
    assert broken(change, **changes) == [code]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"version": 2}, "opt-out-chain"),
        ({"supersedes": ONES}, "opt-out-chain"),
        ({"action": "remove", "reason": "Added in error."}, "opt-out-chain"),
        ({"action": "nobody"}, "opt-out-reason"),
        ({"reason": "Withdrawn."}, "opt-out-reason"),
        ({"action": "nobody", "reason": "943 476 5919 came back"}, "opt-out-reason"),
        ({"patients": ["A1"]}, "unknown-field"),
    ],
)
def test_a_statement_that_is_none(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidDocumentError) as refused:
        OptOutChange.from_value(CHANGE | changes)
    assert code in {finding.code for finding in refused.value.findings}
