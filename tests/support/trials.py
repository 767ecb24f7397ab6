"""Lives in which processes of the broker are killed: who does it, and who brings them back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.killing import Diary
from tests.support.world import World


@contextmanager
def killed_again_and_again(
    world: World, victim: str, *, only: tuple[str, ...] = (), settle_s: float | None = None
) -> Iterator[Diary]:
    """Run ``victim`` (controller or keyd) so that it dies at every boundary of each of its acts, once."""
    diary = Diary(world.root / f"{victim}-diary")
    argv = [sys.executable, "-m", "tests.support.killing", victim]
    argv += ["--home", str(world.home.root), "--diary", str(diary.path), "--only", ",".join(only)]
    argv += ["--settle-s", str(settle_s)] if settle_s is not None else []
    with (world.root / f"{victim}-trial.log").open("ab") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, cwd=Path(__file__).parents[2])
    try:
        yield diary
        assert process.poll() is None, (world.root / f"{victim}-trial.log").read_text()[-4000:]
    finally:
        process.terminate()
        process.wait(20)


def file_killed(world: World, raw: bytes) -> Diary:
    """File a document through a web that dies at every boundary of accepting it; the person sends it again."""
    number = len(list(world.root.glob("web-diary-*")))
    diary, document = Diary(world.root / f"web-diary-{number}"), world.root / f"document-{number}"
    document.write_bytes(raw)
    argv = [sys.executable, "-m", "tests.support.killing", "web", "--document", str(document)]
    argv += ["--home", str(world.home.root), "--diary", str(diary.path)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=60)
    assert done.returncode == 0, done.stderr[-4000:]
    return diary


@dataclass
class Assassin:
    """Kills workers of one home in the middle of their work, each time at a later moment."""

    home: Path
    module: str
    moments: list[Callable[[], bool]]
    killed: list[int] = field(default_factory=list)

    def look(self) -> None:
        """Kill one if its moment has come."""
        if not self.moments:
            return
        for process in self.running():
            if process.pid not in self.killed and self.moments[0]():
                self.moments.pop(0)
                self.killed.append(process.pid)
                os.kill(process.pid, signal.SIGKILL)
                return

    def running(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if self.module in line and str(self.home) in line:
                found.append(process)
        return found


def wait_until(done: Callable[[], bool], timeout_s: float, tell: Callable[[], str]) -> None:
    """Wait for what other processes do."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(f"not reached in {timeout_s} s: {tell()}")
        time.sleep(0.1)
