"""Which tests run one after the other where several pytest workers share them.

A file stays together: its tests share a world, with a broker and a cluster of its own.  Together, whatever their file,
are the tests that use what a machine has once: the throw-away Slurm, and the account ``nobody`` of the node agent's
tests, whose number of processes the kernel counts as one.  ``alone`` marks what no other test may run beside.

Groups are told by the names of tests alone, since pytest-xdist hands out names.  Its own ``--dist loadgroup`` writes
the group into a test's name in a way that pytest 9.2 no longer reads, so that nothing was grouped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

_USE_SLURM = ("tests/site/", "tests/faults/", "tests/integration/", "tests/contract/")
_SEARCHED = ("tests/integration/test_demo.py", "tests/faults/test_canaries.py")
"""They search the whole machine for what they planted, and would find what the other planted: one after the other."""
_ORDER = ("slurm", "tests/faults/", "node", "tests/integration/", "tests/contract/")
"""Groups, and folders of files, that begin first: the longest, so that no worker is left with one at the end."""


def group(nodeid: str) -> str:
    """The group of a test, by its name as pytest prints it."""
    file, _, test = nodeid.partition("::")
    if (file.startswith("tests/site/") and "pacs" not in file) or file in _SEARCHED:
        return "slurm"
    if "slurm" in f"{file}{test.partition('[')[0]}" and file.startswith(_USE_SLURM):
        return "slurm"
    return "node" if file.startswith("tests/integration/node/") else file


def arrange(items: list[pytest.Item]) -> None:
    """Bring the longest groups to the front; refuse a test that uses Slurm and does not say so by its name."""
    for item in items:
        if "slurm_scratch" in vars(item).get("fixturenames", ()) and group(item.nodeid) != "slurm":
            raise pytest.UsageError(f"{item.nodeid} uses Slurm: its name or its file's must say slurm")
    items.sort(key=lambda item: _rank(group(item.nodeid)))


def scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Hands out whole groups."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return ByGroup(config, log)


def _rank(name: str) -> int:
    return next((place for place, start in enumerate(_ORDER) if name.startswith(start)), len(_ORDER))
