"""Trust roots that follow each other: whose agreement a change needs, and how a lost or stolen key is replaced."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents import kinds, sshsig, succession, trust
from hdrs_hpc.documents.trust import VerifiedRoot
from tests.support.party import Party

NEW = Ed25519PrivateKey.generate()
NEW_LINE = sshsig.public_line(NEW, "new")
STRANGER = Ed25519PrivateKey.generate()
ENTRY = 40


@pytest.fixture
def party() -> Party:
    """ada and bob of north, eli and fay of south; two people named for recovery, who hold no role."""
    made = Party()
    made.keys |= {name: Ed25519PrivateKey.generate() for name in ("gil", "hue", "ivo")}
    return made


def value_of(party: Party, **changes: Any) -> dict[str, Any]:
    value = party.root_value()
    for name in ("gil", "hue", "ivo"):
        value["people"][name] = {
            "name": name.title(), "organisation": "uni", "keys": [party.line(name)], "roles": [],
        }  # fmt: skip
    value["recovery"] = {"people": ["gil", "hue", "ivo"], "threshold": 2}
    return value | changes


def root(party: Party, value: dict[str, Any], *signers: Any) -> VerifiedRoot:
    return trust.load_root(party.sign("trust-root", value, *signers).to_bytes(), None)


@pytest.fixture
def old(party: Party) -> VerifiedRoot:
    return root(party, value_of(party), "ada", "bob", "eli", "fay")


def following(party: Party, old: VerifiedRoot) -> dict[str, Any]:
    return value_of(party) | {"version": 2, "supersedes": old.digest}


def replaced(party: Party, old: VerifiedRoot, person: str = "bob", mark: str = "retired") -> dict[str, Any]:
    value = following(party, old)
    lost = {"key": party.line(person), f"{mark}-from": ENTRY}
    value["people"][person]["keys"] = [lost, NEW_LINE]
    return value


def code(
    party: Party, old: VerifiedRoot, value: dict[str, Any], *signers: Any, entries: int | None = 50
) -> str | None:
    """The reason code with which the root is refused, None where it may follow."""
    try:
        succession.check(old, root(party, value, *signers), entries=entries)
    except HdrsError as error:
        return error.code
    return None


# --- a replaced key


def test_old_key_new_key_and_another_person_replace_a_key(party, old):
    value = replaced(party, old)
    assert code(party, old, value, "bob", NEW, "ada") is None


@pytest.mark.parametrize("signers", [("bob", NEW), ("bob", "ada"), (NEW, "ada"), ("ada",), ("bob",), (NEW,)])
def test_a_replaced_key_with_one_of_the_three_missing_is_refused(party, old, signers):
    assert code(party, old, replaced(party, old), *signers) == "threshold-not-met"


def test_the_other_person_must_be_of_the_same_organisation(party, old):
    """A custodian of south does not stand in for north's own."""
    assert code(party, old, replaced(party, old), "bob", NEW, "eli") == "threshold-not-met"
    assert code(party, old, replaced(party, old), "bob", NEW, "eli", "fay") == "threshold-not-met"


def test_custodians_give_nobody_a_key_that_did_not_sign(party, old):
    """Otherwise a key of a third person could be listed as bob's without anybody holding it out."""
    value = following(party, old)
    value["people"]["bob"]["keys"] = [party.line("bob"), NEW_LINE]
    assert code(party, old, value, "ada", "bob") == "threshold-not-met"
    assert code(party, old, value, "ada", "bob", NEW) is None


def test_a_key_that_is_known_to_be_stolen_does_not_name_its_own_successor(party, old):
    value = replaced(party, old, mark="compromised")
    assert code(party, old, value, "bob", NEW, "ada") == "threshold-not-met"


# --- a lost key


def test_recovery_people_and_the_custodian_who_is_left_replace_a_lost_key(party, old):
    for mark in ("retired", "compromised"):
        value = replaced(party, old, mark=mark)
        assert code(party, old, value, "ada", "gil", "hue", NEW) is None


