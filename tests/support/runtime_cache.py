"""Runtime and flavours for tests: built once for all the test processes of a checkout, then shared and only read."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from hdrs_hpc.node.runtime import flavour
from hdrs_hpc.node.runtime.build import RuntimeFile, build
from hdrs_hpc.node.runtime.flavour import FlavourFile


class Built(Protocol):
    @property
    def path(self) -> Path: ...


@contextmanager
def borrowed(folder: Path) -> Iterator[RuntimeFile]:
    """The runtime of these sources, kept in ``folder`` at least until the caller is done with it."""
    with _kept(folder, lambda: build(folder), "*.tar") as made:
        yield made


@contextmanager
def borrowed_flavour(folder: Path, name: str, fetched: Path | None = None) -> Iterator[FlavourFile]:
    """The same of a flavour; each has a folder of its own."""
    platform = flavour.platform_of(name)
    with _kept(folder, lambda: flavour.build(folder, name, platform, fetched), "[0-9a-f]*.squashfs") as made:
        yield made


@contextmanager
def _kept[B: Built](folder: Path, make: Callable[[], B], files: str) -> Iterator[B]:
    """Who comes first builds it, the others wait.  Each holds a shared lock on the file that it uses, so that
    another test session, of changed sources perhaps, removes only what nobody uses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "building.lock").open("w") as building:
        fcntl.flock(building, fcntl.LOCK_EX)
        made = make()
        used = made.path.open("rb")
        fcntl.flock(used, fcntl.LOCK_SH)
        for other in folder.glob(files):
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
