"""Which file a sandbox runs on is said by keyd alone: the one that an admin registered last for cluster and flavour."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.logwatch import NotLoggedError
from hdrs_hpc.broker.keyd.runtimes import FlavourNotRegisteredError, RuntimeNotRegisteredError
from hdrs_hpc.protocol.handover import FlavourOrder
from tests.support.keyroom import CLUSTER, KeyRoom, Node
from tests.support.party import FLAVOUR, NINES, TWOS

BASE = FlavourOrder("base", FLAVOUR, 1000)


@pytest.fixture
def room(tmp_path: Path) -> KeyRoom:
    return KeyRoom(tmp_path / "keyd").begin()


@pytest.fixture
def node() -> Node:
    return Node()


def ordered(room: KeyRoom, node: Node) -> FlavourOrder:
    return node.open(room.hand_over(node)["n1"]).flavour


def test_the_order_names_the_registered_file(room: KeyRoom, node: Node) -> None:
    assert ordered(room, node) == BASE


def test_the_last_one_counts_and_one_that_was_withdrawn_does_not(room: KeyRoom, node: Node) -> None:
    room.register_flavour(TWOS, size=2000)
    room.register_flavour(NINES, size=3000)
    room.register_runtime(NINES, "runtime-withdrawn")
    assert ordered(room, node) == FlavourOrder("base", TWOS, 2000)


def test_another_flavour_or_cluster_gives_none(room: KeyRoom, node: Node) -> None:
    room.register_flavour(TWOS, name="torch")
    room.register_flavour(NINES, cluster="elsewhere")
    assert ordered(room, node) == BASE


def test_a_job_of_a_flavour_that_nobody_registered_gets_no_key(room: KeyRoom, node: Node) -> None:
    with pytest.raises(FlavourNotRegisteredError, match="torch on"):
        room.bind(node, spec=room.spec("workload/flavour", "torch"))
    room.register_runtime(FLAVOUR, "runtime-withdrawn")
    with pytest.raises(FlavourNotRegisteredError):
        room.bind(node)


def test_a_flavour_withdrawn_between_binding_and_answer_gives_no_key(room: KeyRoom, node: Node) -> None:
    seqs = room.tell_bound(room.bind(node))
    room.register_runtime(FLAVOUR, "runtime-withdrawn")
    with pytest.raises(FlavourNotRegisteredError):
        room.answer(*seqs)


def test_a_controller_can_name_no_file(room: KeyRoom, node: Node) -> None:
    """It may write what it likes into its request: there is no place for a flavour, and the log takes admins only."""
    assert not [field.name for field in dataclasses.fields(m.BindNodes) if "flavour" in field.name]
    seq = room.tell(
        "runtime-installed", {"cluster": CLUSTER}, "broker/controller", digest=TWOS, flavour="base", size=1
    )
    with pytest.raises(NotLoggedError):
        room.ask(m.AdmitRuntimes(room.proof(seq)))
    assert ordered(room, node) == BASE


def test_a_node_that_runs_on_a_flavour_is_none_of_ours(room: KeyRoom, node: Node) -> None:
    hello = dataclasses.replace(node.hello(), runtime=FLAVOUR)
    with pytest.raises(RuntimeNotRegisteredError):
        room.ask(room.bind_request(hellos=(hello,)))
