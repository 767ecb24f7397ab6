"""Keys reach the one agent they were decided for; every other answer is refused and counted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hdrs_hpc.core import clock, ids, wire
from hdrs_hpc.protocol import batch, handover, layout
from hdrs_hpc.protocol.handover import Hello, LaunchOrder, NodeAnswer, Request

from .conftest import Site, Work

QUICK = "def run(ctx):\n    ctx.output('result').write_text('{}')\n"
FOREVER = "import time\ndef run(ctx):\n    time.sleep(600)\n"


@pytest.fixture
def waiting(make_site: Callable[..., Site]) -> Site:
    site = make_site()
    site.submit(lifetime_s=60)
    return site


def an_order(site: Site, hello: Hello, code: str = QUICK) -> LaunchOrder:
    work = Work(site.seal_bundle({"mine.py": code}))
    subprocess.run(["chmod", "-R", "a+rX", str(site.scratch)], check=True)
    order = site.order({"ct": site.stage(1)}, work)
    if site.uid != os.getuid():
        subprocess.run(["chown", "-R", f"{site.uid}:{site.uid}", str(site.scratch)], check=True)
    return order


def test_the_same_answer_again_is_accepted_and_another_one_is_an_alarm(waiting: Site) -> None:
    hello = waiting.hello()
    order = an_order(waiting, hello, FOREVER)
    answer = waiting.answer(order, hello)
    assert waiting.deliver(answer, hello).state == "accepted"
    again = waiting.deliver(answer, hello)
    assert (again.state, again.refused) == ("accepted", None)
    other = waiting.answer(order, hello)  # the same order, sealed once more: other bytes
    assert waiting.deliver(other, hello).refused == "handover-answer-conflict"
    stopped = waiting.courier(Request("stop"))
    assert stopped.state == "stopped"
    assert waiting.wait(20) == 75
    progress = waiting.progress()
    assert progress is not None
    assert (progress.stop, progress.alarms) == ("signal", 1)


def test_signals_in_the_middle_of_each_other_end_the_agent_once(waiting: Site) -> None:
    """A cancel reaches the whole step, and the shell passes it on: an agent gets two within a millisecond."""
    waiting.hello()
    (agent,) = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
        and {b"hdrs_hpc.node.agent", waiting.attempt.encode()} <= set(command_of(entry))
    ]
    with contextlib.suppress(ProcessLookupError):
        for _ in range(2000):
            os.kill(agent, signal.SIGTERM)
    assert waiting.wait(20) == 75
    progress = waiting.progress()
    assert progress is not None
    assert (progress.phase, progress.stop) == ("stopped", "signal")


def command_of(process: Path) -> list[bytes]:
    with contextlib.suppress(OSError):
        return (process / "cmdline").read_bytes().split(b"\0")
    return []


BOUND_TO_ANOTHER = [
    ({"node": "other"}, "handover-answer-refused"),
    ({"attempt": ids.new_secret_name("hdrs")}, "handover-answer-refused"),
    ({"project": "other"}, "handover-answer-refused"),
    ({"audience": "south"}, "handover-answer-refused"),
    ({"public_key": X25519PrivateKey.generate().public_key().public_bytes_raw()}, "handover-answer-refused"),
    ({"manifests": ()}, "handover-answer-unreadable"),
    ({"not_after": clock.to_text(clock.now() - timedelta(seconds=5))}, "handover-answer-refused"),
    ({"not_after": clock.to_text(clock.now() + timedelta(days=5))}, "handover-answer-unreadable"),
    ({"nodes": "sha256:" + "0" * 64}, "handover-answer-refused"),
]


def test_an_answer_bound_to_anything_else_is_refused_though_signed(waiting: Site) -> None:
    hello = waiting.hello()
    nodes = handover.list_nodes([hello])
    answer, sealed = handover.seal_order("north", an_order(waiting, hello), hello, nodes)
    for change, code in BOUND_TO_ANOTHER:
        altered = replace(answer, binding=replace(answer.binding, **change))
        reply = waiting.deliver(NodeAnswer(waiting.sign(wire.to_bytes(altered)), sealed), hello)
        assert (reply.state, reply.refused) == ("waiting", code), change


def test_a_list_of_nodes_is_believed_only_as_the_signed_answer_names_it(waiting: Site) -> None:
    """Another node, one too many, or another word of this one: not even with the broker's signature."""
    hello = waiting.hello()
    order = an_order(waiting, hello)
    other = replace(hello, node="n9")
    reply = waiting.deliver(waiting.answer(order, hello), hello, other)
    assert (reply.state, reply.refused) == ("waiting", "handover-answer-refused")
    for listed, code in (
        ([hello, other], "handover-incomplete"),
        ([other], "handover-answer-refused"),
        ([replace(hello, address="10.0.0.9")], "handover-answer-refused"),
        ([replace(hello, told=b"another port")], "handover-answer-refused"),
    ):
        answer = waiting.answer(order, hello, handover.list_nodes(listed))
        reply = waiting.deliver(answer, *listed)
        assert (reply.state, reply.refused) == ("waiting", code), listed
    for request in (Request("answer", answer), Request("answer", None, b"{}")):
        assert waiting.courier(request).refused == "handover-incomplete"
    assert waiting.deliver(waiting.answer(order, hello), hello).refused is None


