"""Runs inside a sandbox, by file, and writes down what it could reach: an empty list is the hope.

It imports nothing but the standard library, since it is started before anything else is trusted to work.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path


def main(question_path: str, answer_path: str) -> int:
    question = json.loads(Path(question_path).read_bytes())
    reached = [
        *(["secret-path"] if any(Path(path).exists() for path in question["paths"]) else []),
        *(
            f"{name}-namespace"
            for name, link in question["namespaces"].items()
            if str(Path(f"/proc/self/ns/{name}").readlink()) == link
        ),
        *(name for name, test in TESTS.items() if test()),
    ]
    Path(answer_path).write_text(json.dumps(reached), "ascii")
    return 0


def _run_folder() -> bool:
    return any(Path(path).exists() for path in ("/run", "/var/run", "/var/spool", "/home", "/root"))


def _slurm() -> bool:
    return any(Path(path).exists() for path in ("/etc/slurm", "/etc/slurm-llnl", "/etc/munge"))


def _network() -> bool:
    names = [name for _, name in socket.if_nameindex()]
    return any(name != "lo" for name in names)


def _processes() -> bool:
    """More than this process and the sandbox's own first one."""
    return sum(entry.name.isdigit() for entry in Path("/proc").iterdir()) > 3


def _capabilities() -> bool:
    status = Path("/proc/self/status").read_text("ascii")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    held = any(int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb"))
    return held or fields["NoNewPrivs"] != "1"


def _writable() -> bool:
    for folder in ("/", "/usr", "/etc", "/opt/hdrs", "/plan", "/bundle", "/data"):
        probe = Path(folder, "probe")
        try:
            probe.touch()
        except OSError:
            continue
        return True
    return False


def _fabric() -> bool:
    return Path("/dev/infiniband").exists() or Path("/dev/cxi0").exists()


TESTS = {
    "run-folder": _run_folder,
    "slurm-configuration": _slurm,
    "network": _network,
    "processes": _processes,
    "capabilities": _capabilities,
    "read-only-system": _writable,
    "fabric-device": _fabric,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
