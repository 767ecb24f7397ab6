"""Filing: what is believed and by whom; each refusal by name, with nothing half-accepted."""

from __future__ import annotations

import dataclasses
import io
import tarfile
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hdrs_hpc.broker.filing import accept, trust_root, uploads
from hdrs_hpc.broker.filing import login as filed_login
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.client import KeydUnreachableError
from hdrs_hpc.broker.store import checkpoint, documents, projects
from hdrs_hpc.core import clock, ids, strict_json
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents import sshsig
from hdrs_hpc.documents.envelope import Envelope
from tests.support.desk import PROJECT, Desk
from tests.support.party import NINES, ONES, OTHERS, REGISTRATION, TWOS, changed
from tests.support.uploading import bring
from tests.support.wheels import build, lock


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "home").begin()


def flip(raw: bytes, place: int, bit: int = 0) -> bytes:
    altered = bytearray(raw)
    altered[place] ^= 1 << bit
    return bytes(altered)


# --- what goes well


def test_every_kind_is_accepted_logged_with_its_bytes_and_answered_with_a_checkpoint(desk: Desk) -> None:
    for kind, envelope in desk.every_kind().items():
        before = len(desk.entries())
        receipt = desk.take(envelope.to_bytes())
        assert (receipt.kind, receipt.digest, receipt.known) == (kind, envelope.digest, False)
        accepted = desk.entries()[before]
        assert accepted.subject["document"] == envelope.digest
        with desk.db.read() as tx:
            found = documents.get(tx, envelope.digest)
        assert found.raw == envelope.to_bytes()
        assert Envelope.parse(receipt.checkpoint).payload_type.endswith("checkpoint+json")


def test_the_same_bytes_twice_are_one_document_and_one_job(desk: Desk) -> None:
    for envelope in desk.every_kind().values():
        first = desk.take(envelope.to_bytes())
        rows, size = desk.contents(), len(desk.entries())
        again = desk.take(envelope.to_bytes())
        assert (again.digest, again.project, again.job, again.known) == (
            first.digest,
            first.project,
            first.job,
            True,
        )
        assert (desk.contents(), len(desk.entries())) == (rows, size)


def test_the_same_spec_from_many_threads_at_once_is_one_job(desk: Desk) -> None:
    raw = desk.sign("job-spec", desk.spec(), "rae").to_bytes()
    lock, receipts = threading.Lock(), []

    def ask[R](request: m.Ask[R]) -> R:
        with lock:  # keyd answers one request after the other
            return desk.ask(request)

    def file() -> None:
        receipts.append(accept.accept(desk.db, ask, raw, home=desk.home))

    threads = [threading.Thread(target=file) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({receipt.job for receipt in receipts}) == 1
    assert sorted(receipt.known for receipt in receipts) == [False] + [True] * 7
    assert desk.count("jobs") == 1


def test_keyd_holds_to_a_grant_as_soon_as_it_is_accepted(desk: Desk) -> None:
    assert desk.ask(m.Inspect(PROJECT)).grant == desk.in_force("grant")


# --- who signs


def test_one_person_with_two_keys_is_one_person(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "home")
    second = Ed25519PrivateKey.generate()
    people = desk.party.root_value()["people"]
    people = changed(people, "ada/keys", [desk.party.line("ada"), sshsig.public_line(second, "ada's other")])
    real = desk.party.root_value
    desk.party.root_value = lambda **more: real(people=people, **more)  # type: ignore[method-assign]  # one root
    desk.pin()
    desk.file("dataset-registration", REGISTRATION, second, "bob")  # each of them is ada's
    assert desk.refused(lambda: desk.file("grant", desk.grant(), "ada", second)) == "threshold-not-met"


def test_one_key_under_two_names_makes_no_root(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "home")
    people = desk.party.root_value()["people"]
    people = changed(people, "bob/keys", [desk.party.line("ada").replace(" ada", " bob")])
    real = desk.party.root_value
    desk.party.root_value = lambda **more: real(people=people, **more)  # type: ignore[method-assign]  # one root
    with pytest.raises(HdrsError) as refused:
        desk.pin()
    assert "key-listed-twice" in str(refused.value)
    assert (desk.count("documents"), desk.entries()) == (0, [])


def test_a_custodian_who_works_in_the_project_does_not_grant_it(desk: Desk) -> None:
    value = desk.grant(project="heart-fm", people={"lead": "ada", "researchers": ["rae"]})
    assert desk.refused(lambda: desk.file("grant", value, "ada", "bob")) == "conflict-of-interest"


def test_a_reviewer_who_works_in_the_project_does_not_approve_its_code(desk: Desk) -> None:
    value = desk.grant(project="heart-fm", people={"lead": "sam", "researchers": ["sam"]})
    desk.file("grant", value, "ada", "bob")
    approval = OTHERS["code-approval"][1] | {"project": "heart-fm", "reviewer": "sam"}
    assert desk.refused(lambda: desk.file("code-approval", approval, "sam")) == "conflict-of-interest"
    approval = OTHERS["code-approval"][1] | {"reviewer": "di"}
    assert desk.refused(lambda: desk.file("code-approval", approval, "sam")) == "conflict-of-interest"


def test_a_checker_who_researches_in_the_project_does_not_check_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "home")
    real = desk.grant
    desk.grant = lambda **more: real(  # type: ignore[method-assign]  # the grant that lets sam research
        **({"people": {"lead": "rae", "researchers": ["rae", "sam"]}} | more)
    )
    desk.begin()
    job = desk.job_in_review()
    decision = desk.decision(job)
    assert desk.refused(lambda: desk.file("output-decision", decision, "sam")) == "conflict-of-interest"
    assert desk.refused(lambda: desk.file("output-decision", decision, "rae")) == "signer-lacks-role"


