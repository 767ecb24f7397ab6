"""Keys of what jobs keep: fresh for each attempt, found by keyd itself, given to jobs of the same project only."""

from __future__ import annotations

from pathlib import Path

import pytest

from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.handover import HandoverRefusedError
from hdrs_hpc.broker.keyd.keyd import ManifestSettledError
from hdrs_hpc.broker.keyd.keystore import KeyDestroyedError
from hdrs_hpc.core.errors import HdrsError
from tests.support.keyroom import ATTEMPT, KeyRoom, Node
from tests.support.party import ONES, SPEC, TWOS, changed

ENCODER = {"encoder": {"job": "7K3QW1", "output": "encoder"}}
OUTPUT = {"class": "weights", "keep": "project", "path": "e.safetensors", "max-size": "1MiB"}


@pytest.fixture
def room(tmp_path: Path) -> KeyRoom:
    made = KeyRoom(tmp_path / "keyd")
    made.grant_value = changed(
        changed(made.grant_value, "limits/kept-size", "1GiB"), "outputs/weights", {"keep": "project"}
    )
    return made.begin()


@pytest.fixture
def node() -> Node:
    return Node()


def keep(
    room: KeyRoom, holder: str = "K1", job: str = "7K3QW1", attempt: str = "hdrs-1", sealed: bool = True
) -> str:
    use = m.KeptFor(job, attempt, "encoder", "weights")
    key = room.ask(m.CreateKey("lung-fm", "kept", holder, None, None, kept=use)).id
    if sealed:
        room.ask(m.NoteManifest("lung-fm", "kept", holder, "m-1", TWOS))
    return key


def test_a_job_gets_the_key_of_what_another_job_of_its_project_kept(room: KeyRoom, node: Node) -> None:
    keep(room)
    order = node.open(room.hand_over(node, spec=room.spec("inputs", ENCODER))["n1"])
    file = order.files["encoder"]
    assert (file.path, file.safetensors) == ("output/encoder", True)
    assert (file.sealed.holder, file.sealed.manifest_digest) == ("K1", TWOS)
    assert file.sealed.key not in (order.output_key, order.shared_secret, order.inputs["ct"].key)


@pytest.mark.parametrize("changes", [{"job": "7K3QW9"}, {"sealed": False}])
def test_what_no_job_of_the_project_kept_is_given_to_nobody(room: KeyRoom, node: Node, changes: dict) -> None:
    keep(room, **changes)
    with pytest.raises(HdrsError) as refused:
        room.bind(node, spec=room.spec("inputs", ENCODER))
    assert refused.value.code in ("input-unknown", "input-unfinished")


def test_a_spec_signed_before_the_output_was_destroyed_gets_no_key(room: KeyRoom, node: Node) -> None:
    keep(room)
    spec = room.spec("inputs", ENCODER)
    bound = room.tell_bound(room.bind(node, spec=spec))
    room.ask(m.Destroy("lung-fm", "copies", "K1"))
    with pytest.raises(HdrsError) as refused:
        room.answer(*bound)
    assert refused.value.code == "input-destroyed"


def test_an_answer_that_was_given_is_forgotten_with_the_key(room: KeyRoom, node: Node) -> None:
    keep(room)
    bound = room.tell_bound(room.bind(node, spec=room.spec("inputs", ENCODER)))
    room.answer(*bound)
    room.ask(m.Destroy("lung-fm", "copies", "K1"))
    with pytest.raises(HdrsError):
        room.answer(*bound)


def test_the_manifest_of_what_was_kept_can_not_be_swapped(room: KeyRoom) -> None:
    keep(room)
    with pytest.raises(ManifestSettledError):
        room.ask(m.NoteManifest("lung-fm", "kept", "K1", "m-2", ONES))


def test_an_output_that_stays_is_sealed_under_a_fresh_key_of_its_own_attempt(
    room: KeyRoom, node: Node
) -> None:
    spec = room.spec("outputs", SPEC["outputs"] | {"encoder": OUTPUT})
    for attempt in ("hdrs-of-another-attempt", None):
        with pytest.raises(HandoverRefusedError):
            room.bind(node, spec=spec)
        if attempt:
            keep(room, "K0", "7K3QW2", attempt, sealed=False)
    keep(room, "K1", "7K3QW2", ATTEMPT, sealed=False)
    order = node.open(room.hand_over(node, spec=spec)["n1"])
    (kept,) = [output.kept for output in order.outputs if output.name == "encoder"]
    assert kept is not None and kept.holder == "K1"
    assert kept.key != order.output_key
    assert [output.kept for output in order.outputs if output.name != "encoder"] == [None, None]


def test_a_closed_project_has_no_key_of_what_was_kept_any_more(room: KeyRoom) -> None:
    keep(room)
    room.ask(m.AdmitClosure(room.closure("close")))
    assert "kept" not in [role for role, _ in room.live()]
    with pytest.raises(KeyDestroyedError):
        room.ask(m.NoteManifest("lung-fm", "kept", "K1", "m-1", TWOS))