def test_a_workload_of_a_kind_that_there_is_not_is_refused_by_the_node_itself(waiting: Site) -> None:
    """keyd does not know kinds: were one to slip through, the node's own table has the last word."""
    hello = waiting.hello()
    order = replace(an_order(waiting, hello), spec=Work(None, kind="quantum").spec())
    assert waiting.deliver(waiting.answer(order, hello), hello).refused is None
    assert waiting.wait(30) == 75
    progress = waiting.progress()
    assert progress is not None
    assert (progress.phase, progress.stop) == ("stopped", "keys-refused")


def test_an_altered_or_wrongly_signed_answer_is_refused_and_the_right_one_still_works(waiting: Site) -> None:
    hello = waiting.hello()
    order = an_order(waiting, hello)
    answer, sealed = handover.seal_order("north", order, hello, handover.list_nodes([hello]))
    payload = wire.to_bytes(answer)
    good = NodeAnswer(waiting.sign(payload), sealed)
    refused = []
    for raw in (
        waiting.sign(payload, Ed25519PrivateKey.generate()),
        good.envelope.replace(b"A", b"B", 1),
        good.envelope[:-20],
        b"{}",
    ):
        refused.append(waiting.deliver(replace(good, envelope=raw), hello).refused)
    refused.append(waiting.deliver(replace(good, sealed=sealed[:-1] + b"x"), hello).refused)
    assert None not in refused
    assert waiting.deliver(good, hello).refused is None
    assert waiting.wait(60) == 0
    progress = waiting.progress()
    assert progress is not None
    assert progress.alarms == 1  # that there were any, not how many


def test_an_agent_that_never_gets_keys_ends_by_itself(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.submit(lifetime_s=2)
    assert site.wait(30) == 75
    progress = site.progress()
    assert progress is not None
    assert (progress.phase, progress.stop) == ("stopped", "no-keys")
    assert list(site.node_tmp.iterdir()) == []


def test_what_is_no_request_is_counted_and_changes_nothing(waiting: Site) -> None:
    hello = waiting.hello()
    path = Path(layout.node_folder(str(waiting.node_tmp), waiting.attempt, waiting.node), "agent.sock")
    asking = b'{"answer":null,"ask":"keys","nodes":null,"schema":"hdrs-hpc/courier/1"}\n'
    older = b'{"answers":null,"ask":"hello"}\n'
    for line in (b"", b"\n", b"{}\n", b"[" * 4000, asking, older, b"\xff" * 64, b"[" * (2 << 20)):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(line)
                connection.shutdown(socket.SHUT_WR)
            reply = handover.parse_reply(connection.makefile("rb").readline())
        assert (reply.state, reply.refused is not None) == ("waiting", True), line[:40]
    assert waiting.hello() == hello


def test_another_account_reaches_neither_socket_nor_runtime(waiting: Site) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root to become another account")
    waiting.hello()
    folder = layout.node_folder(str(waiting.node_tmp), waiting.attempt, waiting.node)
    done = subprocess.run(
        ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "/bin/ls", folder],
        capture_output=True,
        check=False,
        cwd="/",
    )
    assert b"Permission denied" in done.stderr


@pytest.mark.parametrize("node", ["with-openssl", "without-openssl"])
def test_a_runtime_that_is_not_the_pinned_one_is_not_run(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    if node == "without-openssl":
        rendered = batch.render
        monkeypatch.setattr(
            batch, "render", lambda plan: rendered(plan).replace(b"/usr/bin/openssl", b"/not/there")
        )
    pinned = make_site()
    pinned.submit()
    assert pinned.hello().runtime == pinned.runtime.digest, "the pinned one is run"
    site = make_site()
    path = Path(layout.join(str(site.scratch), layout.runtime_parts(site.runtime.digest)))
    changed = path.with_suffix(".new")
    shutil.copyfile(path, changed)
    with changed.open("r+b") as handle:
        handle.seek(path.stat().st_size // 2)
        handle.write(b"x")
    changed.replace(path)
    site.submit()
    assert site.wait(30) == 78
    assert site.progress() is None
    assert list(site.node_tmp.iterdir()) == []


def test_a_folder_that_is_already_there_is_neither_used_nor_removed(make_site: Callable[..., Site]) -> None:
    site = make_site()
    planted = Path(layout.node_folder(str(site.node_tmp), site.attempt, site.node))
    planted.mkdir(mode=0o777)
    (planted / "trap").touch()
    site.submit()
    assert site.wait(30) != 0
    assert (planted / "trap").exists()
