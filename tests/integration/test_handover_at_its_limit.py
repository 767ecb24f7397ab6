"""The largest attempt there may be, really sent: keyd's process and socket, couriers, and sixty-four agents."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hdrs_hpc.broker.controller.steps import hand_over
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.client import KeydRefusedError, ask
from hdrs_hpc.core import clock, strict_json, wire
from hdrs_hpc.node import courier
from hdrs_hpc.node.arguments import AgentArguments
from hdrs_hpc.node.handover import CourierSocket, Handover
from hdrs_hpc.node.network import PeerAddress
from hdrs_hpc.protocol import handover
from hdrs_hpc.protocol.handover import Hello
from tests.support.keyroom import ATTEMPT, STRONG, KeyRoom
from tests.support.party import ONES, changed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NODES = 64
NAMES = [f"node-{number:02d}" for number in range(NODES)]


class KeydProcess(KeyRoom):
    """A key room whose keyd is a process of its own, asked over its socket."""

    def __init__(self, home: BrokerHome) -> None:
        self.socket = home.keyd_socket
        super().__init__(home.keyd_dir)

    def _open(self) -> Any:
        return None

    def ask[R](self, request: m.Ask[R]) -> R:
        return ask(self.socket, request, wait_s=30)


@pytest.fixture(scope="module")
def room() -> Iterator[KeydProcess]:
    with tempfile.TemporaryDirectory(prefix="keyd-") as name:
        home = BrokerHome(Path(name))
        home.settings_file.write_text('audience = "north-sde"\n')
        home.keyd_dir.mkdir(mode=0o700)
        process = subprocess.Popen(
            [sys.executable, "-m", "hdrs_hpc.broker.keyd.server", "--home", str(home.root)]
        )
        try:
            made = KeydProcess(home).dated(1)
            made.now = made.now.replace(microsecond=0)
            made.grant_value = changed(made.grant_value, "limits/nodes", NODES)
            made.begin()
            made.sign_log()
            yield made
        finally:
            process.kill()
            process.wait()


class Agents:
    """The obtaining half of an agent on each node, and a cluster whose steps are couriers to them."""

    def __init__(self, folder: Path, broker_key: str, told: bytes | None) -> None:
        self.folder = folder
        self.handovers: dict[str, Handover] = {}
        self.sockets = []
        self.carried: dict[str, int] = {}
        """Node → bytes of the line that its courier brought it at last."""
        self._turn = threading.Lock()
        for number, name in enumerate(NAMES):
            made = Handover(
                _given(folder, name, broker_key), STRONG, PeerAddress(f"10.0.0.{number}", 8786, None)
            )
            if told is not None:
                made.hello = dataclasses.replace(made.hello, told=told)
            self.handovers[name] = made
            self.sockets.append(CourierSocket(folder / name, made))

    def run_in_job(
        self,
        job_id: str,
        argv: Sequence[str],
        stdin: bytes,
        nodes: int,
        timeout_s: float,
        node: str | None = None,
    ) -> list[bytes]:
        assert nodes == (NODES if node is None else 1)
        return [self._carry(name, stdin) for name in (NAMES if node is None else [node])]

    def _carry(self, name: str, line: bytes) -> bytes:
        """The courier's own code; its standard streams are one a process, so one at a time."""
        with self._turn, pytest.MonkeyPatch.context() as patch:
            out = io.BytesIO()
            patch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(line)))
            patch.setattr(sys, "stdout", SimpleNamespace(buffer=out))
            assert courier.main([str(self.folder / name)]) == 0
        self.carried[name] = len(line)
        return out.getvalue().removesuffix(b"\n")

    def close(self) -> None:
        for listening in self.sockets:
            listening.close()


def _given(folder: Path, node: str, broker_key: str) -> AgentArguments:
    return AgentArguments(
        attempt=ATTEMPT,
        project="lung-fm",
        audience="north-sde",
        scratch=folder,
        private=folder,
        broker_key=broker_key,
        isolation="sandboxed",
        runtime=ONES,
        flavour=ONES,
        memory_mb=1024,
        lifetime_s=60,
        nodes=NODES,
        node=node,
        launch_address="",
        gpus="",
    )


