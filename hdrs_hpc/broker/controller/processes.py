"""Which processes of this machine work on something, told by what their command lines name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")


def naming(names: Iterable[str], proc: Path = _PROC) -> tuple[int, int]:
    """How many processes were looked at, and how many have one of ``names`` as an argument of their own.

    This process and those that end meanwhile are left out.  Raises OSError where there is no ``/proc``: nothing
    seen is not the same as nothing there.
    """
    wanted = {name.encode() for name in names}
    looked = found = 0
    for entry in proc.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        looked += 1
        found += not wanted.isdisjoint(arguments)
    return looked, found