@pytest.mark.parametrize(
    "signers",
    [
        ("gil", "hue", "ivo", NEW),  # recovery people alone
        ("gil", "hue", "ivo"),
        ("ada", NEW),  # one custodian alone
        ("ada", "gil", NEW),  # one too few of the recovery people
        ("ada", "gil", "gil", NEW),
        ("ada", "gil", "hue"),  # the new key is nobody's
        ("ada", "gil", STRANGER, NEW),
        ("eli", "gil", "hue", NEW),  # a custodian of another organisation
        ("eli", "fay", "gil", "hue", NEW),
        ("bob", "gil", "hue", NEW),  # the key that is said to be lost
        ("rae", "gil", "hue", NEW),
    ],
)
def test_nobody_takes_over_by_way_of_recovery(party, old, signers):
    assert code(party, old, replaced(party, old), *signers) == "threshold-not-met"


def test_a_stolen_key_of_a_recovery_person_counts_for_nothing(party, old):
    value = value_of(party)
    value["people"]["gil"]["keys"] = [{"key": party.line("gil"), "compromised-from": 3}, party.line("ivo")]
    del value["people"]["ivo"]
    value["recovery"] = {"people": ["gil", "hue"], "threshold": 2}
    begun = root(party, value, "ada", "bob", "eli", "fay")
    lost = copy.deepcopy(value) | {"version": 2, "supersedes": begun.digest}
    lost["people"]["bob"]["keys"] = [{"key": party.line("bob"), "retired-from": ENTRY}, NEW_LINE]
    assert code(party, begun, lost, "ada", "gil", "hue", NEW) == "threshold-not-met"
    assert code(party, begun, lost, "ada", "ivo", "hue", NEW) is None


def _thresholds(value):
    value["thresholds"]["grant"] = 1


def _another_person(value):
    value["people"]["rae"]["roles"] = ["researcher", "checker"]


def _further_person(value):
    value["people"]["zoe"] = value["people"]["rae"] | {"keys": [sshsig.public_line(STRANGER, "zoe")]}


def _own_roles(value):
    value["people"]["bob"]["roles"] = ["custodian", "checker"]


def _own_home(value):
    value["people"]["bob"]["organisation"] = "south"
    value["organisations"]["north"]["threshold"] = 1


def _recovery(value):
    value["recovery"]["threshold"] = 3


def _organisation(value):
    value["organisations"]["south"]["threshold"] = 1


def _second_key(value):
    value["people"]["ada"]["keys"].append(sshsig.public_line(STRANGER, "ada too"))


def _old_key_stays_good(value):
    value["people"]["bob"]["keys"] = [value["people"]["bob"]["keys"][0]["key"], NEW_LINE]


def _old_key_forgotten(value):
    value["people"]["bob"]["keys"] = [NEW_LINE]


def _brokers_key(value):
    value["broker-keys"]["certificate"].append(sshsig.public_line(STRANGER, "another"))


@pytest.mark.parametrize(
    "more",
    [_thresholds, _another_person, _further_person, _own_roles, _own_home, _recovery, _organisation, _second_key,
     _old_key_stays_good, _old_key_forgotten, _brokers_key],
)  # fmt: skip
def test_recovery_changes_nothing_but_the_lost_keys(party, old, more):
    value = replaced(party, old)
    more(value)
    assert code(party, old, value, "ada", "gil", "hue", "ivo", NEW, STRANGER) == "threshold-not-met"


def test_recovery_does_not_touch_two_people_at_once_nor_anybody_but_custodians(party, old):
    value = replaced(party, old)
    value["people"]["ada"]["keys"] = [
        {"key": party.line("ada"), "retired-from": ENTRY}, sshsig.public_line(STRANGER, "ada"),
    ]  # fmt: skip
    assert code(party, old, value, "ada", "gil", "hue", NEW, STRANGER) == "threshold-not-met"
    for person in ("rae", "gil", "cy"):
        assert code(party, old, replaced(party, old, person), "ada", "gil", "hue", NEW) == "threshold-not-met"