def parameters(size: int) -> dict[str, str]:
    """Of exactly ``size`` bytes as JSON."""
    empty = len(strict_json.dumps({"p": ""}))
    return {"p": "x" * (size - empty)}


def spec_of(room: KeyRoom, size: int, nodes: int = NODES) -> bytes:
    value = changed(room.spec_value, "workload/parameters", parameters(size))
    value = changed(value, "resources/nodes", nodes)
    return room.party.sign("job-spec", value, "rae").to_bytes()


@pytest.fixture(scope="module")
def agents(room: KeydProcess) -> Iterator[Agents]:
    with tempfile.TemporaryDirectory(prefix="agents-") as name:
        made = Agents(Path(name), room.ask(m.SigningKeys()).lines["handover-answer"], b"t" * (64 << 10))
        yield made
        made.close()


def hellos_of(agents: Agents) -> tuple[Hello, ...]:
    return tuple(made.hello for made in agents.handovers.values())


def test_one_byte_of_parameters_or_of_peer_data_more_is_refused_in_a_sentence(
    room: KeydProcess, agents: Agents
) -> None:
    hellos = hellos_of(agents)
    with pytest.raises(KeydRefusedError, match="parameters-too-large"):
        room.ask(room.bind_request(hellos=hellos, spec=spec_of(room, (64 << 10) + 1)))
    longer = dataclasses.replace(hellos[0], told=hellos[0].told + b"t")
    with pytest.raises(KeydRefusedError, match="65537 is not between 0 and 65536"):
        room.ask(room.bind_request(hellos=(longer, *hellos[1:]), spec=spec_of(room, 64 << 10)))


def test_one_node_more_is_refused_in_a_sentence(room: KeydProcess, agents: Agents) -> None:
    hellos = hellos_of(agents)
    another = dataclasses.replace(hellos[0], node="one-more")
    with pytest.raises(KeydRefusedError, match="65 nodes where 64 are reached"):
        room.ask(room.bind_request(hellos=(*hellos, another), spec=spec_of(room, 64 << 10)))


def test_sixty_four_nodes_with_64_kib_of_parameters_and_64_kib_to_tell_get_their_keys(
    room: KeydProcess, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whether the job still goes on stands in the broker's database; tests/unit/broker/controller/test_couriers_stop.py
    # is about that question.
    monkeypatch.setattr(hand_over, "_require_going_on", lambda *_: None)
    ctx: Any = SimpleNamespace(
        cluster=lambda *_: agents, cluster_settings=lambda _: SimpleNamespace(node_tmp="/tmp")
    )
    about: list[Any] = [
        SimpleNamespace(cluster="local", project="lung-fm"),
        SimpleNamespace(name=ATTEMPT),
        SimpleNamespace(job_id="1", nodes=tuple(NAMES)),
    ]
    replies = hand_over._courier(ctx, *about, handover.Request("hello"))
    hellos = tuple(reply.hello for reply in replies if reply.hello is not None)
    assert hellos == hellos_of(agents)

    spec = spec_of(room, 64 << 10)
    started = clock.to_text(clock.now())
    bound = room.ask(room.bind_request(hellos=hellos, spec=spec, started_at=started))
    seqs = room.tell_bound(bound)
    answers = room.answer(*seqs)
    assert room.answer(*seqs) == answers, "the same bytes again"
    delivered = hand_over._deliver(ctx, *about, answers, room.nodes)

    assert [(reply.state, reply.refused) for reply in delivered] == [("accepted", None)] * NODES
    orders = [made.order for made in agents.handovers.values()]
    assert orders[0] is not None
    assert len(orders[0].workload["parameters"]["p"]) > 65_000
    assert all(order == orders[0] for order in orders)
    listed = [made.nodes for made in agents.handovers.values()]
    assert listed[0] is not None
    assert [item.node for item in listed[0].nodes] == NAMES
    assert listed[0].first_told == hellos[0].told
    assert all(nodes == listed[0] for nodes in listed)
    # Each courier brought its node's own answer and the one list: not what is for the others.
    assert max(agents.carried.values()) < 400 << 10
    for name, size in agents.carried.items():
        own = wire.to_line(handover.Request("answer", answers[name], room.nodes))
        assert size == len(own)
