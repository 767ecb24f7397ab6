"""The playground's broker in the background: started to stay, found again by its record, ended by its pid.

``python -m hdrs_hpc.cli.playground.keeper DIR`` writes down which process it is and becomes ``broker serve``.  The
record lies beside the playground's folder, so that a broker whose folder was deleted can still be ended.  A pid alone
tells nothing after a reboot, since pids are used again: the record holds the boot and when the process began as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from connectors.clusters import local_supervisor
from hdrs_hpc.core import durable_files
from hdrs_hpc.core.errors import SiteError

STOP_S = 40.0
"""``broker serve`` gives each of its processes 15 s."""
BROKER = "broker"


class BrokerStaysError(SiteError):
    code = "playground-broker-stays"
    meaning = "The playground's broker did not end, even when it was killed."
    remedy = "Look at the process that the message names, then say `hdrs-hpc playground down` again."


def record_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.running.json")


def start(folder: Path, environment: dict[str, str]) -> None:
    """Start it; it outlives this process and its terminal."""
    log = folder / "broker.log"
    with log.open("ab") as stream:
        subprocess.Popen(
            [sys.executable, "-m", "hdrs_hpc.cli.playground.keeper", str(folder)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )


def running(folder: Path) -> int | None:
    """The pid of this playground's broker, None where it does not run."""
    found = _record(folder)
    if found is None or found.get("boot") != local_supervisor.boot_id():
        return None
    pid = int(found["pid"])
    return pid if local_supervisor.start_time(pid) == found["start"] else None


def stop(folder: Path) -> bool:
    """End it and wait; gives whether there was one.  Raises BrokerStaysError."""
    pid = running(folder)
    if pid is None:
        record_of(folder).unlink(missing_ok=True)
        return False
    for number, wait_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            if running(folder) is None or _is_over(pid):
                record_of(folder).unlink(missing_ok=True)
                return True
            time.sleep(0.1)
    raise BrokerStaysError(f"process {pid}")


def _is_over(pid: int) -> bool:
    """A process that nobody has asked after yet keeps its number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def _record(folder: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(record_of(folder).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found


def main(argv: list[str]) -> int:
    folder = Path(argv[0])
    me = os.getpid()
    record = {"pid": me, "start": local_supervisor.start_time(me), "boot": local_supervisor.boot_id()}
    durable_files.write_json(record_of(folder), record)
    serve = ["-m", "hdrs_hpc.cli.main", "broker", "serve", "--home", str(folder / BROKER)]
    os.execv(sys.executable, [sys.executable, *serve])  # noqa: S606  the pid stays


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