SIGNED_BY_THE_WRONG = [
    ("dataset-registration", ("rae",), "signer-lacks-role"),
    ("grant", ("ada",), "threshold-not-met"),
    ("grant", ("ada", "ada"), "threshold-not-met"),
    ("grant", ("ada", "rae"), "signer-lacks-role"),
    ("code-approval", ("cy",), "signer-lacks-role"),
    ("code-approval", ("di", "sam"), "too-many-signers"),
    ("job-spec", ("cy",), "signer-lacks-role"),
    ("job-spec", ("sam",), "not-found"),
    ("output-decision", ("rae",), "signer-lacks-role"),
    ("closure", ("rae",), "signer-lacks-role"),
    ("trust-root", ("ada",), "threshold-not-met"),
    ("trust-root", ("ada", "rae"), "threshold-not-met"),
]


@pytest.mark.parametrize(("kind", "people", "code"), SIGNED_BY_THE_WRONG)
def test_signed_by_too_few_or_by_the_wrong(desk: Desk, kind: str, people: tuple[str, ...], code: str) -> None:
    value = desk.every_kind()[kind].payload
    assert desk.refused(lambda: desk.file(kind, value, *people)) == code


@pytest.mark.parametrize("kind", [kind for kind, _, _ in SIGNED_BY_THE_WRONG])
def test_unsigned_or_signed_by_a_stranger(desk: Desk, kind: str) -> None:
    value = desk.every_kind()[kind].payload
    assert desk.refused(lambda: desk.file(kind, value)) == "unsigned"
    stranger = Ed25519PrivateKey.generate()
    expected = "threshold-not-met" if kind == "trust-root" else "signer-unknown"
    assert desk.refused(lambda: desk.file(kind, value, stranger)) == expected


@pytest.mark.parametrize("kind", ["release-record", "certificate", "checkpoint", "login", "handover-answer"])
def test_what_is_not_filed(desk: Desk, kind: str) -> None:
    if kind in OTHERS:
        raw = desk.party.signed(kind).to_bytes()
    else:
        raw = Envelope(f"application/vnd.hdrs-hpc.{kind}+json", b"{}").to_bytes()
    assert desk.refused(lambda: desk.take(raw)) == "not-for-filing"


def test_a_document_posing_as_another_kind(desk: Desk) -> None:
    made = desk.every_kind()
    for kind, envelope in made.items():
        for other in made.values():
            if other.payload_type != envelope.payload_type:
                posing = dataclasses.replace(envelope, payload_type=other.payload_type).to_bytes()
                assert desk.refused(lambda posing=posing: desk.take(posing)), kind


# --- specs


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"audience": "south-sde"}, "wrong-audience"),
        ({"not-before": +1}, "spec-not-yet-valid"),
        ({"expires": 0}, "spec-expired"),
        ({"project": "heart-fm"}, "not-found"),
    ],
)
def test_a_spec_for_elsewhere_or_another_time(desk: Desk, changes: dict[str, Any], code: str) -> None:
    made = {
        key: clock.to_text(desk.now + timedelta(hours=value)) if isinstance(value, int) else value
        for key, value in changes.items()
    }
    assert desk.refused(lambda: desk.file("job-spec", desk.spec(**made), "rae")) == code


