"""Starting what an agent has done by processes of its own, which hold no key."""

from __future__ import annotations

import subprocess
import sys

from hdrs_hpc.core import die_with_parent


def start(module: str, *words: object, files: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    """A module of ours by its name, under a guard; it inherits ``files`` and pipes to this process, no more."""
    command = [sys.executable, "-I", "-B", "-m", f"hdrs_hpc.node.{module}", *map(str, words)]
    return subprocess.Popen(
        die_with_parent.guarded(command),
        bufsize=0,
        env=die_with_parent.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=files,
    )
