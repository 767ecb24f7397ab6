"""Looks for a world's canaries wherever a life could have left them, while it runs and afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from hdrs_hpc.audit import places
from hdrs_hpc.audit.places import Holds
from hdrs_hpc.cli.demo.canaries import read_list
from hdrs_hpc.cli.demo.scanner import Report, Scanner
from tests.support import proofs
from tests.support.elsewhere import in_another_process
from tests.support.world import World

LARGEST_BYTES = 256 << 20
"""Of what others write to /tmp meanwhile, such as a runtime, beside which every file of a life is small."""
SHARED = (Path("/tmp"), Path("/dev/shm"), Path("/var/tmp"))


def search(canaries: Path, trees: Sequence[Path]) -> Report:
    """For the canaries of a list, in files, and in all processes' environments and command lines."""
    scanner = Scanner(read_list(canaries))
    for path in trees:
        scanner.scan_tree(path)
    for pid in psutil.pids():
        scanner.scan_process(pid)
    return scanner.report()


@dataclass
class CanaryWatch:
    """Each :meth:`look` searches everything anew; ``more`` are further folders, of a Slurm say."""

    world: World
    more: tuple[Path, ...] = ()
    begun: float = field(default_factory=time.time)
    looks: int = 0

    def look(self) -> Report:
        self.looks += 1
        return in_another_process(search, self.world.canaries, [*self._files(), *self.more])

    def _files(self) -> Iterator[Path]:
        known = proofs.roots(self.world)
        mine = proofs.attempt_names(self.world)
        # Of a node's /tmp only the attempts' own folders: the rest is searched below, with what others leave there.
        nodes = [path for path in known["node_tmp"].iterdir() if any(name in path.name for name in mine)]
        for folder in (known["home"], known["scratch"], *nodes):
            for path in proofs.files_below(folder):
                if not self._is_known_plaintext_or_runtime(path, known):
                    yield path
        for shared in SHARED:
            yield from self._recent(shared)

    def _is_known_plaintext_or_runtime(self, path: Path, known: dict[str, Path]) -> bool:
        """Registered plaintext stays in the data zone; the runtime is half a gigabyte pinned by digest."""
        place = places.place_of(path, known)
        unpacked = place.name == "node-private-folder" and "rt" in path.parts
        return place.holds is Holds.PLAINTEXT or place.name == "runtime" or unpacked

    def _recent(self, folder: Path) -> Iterator[Path]:
        """Files that were written since the watch began, of this world or of anybody."""
        for parent, names, files in os.walk(folder):
            here = Path(parent)
            if here == self.world.root or here == self.world.canaries.parent or "rt" in here.parts:
                names.clear()
                continue
            if "canaries.json" in files:  # another life's source, in which the same real tile may lie
                files.remove("canaries.json")
                names[:] = [name for name in names if name != "archive"]
            for name in files:
                path = here / name
                try:
                    found = path.lstat()
                except FileNotFoundError:
                    continue
                if max(found.st_mtime, found.st_ctime) >= self.begun and found.st_size < LARGEST_BYTES:
                    yield path