def test_without_named_people_there_is_no_recovery(party):
    begun = root(party, party.root_value(), "ada", "bob")
    value = party.root_value(version=2, supersedes=begun.digest)
    value["people"]["bob"]["keys"] = [{"key": party.line("bob"), "retired-from": ENTRY}, NEW_LINE]
    assert code(party, begun, value, "ada", NEW, "gil", "hue") == "threshold-not-met"


@pytest.mark.parametrize(
    ("recovery", "found"),
    [
        ({"people": ["gil", "nobody"], "threshold": 2}, "recovery-people"),
        ({"people": ["gil", "gil"], "threshold": 2}, "recovery-people"),
        ({"people": ["gil", "hue"], "threshold": 3}, "recovery-people"),
        ({"people": ["gil", "ada"], "threshold": 2}, "recovery-people"),
        ({"people": ["gil", "hue"], "threshold": 1}, "bad-value"),
    ],
)
def test_recovery_people_are_others_than_custodians_and_at_least_two(party, recovery, found):
    value = value_of(party, recovery=recovery)
    value["people"]["ivo"]["roles"] = value["people"]["hue"]["roles"] = ["researcher"]
    with pytest.raises(HdrsError) as caught:
        root(party, value, "ada", "bob")
    assert [item.code for item in caught.value.findings] == [found]


# --- whom a change concerns


def _one_decides(value: dict[str, Any], organisation: str) -> None:
    value["organisations"][organisation]["threshold"] = 1


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        (lambda v: None, set()),
        (lambda v: v["people"].update(zoe=v["people"]["rae"] | {"keys": [NEW_LINE]}), set()),
        (lambda v: v["organisations"].update(west={"name": "West"}), set()),
        (lambda v: v["people"].update(zoe=v["people"]["eli"] | {"keys": [NEW_LINE]}), {"south"}),
        (lambda v: (v["people"]["ada"].update(organisation="south"), _one_decides(v, "north")), {"north", "south"}),
        (lambda v: v["people"]["eli"].update(roles=["custodian", "researcher"]), {"south"}),
        (lambda v: v["organisations"]["south"].update(threshold=1), {"south"}),
        (lambda v: (v["people"].pop("fay"), _one_decides(v, "south")), {"south"}),
        (lambda v: v["people"]["rae"].update(keys=[NEW_LINE]), {"north", "south"}),
        (lambda v: v["people"].pop("rae"), {"north", "south"}),
        (lambda v: v["people"]["cy"].update(keys=[NEW_LINE]), {"north", "south"}),
        (lambda v: v["people"].update(zoe=v["people"]["cy"] | {"keys": [NEW_LINE]}), {"north", "south"}),
        (lambda v: v["thresholds"].update(grant=1), {"north", "south"}),
        (lambda v: v["thresholds"].update(closure=2), {"north", "south"}),
        (lambda v: v["broker-keys"]["checkpoint"].append(NEW_LINE), {"north", "south"}),
        (lambda v: v["recovery"].update(threshold=3), {"north", "south"}),
    ],
)  # fmt: skip
def test_a_change_concerns_those_whom_it_could_harm(party, old, change, asked):
    value = following(party, old)
    change(value)
    new = trust.TrustRoot.from_value(value)
    assert succession.concerned(old.document, new) == asked


def test_two_custodians_of_one_hospital_do_not_become_custodians_of_another(party, old):
    """The way round the rule that owners grant their data: to become the owner's custodians first."""
    value = following(party, old)
    for name in ("ada", "bob"):
        value["people"][name]["organisation"] = "south"
    assert code(party, old, value, "ada", "bob") == "threshold-not-met"
    assert code(party, old, value, "ada", "bob", "eli") == "threshold-not-met"
    assert code(party, old, value, "ada", "bob", "eli", "fay") is None


