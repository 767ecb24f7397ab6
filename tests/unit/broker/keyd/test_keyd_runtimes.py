"""keyd gives keys to nodes whose runtime an admin registered in the log, and to no others."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.handover import HandoverRefusedError
from hdrs_hpc.broker.keyd.logwatch import NotLoggedError
from hdrs_hpc.broker.keyd.runtimes import (
    FlavourNotRegisteredError,
    RuntimeNotRegisteredError,
    RuntimeWithdrawnError,
)
from hdrs_hpc.policy.refusals import ClusterNotGrantedError
from hdrs_hpc.protocol.handover import Hello
from tests.support.keyroom import ATTEMPT, CLUSTER, KeyRoom, Node
from tests.support.party import FLAVOUR, ONES, TWOS

OTHER_CLUSTER = "isambard-ai"


@pytest.fixture
def room(tmp_path: Path) -> KeyRoom:
    return KeyRoom(tmp_path / "keyd").begin()


@pytest.fixture
def node() -> Node:
    return Node()


def with_runtime(node: Node, digest: str) -> Hello:
    """The hello of ``node``, telling another runtime."""
    return dataclasses.replace(node.hello(), runtime=digest)


def test_a_registered_runtime_is_bound_and_named(room: KeyRoom, node: Node) -> None:
    bound = room.bind(node)
    assert bound.nodes["n1"].runtime == ONES
    assert room.answer(*room.tell_bound(bound))


def test_a_runtime_that_nobody_registered_gets_nothing(room: KeyRoom, node: Node) -> None:
    with pytest.raises(RuntimeNotRegisteredError, match=TWOS):
        room.ask(room.bind_request(hellos=(with_runtime(node, TWOS),)))
    room.bind(node)  # nothing was bound by the refused request


def test_one_node_of_two_with_another_runtime_stops_both(room: KeyRoom) -> None:
    nodes = Node("n1"), Node("n2")
    hellos = (nodes[0].hello(), with_runtime(nodes[1], TWOS))
    with pytest.raises(RuntimeNotRegisteredError):
        room.ask(room.bind_request(hellos=hellos, spec=room.spec("resources/nodes", 2)))


def test_a_runtime_registered_for_another_cluster(room: KeyRoom, node: Node) -> None:
    room.register_runtime(TWOS, cluster=OTHER_CLUSTER)
    with pytest.raises(RuntimeNotRegisteredError):
        room.ask(room.bind_request(hellos=(with_runtime(node, TWOS),)))


def test_the_cluster_is_one_that_grant_and_spec_name(room: KeyRoom, node: Node) -> None:
    room.register_runtime(ONES, cluster="elsewhere")
    with pytest.raises(ClusterNotGrantedError):
        room.bind(node, cluster="elsewhere")
    room.register_runtime(ONES, cluster=OTHER_CLUSTER)
    with pytest.raises(ClusterNotGrantedError):
        room.bind(node, cluster=OTHER_CLUSTER, spec=room.spec("resources/cluster", CLUSTER))
    with pytest.raises(FlavourNotRegisteredError):
        room.bind(node, cluster=OTHER_CLUSTER)
    room.register_flavour(FLAVOUR, cluster=OTHER_CLUSTER)
    room.bind(node, cluster=OTHER_CLUSTER)


def test_a_withdrawn_runtime_gets_nothing_also_after_a_restart(room: KeyRoom, node: Node) -> None:
    room.register_runtime(ONES, "runtime-withdrawn")
    for _ in range(2):
        with pytest.raises(RuntimeWithdrawnError):
            room.bind(node)
        room.restart()


def test_a_runtime_withdrawn_between_binding_and_answer(room: KeyRoom, node: Node) -> None:
    seqs = room.tell_bound(room.bind(node))
    room.register_runtime(ONES, "runtime-withdrawn")
    with pytest.raises(RuntimeWithdrawnError):
        room.answer(*seqs)


def test_an_old_registration_shown_again_does_not_undo_a_withdrawal(room: KeyRoom, node: Node) -> None:
    first = next(seq for seq, raw in enumerate(room.log) if b"runtime-installed" in raw)
    withdrawn = room.register_runtime(ONES, "runtime-withdrawn")
    for shown in ((first,), (withdrawn, first)):
        room.ask(m.AdmitRuntimes(room.proof(*shown)))
        with pytest.raises(RuntimeWithdrawnError):
            room.bind(node)
    room.register_runtime(ONES)
    room.bind(node)


def test_a_registration_that_is_not_in_the_signed_log(room: KeyRoom) -> None:
    seq = room.register_runtime(TWOS)
    proof = room.proof(seq)
    forged = proof.entries[0].entry.replace(TWOS.encode(), b"sha256:" + b"3" * 64)
    entry = m.LoggedEntry(forged, seq, proof.entries[0].path)
    with pytest.raises(NotLoggedError):
        room.ask(m.AdmitRuntimes(m.LogProof(proof.size, (entry,))))


@pytest.mark.parametrize(
    ("event", "subject", "actor", "detail"),
    [
        ("runtime-installed", {"cluster": CLUSTER}, "broker/controller", {"digest": TWOS}),
        ("runtime-installed", {"cluster": CLUSTER}, "rae", {"digest": TWOS}),
        ("login-accepted", {"person": "rae"}, "rae", {}),
    ],
)
def test_entries_that_are_no_admins_word_on_a_runtime(
    room: KeyRoom, event: str, subject: dict[str, str], actor: str, detail: dict[str, Any]
) -> None:
    seq = room.tell(event, subject, actor, **detail)
    with pytest.raises(NotLoggedError, match="admin"):
        room.ask(m.AdmitRuntimes(room.proof(seq)))
    assert TWOS not in room.ask(m.HeldRuntimes(CLUSTER)).runtimes


def test_a_binding_that_the_log_tells_with_another_runtime_or_with_none(room: KeyRoom, node: Node) -> None:
    bound = room.bind(node)
    subject = {"project": "lung-fm", "job": "7K3QW2", "attempt": ATTEMPT, "node": "n1"}
    for runtime in ({"runtime": TWOS}, {}):
        seq = room.tell(
            "handover-bound", subject, "broker/keyd", public_key=bound.nodes["n1"].public_key, **runtime
        )
        with pytest.raises(NotLoggedError):
            room.answer(seq)
    assert room.answer(*room.tell_bound(bound))


def test_a_node_that_tells_of_another_runtime_the_second_time(room: KeyRoom, node: Node) -> None:
    room.bind(node)
    room.register_runtime(TWOS)
    with pytest.raises(HandoverRefusedError, match="another runtime"):
        room.ask(room.bind_request(hellos=(with_runtime(node, TWOS),)))
