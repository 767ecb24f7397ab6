"""What the broker runs on a node to reach an agent: only from a folder that is the account's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hdrs_hpc.protocol import layout

NOBODY = 65534
ATTEMPT = "hdrs-0123456789abcdefghjkmnpqrs"


@pytest.fixture
def node_tmp() -> Iterator[Path]:
    """As /tmp on a node: all may write, and none may remove what another made."""
    folder = Path(tempfile.mkdtemp(prefix="hdrs-courier-", dir="/tmp"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def plant(node_tmp: Path, name: str = f"{ATTEMPT}-n1", owner: int | None = None) -> Path:
    """An agent's folder whose interpreter says that it ran."""
    folder = node_tmp / name
    python = folder / layout.RUNTIME_FOLDER / "bin/python3"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$0 $*"\n')
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
        if owner is not None:
            os.chown(path, owner, owner)
    return folder


def courier(node_tmp: Path, uid: int | None = None) -> subprocess.CompletedProcess[str]:
    account = [] if uid is None else ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return subprocess.run(
        [*account, *layout.courier_argv(str(node_tmp), ATTEMPT)],
        env={"SLURMD_NODENAME": "n1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


def test_the_courier_runs_from_the_accounts_own_folder(node_tmp: Path) -> None:
    folder = plant(node_tmp)
    done = courier(node_tmp)
    wanted = f"{folder}/rt/bin/python3 -I -B -m hdrs_hpc.node.courier {folder}/agent.sock\n"
    assert (done.returncode, done.stdout) == (0, wanted)


def test_where_there_is_no_folder_the_broker_asks_again(node_tmp: Path) -> None:
    assert courier(node_tmp).returncode == 69


def test_a_link_to_a_folder_of_ones_own_is_not_followed(node_tmp: Path) -> None:
    folder = plant(node_tmp, "elsewhere")
    (node_tmp / f"{ATTEMPT}-n1").symlink_to(folder)
    done = courier(node_tmp)
    assert (done.returncode, done.stdout) == (69, "")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two accounts")
def test_a_folder_that_a_neighbour_made_first_runs_nothing(node_tmp: Path) -> None:
    plant(node_tmp, owner=NOBODY - 1)
    done = courier(node_tmp, NOBODY)
    assert (done.returncode, done.stdout) == (69, "")
    shutil.rmtree(node_tmp / f"{ATTEMPT}-n1")
    plant(node_tmp, owner=NOBODY)
    assert courier(node_tmp, NOBODY).returncode == 0
