"""keyd gives an attempt what the log says was chosen for it, and never the whole copy for a narrower selection."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.handover import HandoverRefusedError
from hdrs_hpc.broker.keyd.keyd import ManifestSettledError
from hdrs_hpc.broker.keyd.keystore import KeyUnknownError
from hdrs_hpc.broker.keyd.logwatch import NotLoggedError
from hdrs_hpc.broker.keyd.served import ServedNotChosenError
from tests.support.keyroom import CHOSEN, COPY, LIST, OTHER_ATTEMPT, KeyRoom, Node, facts
from tests.support.party import GRANT, TWOS

WIDER = "sha256:" + "4" * 64
WHOLE = facts(served=TWOS, added=None)


@pytest.fixture
def room(tmp_path: Path) -> KeyRoom:
    return KeyRoom(tmp_path / "keyd").begin()


@pytest.fixture
def node() -> Node:
    return Node()


def test_the_order_names_the_chosen_manifest_and_where_it_lies(room: KeyRoom, node: Node) -> None:
    order = node.open(room.hand_over(node)["n1"])
    served = order.inputs["ct"]
    assert (served.manifest_digest, served.manifest_name) == (CHOSEN, "m-" + "3" * 64)
    assert (served.added, served.parts) == (("served", "ct"), ("copies", COPY))


@pytest.mark.parametrize(
    "select", [{}, GRANT["data"]["north-chest-ct"]["select"]], ids=["none", "the-grants"]
)
def test_a_spec_that_narrows_nothing_is_served_the_copy_itself(
    room: KeyRoom, node: Node, select: dict[str, Any]
) -> None:
    order = node.open(room.hand_over(node, copies=(WHOLE,), spec=room.spec("data/ct/select", select))["n1"])
    assert (order.inputs["ct"].manifest_digest, order.inputs["ct"].added) == (TWOS, None)


def test_the_whole_copy_for_a_narrower_selection(room: KeyRoom, node: Node) -> None:
    with pytest.raises(ServedNotChosenError, match="narrower"):
        room.bind(node, copies=(WHOLE,))


def test_a_choice_swapped_for_another_that_the_log_does_not_tell_of(room: KeyRoom, node: Node) -> None:
    chosen = room.proof(room.tell_chosen(facts(), room.spec()))
    for swapped in (facts(served=WIDER), WHOLE, facts(copy="C2")):
        if swapped.copy == "C2":
            room.seal_copy("C2")
        with pytest.raises(ServedNotChosenError):
            room.bind(node, copies=(swapped,), chosen=chosen)
    room.bind(node, chosen=chosen)


@pytest.mark.parametrize(
    "told",
    [
        {"spec": "another"},
        {"attempt": OTHER_ATTEMPT},
        {"narrowed": False},
        {"fact": facts(name="he")},
    ],
    ids=lambda told: next(iter(told)),
)
def test_a_choice_made_for_something_else(room: KeyRoom, node: Node, told: dict[str, Any]) -> None:
    """For another spec, another attempt or another input; or one that says it is the whole copy."""
    spec = room.spec("name", told["spec"]) if "spec" in told else room.spec()
    more = {key: told[key] for key in ("attempt", "narrowed") if key in told}
    seq = room.tell_chosen(told.get("fact", facts()), spec, **more)
    with pytest.raises(ServedNotChosenError):
        room.bind(node, chosen=room.proof(seq))


def test_two_choices_for_one_input(room: KeyRoom, node: Node) -> None:
    seqs = [room.tell_chosen(facts(served=digest), room.spec()) for digest in (CHOSEN, WIDER)]
    with pytest.raises(ServedNotChosenError):
        room.bind(node, chosen=room.proof(*seqs))


def test_a_choice_that_is_no_entry_of_the_log(room: KeyRoom, node: Node) -> None:
    seq = room.tell_chosen(facts(), room.spec())
    proof = room.proof(seq)
    forged = proof.entries[0].entry.replace(CHOSEN.encode(), WIDER.encode())
    entries = (dataclasses.replace(proof.entries[0], entry=forged),)
    with pytest.raises(NotLoggedError):
        room.bind(node, copies=(facts(served=WIDER),), chosen=dataclasses.replace(proof, entries=entries))
    other = room.tell("login-accepted", {"person": "ada"}, "ada")
    with pytest.raises(ServedNotChosenError):
        room.bind(node, chosen=room.proof(other))


def test_a_narrowed_manifest_said_to_lie_with_the_copy_and_the_reverse(room: KeyRoom, node: Node) -> None:
    elsewhere = dataclasses.replace(facts(), added=None)
    seq = room.tell_chosen(elsewhere, room.spec(), narrowed=True)
    with pytest.raises(ServedNotChosenError, match="elsewhere"):
        room.bind(node, copies=(elsewhere,), chosen=room.proof(seq))
    whole = facts(served=TWOS)
    spec = room.spec("data/ct/select", {})
    seq = room.tell_chosen(whole, spec, narrowed=False)
    with pytest.raises(ServedNotChosenError, match="elsewhere"):
        room.bind(node, copies=(whole,), spec=spec, chosen=room.proof(seq))


def test_another_choice_after_the_nodes_were_bound(room: KeyRoom, node: Node) -> None:
    bound = room.bind(node)
    with pytest.raises(HandoverRefusedError, match="another job"):
        room.bind(node, copies=(facts(served=WIDER),))
    order = node.open(room.answer(*room.tell_bound(bound))["n1"])
    assert order.inputs["ct"].manifest_digest == CHOSEN


def test_a_key_for_choosing_is_given_of_sealed_copies_only(room: KeyRoom) -> None:
    assert room.ask(m.UseKey("select", "lung-fm", COPY)).deid is None
    with pytest.raises(ManifestSettledError):
        room.ask(m.UseKey("stage", "lung-fm", COPY))
    room.ask(
        m.CreateKey(
            "lung-fm", "copy", "C3", "north-chest-ct", GRANT["data"]["north-chest-ct"]["version"], LIST
        )
    )
    with pytest.raises(KeyUnknownError, match="sealed"):
        room.ask(m.UseKey("select", "lung-fm", "C3"))
    room.ask(m.AdmitClosure(room.closure("freeze")))
    with pytest.raises(Exception, match="frozen"):
        room.ask(m.UseKey("select", "lung-fm", COPY))
