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

from hdrs_hpc.core import clock, ids
from hdrs_hpc.protocol import handover, layout, wire
from hdrs_hpc.protocol.handover import Hello, LaunchOrder, Request, WorkloadOrder

from .conftest import Site

QUICK = "def run(ctx):\n    ctx.output('result').write_text('{}')\n"
FOREVER = "import time\ndef run(ctx):\n    time.sleep(600)\n"


@pytest.fixture
def waiting(make_site: Callable[..., Site]) -> Site:
    site = make_site()
    site.submit(lifetime_s=60)
    return site


def an_order(site: Site, hello: Hello, code: str = QUICK) -> LaunchOrder:
    work = WorkloadOrder("dask", None, site.seal_bundle({"mine.py": code}), "mine:run", {})
    subprocess.run(["chmod", "-R", "a+rX", str(site.scratch)], check=True)
    order = site.order(hello, {"ct": site.stage(1)}, work)
    if site.uid != os.getuid():
        subprocess.run(["chown", "-R", f"{site.uid}:{site.uid}", str(site.scratch)], check=True)
    return order


def test_the_same_answer_again_is_accepted_and_another_one_is_an_alarm(waiting: Site) -> None:
    hello = waiting.hello()
    order = an_order(waiting, hello, FOREVER)
    answer = waiting.answer(order, hello)
    assert waiting.deliver((hello.node, answer)).state == "accepted"
    again = waiting.deliver((hello.node, answer))
    assert (again.state, again.refused) == ("accepted", None)
    other = waiting.answer(order, hello)  # the same order, sealed once more: other bytes
    assert waiting.deliver((hello.node, other)).refused == "handover-answer-conflict"
    stopped = waiting.courier(Request("stop", None))
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
    ({"nodes": (os.uname().nodename, "another")}, "handover-incomplete"),
]


def test_an_answer_bound_to_anything_else_is_refused_though_signed(waiting: Site) -> None:
    hello = waiting.hello()
    answer = handover.seal_order("north", an_order(waiting, hello), hello)
    for change, code in BOUND_TO_ANOTHER:
        altered = replace(answer, binding=replace(answer.binding, **change))
        reply = waiting.deliver((hello.node, waiting.sign(wire.to_bytes(altered))))
        assert (reply.state, reply.refused) == ("waiting", code), change


def test_an_altered_or_wrongly_signed_answer_is_refused_and_the_right_one_still_works(waiting: Site) -> None:
    hello = waiting.hello()
    order = an_order(waiting, hello)
    payload = wire.to_bytes(handover.seal_order("north", order, hello))
    good = waiting.sign(payload)
    refused = []
    for raw in (
        waiting.sign(payload, Ed25519PrivateKey.generate()),
        good.replace(b"A", b"B", 1),
        good[:-20],
        b"{}",
    ):
        refused.append(waiting.deliver((hello.node, raw)).refused)
    assert None not in refused
    assert waiting.deliver((hello.node, good)).refused is None
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
    asking = b'{"ask":"keys","answers":null}\n'
    for line in (b"", b"\n", b"{}\n", b"[" * 4000, asking, b"\xff" * 64, b"[" * (2 << 20)):
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


def test_a_runtime_that_is_not_the_pinned_one_is_not_run(make_site: Callable[..., Site]) -> None:
    site = make_site()
    path = Path(layout.join(str(site.scratch), layout.runtime_parts(site.runtime.digest)))
    changed = path.with_suffix(".new")
    shutil.copyfile(path, changed)
    with changed.open("r+b") as handle:
        handle.seek(-5000, os.SEEK_END)
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
