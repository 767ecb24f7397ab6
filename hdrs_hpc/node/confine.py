"""Becomes the guard of a workload: a process without keys, which says what the workload may have.

Started by the agent (``sandbox.py``), which tells it on its standard input what to run, and by its arguments at which
descriptor it waits until the workload is confined and which process it is.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from hdrs_hpc.confined import starting, table
from hdrs_hpc.confined.port import Confined, Shown
from hdrs_hpc.confined.running import SandboxFailedError
from hdrs_hpc.node.sandbox import Places, Sandbox

WRITABLE = ("tmp", "shm", "report", "out")
"""All of it lies in the agent's bounded private memory."""
GPU_DEVICES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps")
GPU_MODULE = Path("/sys/module/nvidia")
_ETC = {
    "/etc/passwd": "job:x:{uid}:{gid}:job:/tmp:/bin/false\n",
    "/etc/group": "job:x:{gid}:\n",
    "/etc/hosts": "127.0.0.1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


def workload(asked: dict[str, Any]) -> Confined:
    """All that a workload may have."""
    outside = Places(**{name: Path(path) for name, path in asked["places"].items()})
    inside = Sandbox(asked["level"]).inside(outside)
    module = [Shown(GPU_MODULE, GPU_MODULE)] if asked["gpus"] and GPU_MODULE.exists() else []
    folders = [Shown(getattr(outside, n), getattr(inside, n), n in WRITABLE) for n in asked["places"]]
    user = {"uid": os.getuid(), "gid": os.getgid()}
    return Confined(
        command=tuple(asked["argv"]),
        environment=asked["env"],
        folder=inside.out,
        shown=(*folders, *module),
        files={path: text.format(**user) for path, text in _ETC.items()},
        workbench=outside.plan.parent / "container",
        devices=_gpu_devices() if asked["gpus"] else (),
        dispensable=True,
    )


def _gpu_devices() -> tuple[Path, ...]:
    """Device nodes of NVIDIA GPUs; which of them open is the site's device cgroup's decision."""
    folder = Path("/dev")
    return (*(folder / name for name in GPU_DEVICES), *sorted(folder.glob("nvidia[0-9]*")))


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
