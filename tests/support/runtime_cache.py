"""The node runtime for tests: built once for all the test processes of a checkout, then shared and only read."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hdrs_hpc.node.runtime.build import RuntimeFile, build


@contextmanager
def borrowed(folder: Path) -> Iterator[RuntimeFile]:
    """The runtime of these sources, kept in ``folder`` at least until the caller is done with it.

    Who comes first builds it, the others wait.  Each holds a shared lock on the file that it uses, so that
    another test session, of changed sources perhaps, removes only what nobody uses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "building.lock").open("w") as building:
        fcntl.flock(building, fcntl.LOCK_EX)
        made = build(folder)
        used = made.path.open("rb")
        fcntl.flock(used, fcntl.LOCK_SH)
        for other in folder.glob("*.tar"):
            if other != made.path:
                _remove_unless_used(other)
    with used:
        yield made


def _remove_unless_used(path: Path) -> None:
    with path.open("rb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        path.unlink()
