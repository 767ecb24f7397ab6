"""Objects to a site over SSH: ``sealed SETTINGS SOURCE DEST`` as the broker puts them, or ``rsync STREAMS …`` with so
many processes side by side: ``rsync STREAMS USER PORT IDENTITY KNOWN_HOSTS SOURCE DEST``.

DEST lies on this very machine, behind a real sshd; both end with the objects on its medium.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.contenders import tell
from benchmarks.measure import sync_tree

PIECE = 1 << 20
PUTTING = 4
"""Objects put at once, as the writer of staging does."""
PROJECT = "bench"


def sealed(settings_file: Path, source: Path, dest: Path) -> None:
    """SETTINGS is a cluster's settings file; DEST lies directly in its scratch."""
    from connectors.clusters import ClusterSettings, open_cluster

    cluster = open_cluster(ClusterSettings.load(settings_file), PROJECT)
    objects = cluster.objects(dest.name)
    paths = sorted(source.iterdir())
    started = time.perf_counter()
    with ThreadPoolExecutor(PUTTING) as pool:
        for _ in pool.map(lambda path: objects.put(path.name, _pieces(path)), paths):
            pass
    sync_tree(dest)
    _told(paths, time.perf_counter() - started)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def rsync(streams: int, shell: list[str], target: str, source: Path, dest: Path) -> None:
    """``shell``: the ssh command.  Files are dealt out by size, so that each process has as much to do."""
    paths = sorted(source.iterdir(), key=lambda path: path.stat().st_size, reverse=True)
    hands = [paths[start::streams] for start in range(streams)]
    dest.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        running = []
        for number, hand in enumerate(hands):
            names = Path(folder, str(number))
            names.write_text("".join(f"{path.name}\n" for path in hand))
            words = ["rsync", "-a", "-W", "--files-from", str(names), "-e", " ".join(shell)]
            running.append(subprocess.Popen([*words, f"{source}/", f"{target}:{dest}/"]))
        if any(one.wait() for one in running):
            raise RuntimeError("rsync failed")
    sync_tree(dest)
    _told(paths, time.perf_counter() - started)


def _told(paths: list[Path], seconds: float) -> None:
    total = sum(path.stat().st_size for path in paths)
    tell(mb_per_s=total / seconds / 1e6, objects_per_s=len(paths) / seconds, seconds=seconds)


if __name__ == "__main__":
    if sys.argv[1] == "sealed":
        sealed(*map(Path, sys.argv[2:]))
    else:
        _streams, _user, _port, _identity, _known, _source, _dest = sys.argv[2:]
        os.environ.pop("SSH_AUTH_SOCK", None)
        _shell = ["ssh", "-F", "none", "-p", _port, "-i", _identity, "-o", f"UserKnownHostsFile={_known}"]
        _shell += ["-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        rsync(int(_streams), _shell, f"{_user}@127.0.0.1", Path(_source), Path(_dest))
