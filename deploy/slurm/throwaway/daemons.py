"""Start, recognise and stop daemons: by pid and start time, never by name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from throwaway.layout import Layout

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class UpError(Exception):
    """Something on this machine keeps the cluster from coming up; the message says what."""


@dataclass(frozen=True)
class Daemon:
    """One detached process, its output in ``log/<name>.out``, its identity in ``run/<name>.json``.

    ``argv`` may begin with env, nsenter, unshare and sh: each execs the next, so the pid stays the daemon's.
    """

    layout: Layout
    name: str
    argv: tuple[str, ...]

    @property
    def _record(self) -> Path:
        return self.layout.run / f"{self.name}.json"

    @property
    def output(self) -> Path:
        return self.layout.log / f"{self.name}.out"

    def pid(self) -> int | None:
        """Its pid while it lives.  Pids are re-used; pid, start time and boot together are not."""
        try:
            record = json.loads(self._record.read_text())
        except FileNotFoundError:
            return None
        pid = int(record["pid"])
        return pid if record["boot"] == boot_id() and start_ticks(pid) == record["start"] else None

    def start(self) -> None:
        if self.pid() is not None:
            return
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        record = {
            "pid": process.pid,
            "start": start_ticks(process.pid),
            "boot": boot_id(),
            "argv": self.argv,
        }
        self._record.write_text(json.dumps(record))

    def stop(self, wait_s: float = 10.0) -> None:
        pid = self.pid()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            if not wait_for(lambda: self.pid() is None, wait_s):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                wait_for(lambda: self.pid() is None, 5)
        self._record.unlink(missing_ok=True)

    def last_words(self) -> str:
        with suppress(FileNotFoundError):
            return "\n".join(self.output.read_text(errors="replace").splitlines()[-12:])
        return ""


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/<pid>/stat; None when the process is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def wait_for(condition: Callable[[], bool], timeout_s: float, every_s: float = 0.1) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


def await_daemon(daemon: Daemon, ready: Callable[[], bool], timeout_s: float) -> None:
    """Until it answers; UpError with its last words if it dies or never does."""

    def settled() -> bool:
        return daemon.pid() is None or ready()

    if not wait_for(settled, timeout_s) or daemon.pid() is None or not ready():
        raise UpError(f"{daemon.name} did not come up:\n{daemon.last_words()}")


def run(argv: Sequence[str], *, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    """A short command in a bare environment; UpError with its stderr when ``check`` and it fails."""
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, env=ENVIRONMENT, cwd="/", timeout=180
        )
    except subprocess.TimeoutExpired:
        raise UpError(f"{' '.join(argv)}: no answer within 180 s") from None
    if check and done.returncode != 0:
        raise UpError(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()}")
    return done
