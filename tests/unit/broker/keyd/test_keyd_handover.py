"""keyd gives keys to one attempt, for one signed spec, under one grant, once; each refusal by name."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.grants import (
    DatasetNotGrantedError,
    ProjectFrozenError,
    ProjectNotInTimeError,
    ProjectUnknownError,
)
from hdrs_hpc.broker.keyd.handover import (
    GpusMissingError,
    HandoverRefusedError,
    IsolationProbeError,
    SecondKeyError,
)
from hdrs_hpc.broker.keyd.keystore import KeyDestroyedError, KeyUnknownError
from hdrs_hpc.broker.keyd.logwatch import CheckpointOvertakenError, NotLoggedError
from hdrs_hpc.core import clock, wire
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents import sshsig, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.policy import refusals
from hdrs_hpc.protocol import handover
from hdrs_hpc.protocol.handover import Probe
from tests.support.keyroom import (
    ATTEMPT,
    CHOSEN,
    COPY,
    LIST,
    OTHER_ATTEMPT,
    STRONG,
    KeyRoom,
    Node,
    facts,
    signed,
)
from tests.support.party import GRANT, ONES, OTHERS, TWOS, changed


@pytest.fixture
def room(tmp_path: Path) -> KeyRoom:
    return KeyRoom(tmp_path / "keyd").begin()


def digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


@pytest.fixture
def node() -> Node:
    return Node()


# --- what goes well


def test_an_agent_gets_exactly_what_was_decided_for_it(room: KeyRoom, node: Node) -> None:
    order = node.open(room.hand_over(node)["n1"])
    assert (order.project, order.attempt, order.isolation) == ("lung-fm", ATTEMPT, "sandboxed")
    assert order.workload["builtin"] == "cohort-summary@1"
    assert order.spec == Envelope.parse(room.spec()).payload
    assert [output.name for output in order.outputs] == ["cohort", "spacing"]
    assert order.inputs["ct"].manifest_digest == CHOSEN
    assert (order.inputs["ct"].holder, order.inputs["ct"].role) == (COPY, "copy")
    assert len({order.output_key, order.inputs["ct"].key, order.shared_secret}) == 3
    assert order.not_after == "2027-01-15T14:10:00Z"  # two hours from the start, and ten minutes to seal


def test_the_answer_is_signed_for_this_broker_project_attempt_node_and_key(room: KeyRoom, node: Node) -> None:
    envelope = Envelope.parse(room.hand_over(node)["n1"].envelope)
    line = room.ask(m.SigningKeys()).lines["handover-answer"]
    sshsig.verify(line, envelope.signatures[0].sig, handover.NAMESPACE, envelope.pae())
    binding = handover.parse_answer(envelope.payload).binding
    told = (binding.audience, binding.project, binding.attempt, binding.node, binding.manifests)
    assert told == ("north-sde", "lung-fm", ATTEMPT, "n1", (CHOSEN,))
    assert binding.public_key == node.private.public_key().public_bytes_raw()


def test_the_same_hello_again_is_bound_and_answered_with_the_same_bytes(room: KeyRoom, node: Node) -> None:
    first = room.bind(node)
    answered = room.answer(*room.tell_bound(first))
    assert room.bind(node) == first
    assert room.answer(*room.tell_bound(first)) == answered
    room.restart()
    assert room.bind(node) == first
    assert room.answer(*room.tell_bound(first)) == answered


def test_keys_for_two_nodes_open_each_on_its_own_only(room: KeyRoom) -> None:
    nodes = Node("n1"), Node("n2")
    answers = room.hand_over(*nodes, spec=room.spec("resources/nodes", 2))
    orders = [node.open(answers[node.name]) for node in nodes]
    assert orders[0] == orders[1]
    listed = handover.parse_nodes(room.nodes)
    assert [(item.node, item.hello) for item in listed.nodes] == [
        (node.name, node.hello().digest()) for node in nodes
    ]
    assert {signed(answer).binding.nodes for answer in answers.values()} == {digest(room.nodes)}
    with pytest.raises(handover.AnswerUnreadableError):
        nodes[0].open(answers["n2"])


# --- the documents do not allow it


def test_a_project_that_keyd_was_never_told_of(room: KeyRoom, node: Node) -> None:
    with pytest.raises(ProjectUnknownError):
        room.bind(node, project="heart-fm")


def test_a_spec_of_another_project(room: KeyRoom, node: Node) -> None:
    with pytest.raises(refusals.ProjectUnknownError):
        room.bind(node, spec=room.spec("project", "heart-fm"))


def test_a_spec_for_another_broker(room: KeyRoom, node: Node) -> None:
    with pytest.raises(refusals.WrongAudienceError):
        room.bind(node, spec=room.spec("audience", "south-sde"))


def test_a_spec_of_a_researcher_of_another_project(room: KeyRoom, node: Node) -> None:
    with pytest.raises(refusals.NotAResearcherError):
        room.bind(node, spec=room.spec(person="sam"))


def test_a_spec_of_a_person_who_is_no_researcher(room: KeyRoom, node: Node) -> None:
    with pytest.raises(trust.SignerRoleError):
        room.bind(node, spec=room.spec(person="cy"))


def test_a_spec_altered_by_one_bit(room: KeyRoom, node: Node) -> None:
    envelope = Envelope.parse(room.spec())
    for place in (0, len(envelope.payload) // 2, -2):
        payload = bytearray(envelope.payload)
        payload[place] ^= 1
        with pytest.raises(HdrsError) as refused:
            room.bind(node, spec=dataclasses.replace(envelope, payload=bytes(payload)).to_bytes())
        assert refused.value.kind != "bug"


def test_a_frozen_a_closed_and_a_revoked_project(room: KeyRoom, node: Node) -> None:
    for action in ("freeze", "close", "revoke"):
        room.ask(m.AdmitClosure(room.closure(action)))
        with pytest.raises(ProjectFrozenError):
            room.bind(node)


@pytest.mark.parametrize(
    ("moment", "error"),
    [
        ("2026-11-30T23:59:59Z", refusals.ProjectNotStartedError),
        ("2027-07-01T00:00:00Z", refusals.ProjectEndedError),
    ],
)
def test_a_project_before_its_first_and_after_its_last_day(
    room: KeyRoom, node: Node, moment: str, error: type[HdrsError]
) -> None:
    room.now = clock.from_text(moment)
    with pytest.raises(error):
        room.bind(node)


def test_a_dataset_in_a_version_that_a_newer_grant_no_longer_gives(room: KeyRoom, node: Node) -> None:
    envelope = room.party.sign("grant", GRANT, "ada", "bob").to_bytes()
    newer = room.party.sign(
        "grant", room.next_grant(envelope, "data/north-chest-ct/version", TWOS), "ada", "bob"
    )
    room.ask(room.admit_request(newer, room.tell_grant(newer), room.registration(version=TWOS)))
    with pytest.raises(DatasetNotGrantedError):
        room.bind(node)


def test_a_copy_made_under_a_wider_selection_than_the_grant_gives_now(room: KeyRoom, node: Node) -> None:
    envelope = room.party.sign("grant", GRANT, "ada", "bob").to_bytes()
    room.admit(
        room.next_grant(
            envelope,
            "data/north-chest-ct/select",
            {"BodyPartExamined": ["CHEST"], "StudyDate": "2023-01-01/2023-12-31"},
        )
    )
    with pytest.raises(DatasetNotGrantedError):
        room.bind(node)


def test_a_copy_of_another_dataset_than_the_spec_names(room: KeyRoom, node: Node) -> None:
    with pytest.raises(refusals.DatasetNotGrantedError):
        room.bind(node, spec=room.spec("data", {"ct": {"dataset": "north-lung-he"}}))


def test_a_copy_that_is_not_sealed_yet(room: KeyRoom, node: Node) -> None:
    room.ask(
        m.CreateKey(
            "lung-fm", "copy", "C2", "north-chest-ct", GRANT["data"]["north-chest-ct"]["version"], LIST
        )
    )
    with pytest.raises(HandoverRefusedError, match="not sealed"):
        room.bind(node, copies=(facts(copy="C2"),))


def test_a_copy_that_does_not_exist_or_is_destroyed(room: KeyRoom, node: Node) -> None:
    with pytest.raises(KeyUnknownError):
        room.bind(node, copies=(facts(copy="C9"),))
    room.ask(m.Destroy("lung-fm", "copies", COPY))
    with pytest.raises(KeyDestroyedError):
        room.bind(node)


@pytest.mark.parametrize("copies", [(), (("he", COPY),), (("ct", COPY), ("he", COPY))])
def test_more_fewer_or_other_inputs_than_the_spec_names(
    room: KeyRoom, node: Node, copies: tuple[tuple[str, str], ...]
) -> None:
    told = tuple(facts(name, copy) for name, copy in copies)
    with pytest.raises(HandoverRefusedError, match="inputs"):
        room.bind(node, copies=told)


@pytest.mark.parametrize(
    ("path", "new", "error"),
    [
        ("resources/time", "25:00:00", refusals.TimeOverLimitError),
        ("resources/nodes", 9, refusals.TooManyNodesError),
    ],
)
def test_a_spec_that_asks_for_more_than_the_grant_gives(
    room: KeyRoom, node: Node, path: str, new: Any, error: type[HdrsError]
) -> None:
    with pytest.raises(error):
        room.bind(node, spec=room.spec(path, new))


def test_a_workload_that_is_not_granted(room: KeyRoom, node: Node) -> None:
    with pytest.raises(refusals.WorkloadUnknownError):
        room.bind(node, spec=room.spec("workload/builtin", "other-summary@1"))


def test_a_spec_before_its_time(room: KeyRoom, node: Node) -> None:
    room.now = clock.from_text("2027-01-14T23:59:59Z")
    with pytest.raises(refusals.SpecNotYetValidError):
        room.bind(node)


# --- own code


BUNDLE = "sha256:" + "b" * 64
BUNDLED = {"kind": "dask", "bundle": {"digest": BUNDLE, "size": 1024}, "entry": "mine:run"}
APPROVAL = OTHERS["code-approval"][1] | {"bundle": BUNDLE}
PARTS = ("attempts", ATTEMPT, "bundle")


def with_bundle(room: KeyRoom) -> dict[str, Any]:
    room.ask(m.CreateKey("lung-fm", "bundle", ATTEMPT, None, None))
    room.ask(m.NoteManifest("lung-fm", "bundle", ATTEMPT, "b.manifest", ONES))
    approval = room.party.sign("code-approval", APPROVAL, "di").to_bytes()
    return {"spec": room.spec("workload", BUNDLED), "bundle_parts": PARTS, "code_approvals": (approval,)}


def test_approved_code_is_handed_over_under_its_own_key(room: KeyRoom, node: Node) -> None:
    order = node.open(room.hand_over(node, **with_bundle(room))["n1"])
    bundle = order.bundle
    assert bundle is not None
    assert (bundle.digest, bundle.sealed.manifest_digest) == (BUNDLE, ONES)
    assert bundle.sealed.key not in (order.output_key, order.inputs["ct"].key)


@pytest.mark.parametrize(
    ("value", "signer", "code"),
    [
        (APPROVAL | {"bundle": ONES}, "di", "code-not-approved"),
        (APPROVAL | {"project": "heart-fm"}, "di", "code-not-approved"),
        (APPROVAL | {"reviewer": "sam"}, "di", "code-not-approved"),
        (APPROVAL, "rae", "code-not-approved"),
        (APPROVAL, "cy", "code-not-approved"),
    ],
    ids=["another-bundle", "another-project", "signed-for-another", "by-the-researcher", "by-a-mere-checker"],
)
def test_an_approval_that_does_not_cover_this_code(
    room: KeyRoom, node: Node, value: dict[str, Any], signer: str, code: str
) -> None:
    asked = with_bundle(room) | {
        "code_approvals": (room.party.sign("code-approval", value, signer).to_bytes(),)
    }
    with pytest.raises(HdrsError) as refused:
        room.bind(node, **asked)
    assert refused.value.code == code


@pytest.mark.parametrize("order", [1, -1])
def test_an_approval_that_counts_for_nothing_takes_nothing_from_another(
    room: KeyRoom, node: Node, order: int
) -> None:
    asked = with_bundle(room)
    without_the_role = room.party.sign("code-approval", APPROVAL | {"reviewer": "cy"}, "cy").to_bytes()
    approvals = (without_the_role, *asked["code_approvals"])[::order]
    assert node.open(room.hand_over(node, **(asked | {"code_approvals": approvals}))["n1"]).bundle is not None


def test_code_approved_by_somebody_who_works_in_the_project(tmp_path: Path, node: Node) -> None:
    room = KeyRoom(tmp_path / "keyd")
    raw = room.root()
    room.ask(m.PinRoot(raw, Envelope.parse(raw).digest))
    room.admit(changed(GRANT, "people/researchers", ["rae", "sam"]))  # sam may review code, elsewhere
    room.opt_out()
    room.seal_copy()
    room.ask(m.CreateKey("lung-fm", "output", ATTEMPT, None, None))
    approval = room.party.sign("code-approval", APPROVAL | {"reviewer": "sam"}, "sam").to_bytes()
    with pytest.raises(refusals.ConflictOfInterestError):
        room.bind(node, **(with_bundle(room) | {"code_approvals": (approval,)}))


def test_no_approval_and_no_bundle_at_all(room: KeyRoom, node: Node) -> None:
    asked = with_bundle(room)
    with pytest.raises(refusals.CodeNotApprovedError):
        room.bind(node, **(asked | {"code_approvals": ()}))
    with pytest.raises(HandoverRefusedError):
        room.bind(node, **(asked | {"bundle_parts": None}))


def test_a_bundle_beside_a_built_in_workload(room: KeyRoom, node: Node) -> None:
    with_bundle(room)
    with pytest.raises(HandoverRefusedError):
        room.bind(node, bundle_parts=PARTS)


# --- the node does not allow it


@pytest.mark.parametrize("u", [0, 1, 2**255 - 20, 2**255 - 19])
def test_a_node_with_a_public_key_of_small_order(room: KeyRoom, u: int) -> None:
    """Whoever carries messages could give one, and would know every secret sealed to it."""
    weak = dataclasses.replace(Node().hello(), public_key=u.to_bytes(32, "little"))
    with pytest.raises(HdrsError) as caught:
        room.ask(dataclasses.replace(room.bind_request(Node()), hellos=(weak,)))
    assert caught.value.code == "handover-node-key-refused"
    room.bind(Node())  # nothing was bound: the honest key is still the first


@pytest.mark.parametrize(
    "probe",
    [
        Probe("cooperative", (), True, True, 0),
        Probe("sandboxed", ("network",), True, True, 0),
        Probe("sandboxed", (), False, True, 0),
        Probe("sandboxed", (), True, False, 0),
    ],
    ids=["weaker-level", "something-reached", "shared-memory", "dumpable"],
)
def test_a_node_whose_probe_found_less_isolation_than_required(room: KeyRoom, probe: Probe) -> None:
    with pytest.raises(IsolationProbeError):
        room.bind(Node(probe=probe))


@pytest.mark.parametrize("found", [0, 1])
def test_a_node_that_was_given_fewer_gpus_than_the_spec_asks_for(room: KeyRoom, found: int) -> None:
    with pytest.raises(GpusMissingError):
        room.bind(Node(probe=dataclasses.replace(STRONG, gpus=found)))


def test_a_broker_that_asks_for_less_isolation_than_the_grant(room: KeyRoom, node: Node) -> None:
    with pytest.raises(refusals.IsolationInsufficientError):
        room.bind(node, isolation="cooperative")


@pytest.mark.parametrize("names", [(), ("n1", "n2"), ("n1", "n1")])
def test_more_or_fewer_nodes_than_the_spec_asks_for(room: KeyRoom, names: tuple[str, ...]) -> None:
    with pytest.raises(HandoverRefusedError, match="nodes"):
        room.bind(*map(Node, names))


def test_an_agent_of_another_attempt(room: KeyRoom) -> None:
    with pytest.raises(HandoverRefusedError, match="another attempt"):
        room.bind(Node(attempt=OTHER_ATTEMPT))


def test_an_attempt_without_an_output_key_is_not_bound(room: KeyRoom) -> None:
    with pytest.raises(KeyUnknownError):
        room.bind(Node(attempt=OTHER_ATTEMPT), attempt=OTHER_ATTEMPT)


@pytest.mark.parametrize("started", ["2027-02-31T00:00:00Z", "2027-01-15T09:49:00Z"])
def test_an_attempt_that_began_never_or_too_long_ago(room: KeyRoom, node: Node, started: str) -> None:
    with pytest.raises(HandoverRefusedError):
        room.bind(node, started_at=started)


def test_a_start_in_the_future_buys_no_time(room: KeyRoom, node: Node) -> None:
    assert room.bind(node, started_at="2027-03-01T00:00:00Z").not_after == "2027-01-15T14:10:00Z"


def test_keys_end_with_the_project_however_long_the_job_may_run(room: KeyRoom, node: Node) -> None:
    room.now = clock.from_text("2027-06-30T23:30:00Z")
    assert room.bind(node).not_after == "2027-07-01T00:00:00Z"


# --- somebody else asks


def test_another_key_for_a_bound_node_is_refused_and_the_first_still_works(room: KeyRoom, node: Node) -> None:
    bound = room.bind(node)
    for _ in range(2):
        with pytest.raises(SecondKeyError):
            room.bind(Node())
    assert node.open(room.answer(*room.tell_bound(bound))["n1"]).attempt == ATTEMPT


def test_another_node_for_a_bound_attempt(room: KeyRoom, node: Node) -> None:
    room.bind(node)
    with pytest.raises(SecondKeyError):
        room.bind(Node("n2"))


def test_a_bound_attempt_is_not_bound_again_for_another_job_or_spec(room: KeyRoom, node: Node) -> None:
    room.bind(node)
    for change in ({"job": "ZZZZZZ"}, {"spec": room.spec("purpose", "Something else")}):
        with pytest.raises(HandoverRefusedError, match="another job"):
            room.bind(node, **change)


def test_a_spec_is_one_job_for_ever_with_as_many_attempts_as_it_takes(room: KeyRoom, node: Node) -> None:
    room.bind(node)
    room.ask(m.CreateKey("lung-fm", "output", OTHER_ATTEMPT, None, None))
    again = Node(attempt=OTHER_ATTEMPT)
    for change in ({"job": "ZZZZZZ"}, {"spec": room.spec("purpose", "Something else")}):
        with pytest.raises(HandoverRefusedError, match="another job"):
            room.bind(again, attempt=OTHER_ATTEMPT, **change)
    assert room.bind(again, attempt=OTHER_ATTEMPT).nodes.keys() == {"n1"}


def test_an_answer_for_an_attempt_that_was_never_bound(room: KeyRoom, node: Node) -> None:
    told = room.tell_bound(room.bind(node))
    with pytest.raises(HandoverRefusedError, match="no node"):
        room.answer(*told, attempt=OTHER_ATTEMPT)


def test_an_answer_opens_for_no_other_node_key_or_binding(room: KeyRoom, node: Node) -> None:
    brought = room.hand_over(node)["n1"]
    answer = signed(brought)
    with pytest.raises(handover.AnswerUnreadableError):
        handover.open_order(answer, brought.sealed, Node().private)
    for change in ({"node": "n2"}, {"attempt": OTHER_ATTEMPT}, {"not_after": "2028-01-01T00:00:00Z"}):
        altered = dataclasses.replace(answer, binding=dataclasses.replace(answer.binding, **change))
        with pytest.raises(handover.AnswerUnreadableError):
            handover.open_order(altered, brought.sealed, node.private)


def test_one_changed_bit_of_the_sealed_order_opens_nothing(room: KeyRoom, node: Node) -> None:
    brought = room.hand_over(node)["n1"]
    for place in (0, 31, 32, len(brought.sealed) // 2, -1):
        sealed = bytearray(brought.sealed)
        sealed[place] ^= 0x80
        with pytest.raises(handover.AnswerUnreadableError):
            node.open(dataclasses.replace(brought, sealed=bytes(sealed)))
        named = dataclasses.replace(signed(brought), sealed=digest(bytes(sealed)))
        with pytest.raises(handover.AnswerUnreadableError):
            handover.open_order(named, bytes(sealed), node.private)


# --- between the two couriers


@pytest.mark.parametrize("action", ["freeze", "close", "revoke"])
def test_a_grant_revoked_between_the_two_couriers(room: KeyRoom, node: Node, action: str) -> None:
    told = room.tell_bound(room.bind(node))
    room.ask(m.AdmitClosure(room.closure(action)))
    with pytest.raises(ProjectFrozenError):
        room.answer(*told)


def test_a_project_that_ends_between_the_two_couriers(room: KeyRoom, node: Node) -> None:
    room.now = clock.from_text("2027-06-30T23:59:00Z")
    told = room.tell_bound(room.bind(node))
    room.later(minutes=2)
    with pytest.raises(refusals.ProjectEndedError):
        room.answer(*told)


def test_an_attempt_whose_time_is_over_before_the_second_courier(room: KeyRoom, node: Node) -> None:
    told = room.tell_bound(room.bind(node))
    room.later(hours=3)
    with pytest.raises(HandoverRefusedError, match="time is over"):
        room.answer(*told)


def test_a_copy_destroyed_after_the_answer_is_not_answered_again(room: KeyRoom, node: Node) -> None:
    told = room.tell_bound(room.bind(node))
    answered = room.answer(*told)
    room.ask(m.Destroy("lung-fm", "outputs", ATTEMPT))
    with pytest.raises(KeyDestroyedError):
        room.answer(*told)
    on_disk = b"".join(path.read_bytes() for path in room.folder.iterdir())
    assert b"application/vnd.hdrs-hpc.handover-answer+json" not in on_disk
    assert answered["n1"].sealed not in on_disk


# --- the log must say so first


def _unlogged(room: KeyRoom, node: Node) -> m.LogProof:
    room.bind(node)
    return room.proof(0)


def _forged_entry(room: KeyRoom, node: Node) -> m.LogProof:
    (told,) = room.tell_bound(room.bind(node))
    proof = room.proof(told)
    entry = proof.entries[0]
    forged = dataclasses.replace(entry, entry=entry.entry.replace(b'"n1"', b'"n9"'))
    return dataclasses.replace(proof, entries=(forged,))


def _unsigned_log(room: KeyRoom, node: Node) -> m.LogProof:
    """Logged, with a path to a root that keyd never signed."""
    bound = room.bind(node)
    room.sign_log()
    size = len(room.log)
    (told,) = room.tell_bound(bound)
    item = m.LoggedEntry(room.log[told], told, ())
    return m.LogProof(size, (item,))


def _another_index(room: KeyRoom, node: Node) -> m.LogProof:
    (told,) = room.tell_bound(room.bind(node))
    proof = room.proof(told)
    return dataclasses.replace(proof, entries=(dataclasses.replace(proof.entries[0], index=told - 1),))


def _another_attempts(room: KeyRoom, node: Node) -> m.LogProof:
    return room.proof(*room.tell_bound(room.bind(node), attempt=OTHER_ATTEMPT))


def _another_keys(room: KeyRoom, node: Node) -> m.LogProof:
    bound = room.bind(node)
    forged = {"n1": dataclasses.replace(bound.nodes["n1"], public_key=ONES)}
    return room.proof(*room.tell_bound(dataclasses.replace(bound, nodes=forged)))


def _one_too_many(room: KeyRoom, node: Node) -> m.LogProof:
    bound = room.bind(node)
    other = dataclasses.replace(bound, nodes={"n2": m.BoundNode(ONES, ONES)})
    return room.proof(*room.tell_bound(bound), *room.tell_bound(other))


@pytest.mark.parametrize(
    "forge",
    [
        _unlogged,
        _forged_entry,
        _unsigned_log,
        _another_index,
        _another_attempts,
        _another_keys,
        _one_too_many,
    ],
)
def test_no_answer_without_proof_that_exactly_these_bindings_are_in_the_signed_log(
    room: KeyRoom, node: Node, forge: Callable[[KeyRoom, Node], m.LogProof]
) -> None:
    proof = forge(room, node)
    with pytest.raises(NotLoggedError):
        room.ask(m.AnswerNodes(ATTEMPT, proof))


def test_a_proof_against_an_older_checkpoint_is_asked_for_anew(room: KeyRoom, node: Node) -> None:
    proof = room.proof(*room.tell_bound(room.bind(node)))
    room.tell("login-accepted", {"person": "ada"}, "ada")
    room.sign_log()
    with pytest.raises(CheckpointOvertakenError):
        room.ask(m.AnswerNodes(ATTEMPT, proof))


# --- keys inside the data zone


def test_a_copys_key_is_for_building_it_and_after_that_for_hand_over_only(room: KeyRoom) -> None:
    version = GRANT["data"]["north-chest-ct"]["version"]
    room.ask(m.CreateKey("lung-fm", "copy", "C2", "north-chest-ct", version, LIST))
    keys = room.ask(m.UseKey("stage", "lung-fm", "C2"))
    assert keys.deid is not None
    assert len(keys.key) == len(keys.deid) == 32
    assert keys.key != keys.deid
    room.ask(m.NoteManifest("lung-fm", "copy", "C2", "m", ONES))
    with pytest.raises(HdrsError) as refused:
        room.ask(m.UseKey("stage", "lung-fm", "C2"))
    assert refused.value.code == "manifest-settled"


@pytest.mark.parametrize("change", [{"manifest_name": "other"}, {"manifest_digest": ONES}])
def test_a_sealed_copys_manifest_is_not_replaced(room: KeyRoom, change: dict[str, str]) -> None:
    noted = m.NoteManifest("lung-fm", "copy", COPY, f"{COPY}.manifest", TWOS)
    room.ask(noted)
    with pytest.raises(HdrsError) as refused:
        room.ask(dataclasses.replace(noted, **change))
    assert refused.value.code == "manifest-settled"


def test_a_project_has_one_de_identification_key(room: KeyRoom) -> None:
    with pytest.raises(KeyUnknownError):
        room.ask(m.CreateKey("lung-fm", "deid", "another", None, None))


@pytest.mark.parametrize(("dataset", "version"), [("north-chest-ct", TWOS), ("other", TWOS), (None, None)])
def test_no_key_for_a_copy_of_what_is_not_granted(
    room: KeyRoom, dataset: str | None, version: str | None
) -> None:
    with pytest.raises(DatasetNotGrantedError):
        room.ask(m.CreateKey("lung-fm", "copy", "C2", dataset, version))


def test_outputs_are_opened_until_the_time_for_reviews_is_over(room: KeyRoom) -> None:
    ask = m.UseKey("collect", "lung-fm", ATTEMPT)
    room.now = clock.from_text("2027-07-01T00:00:00Z") + timedelta(days=14, seconds=-1)
    assert room.ask(ask).key
    room.later(seconds=1)
    with pytest.raises(ProjectNotInTimeError):
        room.ask(ask)


def test_bindings_come_back_from_disk_as_they_were_asked(room: KeyRoom, node: Node) -> None:
    ask = room.bind_request(node)
    room.ask(ask)
    assert wire.from_bytes(m.BindNodes, wire.to_bytes(ask), 1 << 20) == ask