def test_a_replayed_nonce_is_refused_for_the_same_person_only(desk: Desk) -> None:
    spec = desk.spec()
    desk.file("job-spec", spec, "rae")
    assert desk.refused(lambda: desk.file("job-spec", spec | {"name": "other"}, "rae")) == "replayed"


def test_a_spec_whose_bundle_was_not_brought_or_is_another(desk: Desk) -> None:
    work = {"kind": "dask", "bundle": {"digest": TWOS, "size": 1024}, "entry": "mine:run"}
    spec = desk.spec(workload=work)
    assert desk.refused(lambda: desk.file("job-spec", spec, "rae")) == "bundle-missing"
    with pytest.raises(HdrsError) as refused:
        uploads.add(desk.db, desk.home, "rae", begun_as(desk, TWOS, 1024), 0, b"x" * 1024)
    assert refused.value.code == "upload-digest-mismatch"
    assert desk.refused(lambda: desk.file("job-spec", spec, "rae")) == "bundle-missing"


def test_a_spec_whose_bundle_is_no_code(desk: Desk) -> None:
    raw = b"not a tar" * 100
    digest = bring(desk.db, desk.home, PROJECT, "rae", raw)
    work = {"kind": "dask", "bundle": {"digest": digest, "size": len(raw)}, "entry": "mine:run"}
    assert desk.refused(lambda: desk.file("job-spec", desk.spec(workload=work), "rae")) == "bundle-malformed"


def begun_as(desk: Desk, digest: str, size: int) -> str:
    begun = uploads.begin(desk.db, desk.home, "rae", PROJECT, digest, size)
    assert begun.upload is not None
    return begun.upload


# --- grants, registrations, roots


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"version": 1, "supersedes": None, "title": "Again"}, "grant-version"),
        ({"version": 3}, "grant-version"),
        ({"supersedes": ONES}, "grant-version"),
        ({"audience": "south-sde"}, "wrong-audience"),
        (
            {"data": {"unheard-of": {"version": NINES, "profile": "radiology-basic@1"}}},
            "dataset-not-registered",
        ),
        ({"people": {"lead": "rae", "researchers": ["cy"]}}, "grant-person-unknown"),
    ],
    ids=lambda item: next(iter(item)) if isinstance(item, dict) else "",
)
def test_a_grant_that_does_not_follow_or_names_what_is_not_there(
    desk: Desk, changes: dict[str, Any], code: str
) -> None:
    value = desk.grant(version=2, supersedes=desk.in_force("grant")) | changes
    if value["supersedes"] is None:
        del value["supersedes"]
    assert desk.refused(lambda: desk.file("grant", value, "ada", "bob")) == code
    assert desk.ask(m.Inspect(PROJECT)).grant == desk.in_force("grant")


def test_a_frozen_project_gets_no_new_grant(desk: Desk) -> None:
    desk.file("closure", OTHERS["closure"][1] | {"action": "freeze"}, "ada")
    value = desk.grant(version=2, supersedes=desk.in_force("grant"))
    assert desk.refused(lambda: desk.file("grant", value, "ada", "bob")) == "project-not-active"


def test_a_version_of_a_dataset_is_registered_once(desk: Desk) -> None:
    other = REGISTRATION | {"sensitivity": "synthetic"}  # would take real data out of its sandbox
    assert (
        desk.refused(lambda: desk.file("dataset-registration", other, "ada", "bob")) == "dataset-registered"
    )


@pytest.mark.parametrize(
    ("changes", "people", "code"),
    [
        ({}, ("ada",), "threshold-not-met"),
        ({"version": 3}, ("ada", "bob"), "trust-root-succession"),
        ({"supersedes": ONES}, ("ada", "bob"), "trust-root-succession"),
        ({"audience": "south-sde"}, ("ada", "bob"), "trust-root-succession"),
        ({"demo": True}, ("ada", "bob"), "trust-root-succession"),
        ({"thresholds": {"trust-root": 1}}, ("ada",), "threshold-not-met"),
    ],
    ids=["too-few", "version", "supersedes", "audience", "demo", "own-lower-threshold"],
)
def test_a_root_changed_below_threshold_or_out_of_line(
    desk: Desk, changes: dict[str, Any], people: tuple[str, ...], code: str
) -> None:
    value = desk.party.root_value(version=2, supersedes=desk.root.digest) | changes
    assert desk.refused(lambda: desk.file("trust-root", value, *people)) == code
    assert desk.ask(m.Status()).root == desk.root.digest


