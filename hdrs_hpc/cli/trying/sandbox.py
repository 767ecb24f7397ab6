"""The node's own sandbox, but that what the code prints is shown, and that the interpreter may be one installed here.

A node has no such switch: there what a workload prints goes nowhere.  This module is a program too: the guard of the
workload, as ``node/confine.py`` is on a node.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hdrs_hpc.confined import starting, table
from hdrs_hpc.confined.port import Confined, Shown
from hdrs_hpc.confined.running import Running, SandboxFailedError
from hdrs_hpc.node import confine
from hdrs_hpc.node.sandbox import Places, Sandbox

_BESIDE = "beside"


@dataclass(frozen=True)
class ShownSandbox(Sandbox):
    """``beside``: folders shown under their own names as well, see :mod:`hdrs_hpc.cli.trying.interpreter`."""

    confine: ClassVar[str] = "hdrs_hpc.cli.trying.sandbox"
    output: ClassVar[int | None] = None

    beside: tuple[Path, ...] = ()

    def start(self, argv: tuple[str, ...], env: dict[str, str], places: Places, gpus: str) -> Running:
        # Processes of a workload end without emptying their buffers; and that the launcher forks is not their fault.
        shown = (argv[0], "-u", "-W", "ignore::DeprecationWarning:__main__", *argv[1:])
        return super().start(shown, env, places, gpus)

    def asked(self, argv: tuple[str, ...], env: dict[str, str], places: Places, gpus: str) -> dict[str, Any]:
        return {**super().asked(argv, env, places, gpus), _BESIDE: self.beside}


def workload(asked: dict[str, Any]) -> Confined:
    """What the node would give it, and the folders beside."""
    given = confine.workload(asked)
    beside = (Shown(Path(path), Path(path)) for path in asked[_BESIDE])
    return dataclasses.replace(given, shown=(*given.shown, *beside))


def main(argv: list[str]) -> int:
    up, agent = map(int, argv)
    asked = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        starting.become(table.choose("node", asked["level"]), workload(asked), up, agent)
    except (OSError, SandboxFailedError) as error:
        os.write(up, (error.message if isinstance(error, SandboxFailedError) else "sandbox-failed").encode())
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
