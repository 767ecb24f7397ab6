"""The courier and the agent's socket for it: lines as long as allowed, where nothing fits into a buffer."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from hdrs_hpc.core.wire import MAX_LINE_BYTES
from hdrs_hpc.node import courier
from hdrs_hpc.node.handover import CourierSocket, Handover
from tests.support import narrow

REPO = Path(__file__).resolve().parents[3]
COURIER = """
import socket, sys
sys.path.insert(0, {root!r})
from tests.support import narrow
socket.socket = narrow.KINDS[{kind!r}]
from hdrs_hpc.node import courier
sys.exit(courier.main(sys.argv[1:]))
"""


class Echo:
    """Answers with as much as it was asked, and one word."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def handle(self, line: bytes) -> bytes:
        self.heard.append(line)
        return b"answer " + line[7:] if line.endswith(b"\n") else b"no line\n"


@pytest.fixture
def agent() -> Iterator[tuple[Path, Echo]]:
    with tempfile.TemporaryDirectory(prefix="agent-") as folder:
        path, echo = Path(folder) / "agent.sock", Echo()
        listening = CourierSocket(path, cast(Handover, echo))
        yield path, echo
        listening.close()


@pytest.mark.parametrize(("kind", "size"), [("smallest buffers", MAX_LINE_BYTES), ("single bytes", 30_000)])
def test_the_longest_line_and_its_answer_pass_where_nothing_fits(kind: str, size: int) -> None:
    with narrow.sockets(narrow.KINDS[kind]), narrow.pipes(), tempfile.TemporaryDirectory() as folder:
        path, echo = Path(folder) / "agent.sock", Echo()
        listening = CourierSocket(path, cast(Handover, echo))
        line = b"asking " + b"x" * (size - 8) + b"\n"
        code = COURIER.format(root=str(REPO), kind=kind)
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], input=line, capture_output=True, timeout=60, check=False
        )
        listening.close()
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"answer " + line[7:]
    assert echo.heard == [line]


@pytest.mark.parametrize("sent", [b"", b"cut short", b"x" * (MAX_LINE_BYTES + 5)])
def test_what_is_no_line_is_answered_at_once(agent: tuple[Path, Echo], sent: bytes) -> None:
    """Neither end waits until the other has had enough: the courier says where its request ends."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "hdrs_hpc.node.courier", str(agent[0])],
        input=sent,
        capture_output=True,
        timeout=60,
        check=False,
        cwd=REPO,
    )
    assert (done.returncode, done.stdout) == (0, b"no line\n")
    assert time.monotonic() - began < courier.TIMEOUT_S / 2
    assert agent[1].heard == [sent[: MAX_LINE_BYTES + 1]]


def test_a_courier_that_goes_away_or_does_not_listen_holds_up_nobody(
    agent: tuple[Path, Echo], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hdrs_hpc.node.handover._TIMEOUT_S", 0.5)
    with socket.socket(socket.AF_UNIX) as trickling, socket.socket(socket.AF_UNIX) as gone:
        trickling.connect(str(agent[0]))
        trickling.sendall(b"{")
        gone.connect(str(agent[0]))
        gone.close()
        with socket.socket(socket.AF_UNIX) as good:
            good.settimeout(20)
            good.connect(str(agent[0]))
            good.sendall(b"asking 1\n")
            assert good.makefile("rb").readline() == b"answer 1\n"
