"""Be in a job whose inputs are these copies: an agent is started, asked through its socket, and stopped."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from imaging.reading.client import SOCKET_VARIABLE


@contextlib.contextmanager
def job(copies: Mapping[str, Path], secret_file: Path) -> Iterator[None]:
    """Processes started inside find the agent too.  Raises RuntimeError if it does not start."""
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder, "data")  # not below the working folder: the path of a socket must be short
        words = [f"{name}={dest}" for name, dest in copies.items()]
        agent = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contenders.agent", str(socket), str(secret_file), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert agent.stdin is not None and agent.stdout is not None
        try:
            if agent.stdout.readline() != b"ready\n":
                raise RuntimeError("the agent did not start")
            os.environ[SOCKET_VARIABLE] = str(socket)
            yield
        finally:
            os.environ.pop(SOCKET_VARIABLE, None)
            agent.stdin.close()
            try:
                agent.wait(20)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()