def test_nothing_is_believed_or_logged_before_there_is_a_root(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "home")
    for kind in ("grant", "closure", "job-spec"):
        with pytest.raises(HdrsError):
            desk.take(desk.party.signed(kind).to_bytes())
    with pytest.raises(HdrsError):
        filed_login.accept(desk.db, desk.party.signed("login").to_bytes(), "x")
    with pytest.raises(HdrsError):
        desk.take(b"no envelope")
    assert desk.entries() == []
    desk.pin()
    assert [entry.event for entry in desk.entries()] == ["trust-root-accepted"]


def test_the_first_root_is_pinned_by_a_digest_that_came_another_way(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "home")
    raw = desk.party.signed("trust-root").to_bytes()
    with pytest.raises(HdrsError) as refused:
        trust_root.accept_first(desk.db, desk.ask, raw, ONES)
    assert refused.value.code == "trust-root-mismatch"
    assert (desk.count("documents"), desk.entries(), desk.ask(m.Status()).root) == (0, [], None)


# --- decisions


def test_a_decision_replayed_on_another_artefact_job_or_content(desk: Desk) -> None:
    first, second = desk.job_in_review(), desk.job_in_review()
    decision = desk.decision(first)
    cases = {
        "decision-for-other-content": [
            changed(decision, "decisions/0/rebuilt", TWOS),
            changed(decision, "decisions/0/report", ONES),
            changed(decision, "decisions/0/artefact", "unheard-of"),
        ],
        "decision-incomplete": [changed(decision, "decisions", decision["decisions"][:1])],
        "decision-for-another-job": [decision | {"project": "heart-fm"}],
        "not-found": [decision | {"job": "ZZZZZZ"}],
    }
    for code, values in cases.items():
        for value in values:
            assert desk.refused(lambda value=value: desk.file("output-decision", value, "cy")) == code
    desk.file("output-decision", decision, "cy")
    altered = Envelope.parse(desk.sign("output-decision", decision, "cy").to_bytes())
    moved = dataclasses.replace(altered, payload=altered.payload.replace(first.encode(), second.encode()))
    assert desk.refused(lambda: desk.take(moved.to_bytes())) == "bad-signature"


def test_a_checker_decides_once(desk: Desk) -> None:
    job = desk.job_in_review()
    desk.file("output-decision", desk.decision(job), "cy")
    other = desk.decision(job, verdict="refuse")
    assert desk.refused(lambda: desk.file("output-decision", other, "cy")) == "already-decided"


def test_a_job_that_is_not_in_review_is_not_decided(desk: Desk) -> None:
    job = desk.file("job-spec", desk.spec(), "rae").job
    assert job is not None
    assert desk.refused(lambda: desk.file("output-decision", desk.decision(job), "cy")) == "review-not-open"


def test_a_decision_stays_sealed_in_the_log_until_all_have_decided(desk: Desk) -> None:
    receipt = desk.file("output-decision", desk.decision(desk.job_in_review()), "cy")
    (entry,) = [item for item in desk.entries() if item.event == "decision-filed"]
    assert entry.subject["document"] == receipt.digest
    assert entry.detail.keys() == {"envelope"}


# --- closures: what takes away is never in the way of itself


def test_a_closure_freezes_keyd_before_the_database(desk: Desk) -> None:
    seen: list[bool] = []

    def ask[R](request: m.Ask[R]) -> R:
        if isinstance(request, m.AdmitClosure):
            with desk.db.read() as tx:
                seen.append(projects.get(tx, PROJECT).frozen)
        return desk.ask(request)

    raw = desk.sign("closure", OTHERS["closure"][1], "ada").to_bytes()
    accept.accept(desk.db, ask, raw, home=desk.home)
    assert seen == [False]
    with desk.db.read() as tx:
        assert projects.get(tx, PROJECT).frozen


