"""Attacks on trust by name, and what must hold for honest documents."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from party import GRANT, REGISTRATION, SPEC, changed

from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents import kinds, sshsig, succession, trust
from hdrs_hpc.documents.envelope import Envelope, Signature
from hdrs_hpc.documents.kinds import KINDS
from hdrs_hpc.documents.signing import sign, sign_in_process

BROKER = ("release-record", "certificate", "checkpoint")
PEOPLE = ("dataset-registration", "grant", "code-approval", "job-spec", "output-decision", "closure", "login")
SIGNED = (*PEOPLE, *BROKER)


def _refused(code: str, call, *arguments, **options) -> None:
    with pytest.raises(HdrsError) as caught:
        call(*arguments, **options)
    assert caught.value.code == code, caught.value


@pytest.mark.parametrize("kind", SIGNED)
def test_an_honest_document_of_each_kind_is_verified(party, kind):
    envelope = party.signed(kind)
    found = trust.verify(Envelope.parse(envelope.to_bytes()), KINDS[kind], party.root())
    assert found.payload == envelope.payload
    assert found.digest == envelope.digest
    expected = {"grant": ("ada", "bob"), "job-spec": ("rae",), "code-approval": ("di",)}
    assert found.people == expected.get(kind, found.people)
    assert (found.people == ()) == (kind in BROKER)


@pytest.mark.parametrize("kind", SIGNED)
def test_an_unsigned_document_is_refused(party, kind):
    bare = replace(party.signed(kind), signatures=())
    _refused("unsigned", trust.verify, bare, KINDS[kind], party.root())


def test_one_person_with_two_keys_is_one_person(party):
    second = Ed25519PrivateKey.generate()
    value = party.root_value()
    value["people"]["ada"]["keys"].append(sshsig.public_line(second, "second"))
    root = trust.load_root(party.sign("trust-root", value, "ada", "bob").to_bytes(), None)
    _refused("threshold-not-met", trust.verify, party.sign("grant", GRANT, "ada", second), kinds.GRANT, root)
    assert trust.verify(party.sign("grant", GRANT, second, "bob"), kinds.GRANT, root).people == ("ada", "bob")


def test_one_signature_given_twice_counts_once(party):
    _refused(
        "threshold-not-met", trust.verify, party.sign("grant", GRANT, "ada", "ada"), kinds.GRANT, party.root()
    )


def test_one_key_under_two_key_ids_counts_once(party):
    envelope = party.sign("grant", GRANT, "ada", "ada")
    first, second = envelope.signatures
    lying = replace(envelope, signatures=(first, Signature("SHA256:somebody", second.sig)))
    _refused("keyid-mismatch", trust.verify, lying, kinds.GRANT, party.root())


def test_a_key_id_that_lies_is_refused_not_believed(party):
    envelope = party.sign("job-spec", SPEC, "hal")
    wanted = sshsig.fingerprint(party.line("rae"))
    lying = replace(envelope, signatures=(Signature(wanted, envelope.signatures[0].sig),))
    _refused("keyid-mismatch", trust.verify, lying, kinds.JOB_SPEC, party.root())


def test_one_key_under_two_names_is_refused(party):
    value = party.root_value()
    value["people"]["rae"]["keys"].append(party.line("ada"))
    _refused_root("key-listed-twice", party, value)


def test_one_key_under_two_names_with_other_comments_is_refused(party):
    value = party.root_value()
    value["people"]["rae"]["keys"].append(party.line("ada").rsplit(" ", 1)[0] + " rae@laptop")
    _refused_root("key-listed-twice", party, value)


def test_a_brokers_key_that_is_also_a_persons_is_refused(party):
    value = party.root_value()
    value["people"]["ada"]["keys"].append(party.line("certificate"))
    _refused_root("key-listed-twice", party, value)


def test_one_key_for_two_duties_of_the_broker_is_refused(party):
    value = party.root_value()
    value["broker-keys"]["certificate"] = value["broker-keys"]["checkpoint"]
    _refused_root("key-listed-twice", party, value)


def test_a_threshold_that_nobody_can_meet_is_refused(party):
    value = party.root_value()
    value["thresholds"]["grant"] = 5
    _refused_root("threshold-out-of-reach", party, value)


def _refused_root(code, party, value) -> None:
    raw = party.sign("trust-root", value, "ada", "bob").to_bytes()
    with pytest.raises(HdrsError) as caught:
        trust.load_root(raw, None)
    assert [item.code for item in caught.value.findings] == [code]


def test_a_signature_for_another_kind_is_not_good_for_this_one(party):
    """The same bytes, signed as a closure and presented as a login."""
    payload = strict_json.dumps(SPEC)
    closure = sign_in_process(kinds.CLOSURE, payload, party.keys["rae"])
    forged = Envelope(kinds.JOB_SPEC.payload_type, payload, closure.signatures)
    _refused("wrong-namespace", trust.verify, forged, kinds.JOB_SPEC, party.root())


def test_a_document_of_another_kind_is_refused(party):
    _refused("wrong-payload-type", trust.verify, party.signed("closure"), kinds.GRANT, party.root())


def test_a_payload_that_claims_another_schema_is_refused(party):
    envelope = party.sign("job-spec", changed(SPEC, "schema", "hdrs-hpc/grant/1"), "rae")
    _refused("invalid-document", trust.verify, envelope, kinds.JOB_SPEC, party.root())


@pytest.mark.parametrize(
    ("kind", "value", "signers", "code"),
    [
        ("grant", GRANT, ("ada",), "threshold-not-met"),
        ("grant", GRANT, ("ada", "rae"), "signer-lacks-role"),
        ("grant", GRANT, ("ada", "bob", "hal"), "signer-lacks-role"),
        ("job-spec", SPEC, ("cy",), "signer-lacks-role"),
        ("job-spec", SPEC, ("rae", "sam"), "too-many-signers"),
        ("dataset-registration", REGISTRATION, ("rae",), "signer-lacks-role"),
        ("grant", GRANT, ("ada", "checkpoint"), "signer-unknown"),
    ],
)
def test_the_wrong_people_are_refused(party, kind, value, signers, code):
    _refused(code, trust.verify, party.sign(kind, value, *signers), KINDS[kind], party.root())


def test_a_stranger_is_refused_even_beside_enough_good_signatures(party):
    envelope = party.sign("grant", GRANT, "ada", "bob", Ed25519PrivateKey.generate())
    _refused("signer-unknown", trust.verify, envelope, kinds.GRANT, party.root())


@pytest.mark.parametrize("kind", BROKER)
def test_the_brokers_documents_need_the_key_of_that_duty(party, kind):
    payload = party.signed(kind).payload
    for wrong in ("handover-answer", "ada"):
        _refused("signer-unknown", trust.verify, party.sign(kind, payload, wrong), KINDS[kind], party.root())


def test_the_broker_can_not_sign_for_people(party):
    _refused(
        "signer-unknown",
        trust.verify,
        party.sign("closure", b"{}", "certificate"),
        kinds.CLOSURE,
        party.root(),
    )


def test_a_signature_made_by_ssh_keygen_is_verified(party, tmp_path):
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", key], check=True)
    value = party.root_value()
    value["people"]["rae"]["keys"] = [(tmp_path / "key.pub").read_text().strip()]
    root = trust.load_root(party.sign("trust-root", value, "ada", "bob").to_bytes(), None)
    kind, payload = kinds.JOB_SPEC, strict_json.dumps(SPEC)
    envelope = Envelope(kind.payload_type, payload, (sign(kind, payload, key),))
    assert trust.verify(envelope, kinds.JOB_SPEC, root).people == ("rae",)


# --- the root and its successors


def test_a_pinned_digest_accepts_only_that_root(party):
    raw = party.signed("trust-root").to_bytes()
    digest = Envelope.parse(raw).digest
    assert trust.load_root(raw, digest).digest == digest
    _refused("trust-root-mismatch", trust.load_root, raw, "sha256:" + "0" * 64)


def test_a_root_signed_by_too_few_is_refused(party):
    raw = party.sign("trust-root", party.root_value(), "ada", "rae").to_bytes()
    _refused("threshold-not-met", trust.load_root, raw, None)


def _next(party, old, *signers, **changes) -> trust.VerifiedRoot:
    value = party.root_value(**{"version": 2, "supersedes": old.digest, **changes})
    return trust.load_root(party.sign("trust-root", value, *signers).to_bytes(), None)


def test_an_honest_succession_holds(party):
    old = party.root()
    succession.check(old, _next(party, old, "ada", "bob"))


def test_a_root_changed_below_the_old_threshold_is_refused(party):
    """New custodians crown themselves, with one old one among them."""
    old = party.root()
    new_people = {**party.root_value()["people"]}
    new_people["hal"] = {**new_people["hal"], "roles": ["custodian"]}
    del new_people["bob"]
    coup = _next(party, old, "ada", "hal", people=new_people)
    _refused("threshold-not-met", succession.check, old, coup)
    south_was_not_asked = _next(party, old, "ada", "hal", "bob", people=new_people)
    _refused("threshold-not-met", succession.check, old, south_was_not_asked)
    agreed = _next(party, old, "ada", "hal", "bob", "eli", "fay", people=new_people)
    succession.check(old, agreed)
    assert agreed.people == ("ada", "eli", "fay", "hal")


def test_a_new_root_that_lowers_its_own_threshold_still_needs_the_old_one(party):
    old = party.root()
    alone = {**party.root_value()["thresholds"], "trust-root": 1}
    _refused("threshold-not-met", succession.check, old, _next(party, old, "ada", thresholds=alone))


@pytest.mark.parametrize(
    "changes",
    [{"version": 3}, {"supersedes": "sha256:" + "7" * 64}, {"audience": "elsewhere"}, {"demo": True}],
)
def test_a_successor_that_does_not_follow_is_refused(party, changes):
    old = party.root()
    new = _next(party, old, "ada", "bob", **changes)
    _refused("trust-root-succession", succession.check, old, new)


def _root_with_key(party, person, **record) -> trust.VerifiedRoot:
    value = party.root_value()
    fresh = sshsig.public_line(Ed25519PrivateKey.generate(), "fresh")
    value["people"][person]["keys"] = [{"key": party.line(person), **record}, fresh]
    return trust.load_root(party.sign("trust-root", value, "ada", "bob").to_bytes(), None)


@pytest.mark.parametrize("mark", ["retired", "compromised"])
def test_a_retired_or_compromised_key_signs_nothing_new(party, mark):
    root = _root_with_key(party, "rae", **{f"{mark}-from": 40})
    envelope = party.signed("job-spec")
    _refused(f"key-{mark}", trust.verify, envelope, kinds.JOB_SPEC, root)
    _refused(f"key-{mark}", trust.verify, envelope, kinds.JOB_SPEC, root, accepted_at=40)
    assert trust.verify(envelope, kinds.JOB_SPEC, root, accepted_at=39).people == ("rae",)


def test_a_compromised_custodian_does_not_count_for_a_root(party):
    value = party.root_value()
    value["people"]["bob"]["keys"] = [{"key": party.line("bob"), "compromised-from": 0}]
    raw = party.sign("trust-root", value, "ada", "bob").to_bytes()
    _refused("threshold-not-met", trust.load_root, raw, None)


# --- damage


@pytest.mark.parametrize("kind", [*SIGNED, "trust-root"])
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_every_flipped_bit_and_every_truncation_is_refused(party, kind, data):
    root = party.root()
    raw = party.signed(kind).to_bytes()
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    flipped = bytearray(raw)
    flipped[bit // 8] ^= 1 << (bit % 8)
    for altered in (bytes(flipped), raw[: bit // 8]):
        with pytest.raises(HdrsError):
            if kind == "trust-root":
                trust.load_root(altered, None)
            else:
                trust.verify(Envelope.parse(altered), KINDS[kind], root)
