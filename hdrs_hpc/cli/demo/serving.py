"""The demo's broker and its clock."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from hdrs_hpc.cli.actors import Actor
from hdrs_hpc.core import die_with_parent


class Broker:
    """The operator's ``broker serve``, running in the background."""

    def __init__(self, operator: Actor, home: Path) -> None:
        self._process = subprocess.Popen(
            die_with_parent.guarded(
                [sys.executable, "-m", "hdrs_hpc.cli.main", "broker", "serve", "--home", str(home)],
                forward=True,
            ),
            cwd=operator.home,
            env=operator.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        operator.console.print(f"[dim]{operator.name:>9} $[/] hdrs-hpc broker serve &", highlight=False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """End it as an operator would, and wait."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Clock:
    """Seconds since the demo began, and since the last step."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def total_s(self) -> float:
        return time.monotonic() - self._begun
