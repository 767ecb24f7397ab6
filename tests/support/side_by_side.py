"""Which tests run one after the other where several pytest workers share them (``-n 3 --dist loadgroup``).

A file stays together: its tests share a world, with a broker and a cluster of its own.  Together, whatever their file,
are the tests that use what a machine has once: the throw-away Slurm, and the account ``nobody`` of the node agent's
tests, whose number of processes the kernel counts as one.  ``alone`` marks what no other test may run beside.
"""

from __future__ import annotations

from pathlib import PurePath

import pytest

_ORDER = ("slurm", "tests/faults/", "node", "tests/integration/", "tests/contract/")
"""Groups, and folders of files, that begin first: the longest, so that no worker is left with one at the end."""


def arrange(items: list[pytest.Item]) -> None:
    """Give each test its group and bring the longest to the front."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(_group(item.nodeid, vars(item).get("fixturenames", ()))))
    items.sort(key=lambda item: _rank(_name(item)))


def _group(nodeid: str, fixtures: list[str] | tuple[str, ...]) -> str:
    file = nodeid.partition("::")[0]
    folder = PurePath(file).parent.as_posix()
    if "slurm_scratch" in fixtures or (folder == "tests/site" and "pacs" not in file):
        return "slurm"
    return "node" if folder == "tests/integration/node" else file


def _name(item: pytest.Item) -> str:
    marker = item.get_closest_marker("xdist_group")
    assert marker is not None
    return str(marker.args[0])


def _rank(group: str) -> int:
    return next((place for place, name in enumerate(_ORDER) if group.startswith(name)), len(_ORDER))