def test_a_researchers_key_of_the_university_is_not_changed_by_one_hospital_alone(party, old):
    value = following(party, old)
    value["people"]["rae"]["keys"] = [NEW_LINE]
    assert code(party, old, value, "ada", "bob", NEW) == "threshold-not-met"
    assert code(party, old, value, "ada", "bob", "eli", "fay") is None


# --- marks


def _marked(party: Party, old: VerifiedRoot, **mark: int) -> VerifiedRoot:
    value = following(party, old)
    value["people"]["bob"]["keys"] = [{"key": party.line("bob"), **mark}, NEW_LINE]
    return root(party, value, "ada", NEW, "bob", "eli", "fay")


@pytest.mark.parametrize(
    "keys",
    [
        lambda line: [line, NEW_LINE],
        lambda line: [{"key": line, "compromised-from": ENTRY + 1}, NEW_LINE],
        lambda line: [{"key": line, "retired-from": ENTRY}, NEW_LINE],
        lambda line: [NEW_LINE],
    ],
)
def test_the_mark_of_a_compromised_key_is_never_taken_back(party, old, keys):
    before = _marked(party, old, **{"compromised-from": ENTRY})
    value = following(party, old) | {"version": 3, "supersedes": before.digest}
    value["people"]["bob"]["keys"] = keys(party.line("bob"))
    assert code(party, before, value, "ada", NEW, "eli", "fay") == "trust-root-succession"
    value["people"]["bob"]["keys"] = [{"key": party.line("bob"), "compromised-from": ENTRY - 1}, NEW_LINE]
    assert code(party, before, value, "ada", NEW, "eli", "fay") is None


def test_a_compromised_key_is_not_listed_anew_for_somebody_else(party, old):
    before = _marked(party, old, **{"compromised-from": ENTRY})
    value = following(party, old) | {"version": 3, "supersedes": before.digest}
    value["people"]["bob"] = value["people"]["bob"] | {"keys": [NEW_LINE]}
    value["people"]["rae"]["keys"].append(party.line("bob"))
    assert code(party, before, value, "ada", NEW, "eli", "fay") == "trust-root-succession"


@pytest.mark.parametrize("mark", ["retired", "compromised"])
def test_no_mark_lies_ahead_of_the_log(party, old, mark):
    """Until then the key would still be believed by whoever judges by log entries."""
    value = replaced(party, old, mark=mark)
    assert code(party, old, value, "ada", "gil", "hue", NEW, entries=ENTRY - 1) == "trust-root-succession"
    assert code(party, old, value, "ada", "gil", "hue", NEW, entries=ENTRY) is None


def test_a_compromised_key_is_not_used_from_its_entry_on(party, old):
    from tests.support.party import GRANT

    new = root(party, replaced(party, old, mark="compromised"), "ada", "gil", "hue", NEW)
    grant = party.sign("grant", GRANT, "ada", "bob")
    assert trust.verify(grant, kinds.GRANT, new, accepted_at=ENTRY - 1).people == ("ada", "bob")
    for entry in (ENTRY, ENTRY + 1, None):
        with pytest.raises(trust.KeyCompromisedError):
            trust.verify(grant, kinds.GRANT, new, accepted_at=entry)


# --- what is missing


def test_the_progress_names_those_who_are_missing(party, old):
    value = replaced(party, old)
    envelope = party.sign("trust-root", value, "ada")
    told = succession.progress(old, envelope, trust.TrustRoot.from_value(value))
    sentences = [need.sentence() for need in told.needs]
    assert not told.recovery and not told.complete
    assert "1 of 2 custodians of north, whom it concerns (ada); still missing: bob" in sentences
    begun = succession.progress(
        old, party.sign("trust-root", value, "ada", "gil"), trust.TrustRoot.from_value(value)
    )
    assert begun.recovery
    assert "1 of 2 recovery people (gil); still missing: 1 of hue, ivo" in [n.sentence() for n in begun.needs]
    assert any(sentence.sentence().startswith("0 of 1 new key of bob") for sentence in begun.needs)