def test_a_project_is_closed_although_keyd_was_never_told_of_its_grant(tmp_path: Path) -> None:
    """The process that accepted the grant died before it told keyd; the controller has not come by yet."""
    desk = Desk(tmp_path / "home")
    desk.pin()
    desk.file("dataset-registration", REGISTRATION, "ada", "bob")

    def dying[R](request: m.Ask[R]) -> R:
        if isinstance(request, m.AdmitGrant):
            raise KeydUnreachableError()
        return desk.ask(request)

    with pytest.raises(KeydUnreachableError):
        raw = desk.sign("grant", desk.grant(), "ada", "bob").to_bytes()
        accept.accept(desk.db, dying, raw, home=desk.home)
    assert desk.ask(m.Inspect(PROJECT)).grant is None
    desk.file("closure", OTHERS["closure"][1], "ada")
    assert desk.ask(m.Inspect(PROJECT)).grant == desk.in_force("grant")
    with pytest.raises(HdrsError) as refused:
        desk.ask(m.CreateKey(PROJECT, "output", "A1", None, None))
    assert refused.value.code == "project-frozen"


def test_a_closed_project_can_still_be_revoked(desk: Desk) -> None:
    desk.file("closure", OTHERS["closure"][1], "ada")
    desk.file("closure", OTHERS["closure"][1] | {"action": "revoke", "nonce": ids.new_id(26)}, "ada")
    with desk.db.read() as tx:
        project = projects.get(tx, PROJECT)
    assert (project.state, project.closing_reason) == ("CLOSING", "revoked")


def test_trouble_that_may_pass_is_not_written_down_as_a_refusal(desk: Desk) -> None:
    def down[R](request: m.Ask[R]) -> R:
        raise KeydUnreachableError()

    before = desk.contents(), len(desk.entries())
    raw = desk.sign("closure", OTHERS["closure"][1], "ada").to_bytes()
    with pytest.raises(KeydUnreachableError):
        accept.accept(desk.db, down, raw, home=desk.home)
    assert (desk.contents(), len(desk.entries())) == before
    assert desk.take(raw).known is False


# --- altered bytes


KINDS = [
    "trust-root",
    "dataset-registration",
    "grant",
    "code-approval",
    "job-spec",
    "output-decision",
    "closure",
]


@pytest.mark.parametrize("kind", KINDS)
def test_no_truncation_of_any_document_is_accepted_or_crashes(desk: Desk, kind: str) -> None:
    raw = desk.every_kind()[kind].to_bytes()
    for length in {0, 1, 2, *range(3, len(raw), 61), len(raw) - 2, len(raw) - 1}:
        desk.refused(lambda length=length: desk.take(raw[:length]))


@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_bit_of_any_document_is_accepted_or_crashes(desk: Desk, kind: str) -> None:
    """Bits all over the envelope: payload, its type, key ids, signatures, and JSON's own marks."""
    raw = desk.every_kind()[kind].to_bytes()
    for place in range(0, len(raw), 23):
        desk.refused(lambda place=place: desk.take(flip(raw, place, place % 7)))


@pytest.mark.parametrize("kind", KINDS)
def test_no_bit_of_payload_or_signature_can_be_flipped_inside_the_envelope(desk: Desk, kind: str) -> None:
    """Base64 that decodes well, so that the signature has to find it."""
    envelope = desk.every_kind()[kind]
    for place in range(0, len(envelope.payload), 41):
        altered = dataclasses.replace(envelope, payload=flip(envelope.payload, place, place % 8))
        desk.refused(lambda altered=altered: desk.take(altered.to_bytes()))
    first, *others = envelope.signatures
    for place in range(0, len(first.sig), 7):
        forged = dataclasses.replace(first, sig=flip(first.sig, place, place % 8))
        altered = dataclasses.replace(envelope, signatures=(forged, *others))
        desk.refused(lambda altered=altered: desk.take(altered.to_bytes()))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b'{"payload":"","payload":"","payloadType":"","signatures":[]}',
        strict_json.dumps({"payload": "e30=", "payloadType": "x", "signatures": [], "extra": 1}),
        b'{"payload":"' + b"A" * (4 << 20) + b'","payloadType":"x","signatures":[]}',
    ],
    ids=["empty", "no-text", "null", "deep", "twice", "extra", "huge"],
)
def test_what_is_no_envelope_at_all(desk: Desk, raw: bytes) -> None:
    desk.refused(lambda: desk.take(raw))


HOSTILE: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "unknown-field": lambda value: strict_json.dumps(value | {"extra": 1}),
    "duplicate-key": lambda value: strict_json.dumps(value)[:-1] + b',"schema":"x"}',
    "deep": lambda value: strict_json.dumps(value | {"extra": eval("[" * 40 + "]" * 40)}),
    "huge": lambda value: strict_json.dumps(value | {"extra": "x" * (1 << 20)}),
    "not-a-mapping": lambda value: b"[]",
    "not-utf-8": lambda value: b"\xff" + strict_json.dumps(value),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", HOSTILE)
def test_well_signed_nonsense_is_refused(desk: Desk, kind: str, how: str) -> None:
    envelope = desk.every_kind()[kind]
    payload = HOSTILE[how](strict_json.loads(envelope.payload))
    people = {"grant": ("ada", "bob"), "trust-root": ("ada", "bob"), "job-spec": ("rae",)}
    signers = people.get(kind, ("di",) if kind == "code-approval" else ("cy",) if "dec" in kind else ("ada",))
    try:
        raw = desk.sign(kind, payload, *signers).to_bytes()
    except HdrsError:
        return  # not even an envelope holds it
    desk.refused(lambda: desk.take(raw))


# --- a database that was put back


def test_a_restored_database_gets_no_checkpoint_and_so_no_receipt(desk: Desk, tmp_path: Path) -> None:
    desk.db.close()
    backup = desk.home.database.read_bytes()
    for leftover in desk.home.root.glob("broker.db-*"):
        leftover.unlink()
    desk.file("job-spec", desk.spec(), "rae")
    desk.db.close()
    for leftover in desk.home.root.glob("broker.db-*"):
        leftover.unlink()
    desk.home.database.write_bytes(backup)
    with pytest.raises(HdrsError) as refused:
        desk.file("job-spec", desk.spec(), "rae")
    assert refused.value.code == "log-rolled-back"
    with pytest.raises(HdrsError) as frozen:
        desk.ask(m.CreateKey(PROJECT, "output", "A1", None, None))
    assert frozen.value.code == "log-not-proven"
    with pytest.raises(HdrsError):
        checkpoint.sign(desk.db, desk.ask)


# --- wheels


def own_code(desk: Desk, *built: tuple[str, bytes], sent: bool = True, **named: Any) -> dict[str, Any]:
    """A spec of own code that brings wheels along, all of them uploaded unless ``sent`` is false."""
    made = lock(*built)
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in (("mine.py", b"def run(ctx): ...\n"), ("requirements.lock", made.to_bytes())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    code = target.getvalue()
    for _, raw in built if sent else ():
        bring(desk.db, desk.home, PROJECT, "rae", raw)
    wheels = {"lock": made.digest(), "size": made.size} | named
    bundle = {"digest": bring(desk.db, desk.home, PROJECT, "rae", code), "size": len(code), "wheels": wheels}
    return desk.spec(workload={"kind": "dask", "bundle": bundle, "entry": "mine:run"})


def test_a_job_keeps_its_code_and_wheels_until_it_is_purged(desk: Desk) -> None:
    spec = own_code(desk, build("one"), build("two"))
    assert desk.file("job-spec", spec, "rae").job is not None
    assert desk.count("job_files") == 3


@pytest.mark.parametrize(
    ("built", "more", "code"),
    [
        (build(), {"sent": False}, "bundle-missing"),
        (build(), {"lock": TWOS}, "wheels-lock-mismatch"),
        (build(), {"size": 7}, "wheels-lock-mismatch"),
        (build("numpy"), {}, "wheel-in-flavour"),
        (build(files={"../outside.py": b""}), {}, "wheel-unsafe-path"),
        (("tiny-1.0-py3-none-any.whl", b"no zip file"), {}, "wheel-malformed"),
        (("tiny-1.0.tar.gz", b"source"), {}, "wheel-not-built"),
    ],
)
def test_a_spec_whose_wheels_may_not_come(
    desk: Desk, built: tuple[str, bytes], more: dict[str, Any], code: str
) -> None:
    spec = own_code(desk, built, **more)
    assert desk.refused(lambda: desk.file("job-spec", spec, "rae")) == code


def test_wheels_that_only_another_project_brought_are_not_there(desk: Desk) -> None:
    spec = own_code(desk, build(), sent=False)
    desk.file(
        "grant", desk.grant(project="other-fm", people={"lead": "sam", "researchers": ["sam"]}), "ada", "bob"
    )
    bring(desk.db, desk.home, "other-fm", "sam", build()[1])
    assert desk.refused(lambda: desk.file("job-spec", spec, "rae")) == "bundle-missing"
