"""``broker serve``: keyd, controller and web as three processes, started again when one dies.

The supervisor holds no state worth keeping.  If it is killed, the kernel kills its children (they are made for
that: every step observes facts after a crash), so a second ``serve`` never meets processes of the first.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO

import httpx

from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.broker.web.server import check_listening
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import ConflictError

MODULES: dict[str, str] = {
    "keyd": "hdrs_hpc.broker.keyd.server",
    "controller": "hdrs_hpc.broker.controller.loop",
    "web": "hdrs_hpc.broker.web.server",
}
"""In the order in which they start; they are stopped in the opposite one."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STEADY_AFTER_S = 30.0
"""A process that lived this long starts again without delay if it dies."""
STOP_GRACE_S = 15.0
_POLL_S = 0.1
_PR_SET_PDEATHSIG = 1


class AlreadyServingError(ConflictError):
    code = "broker-already-serving"
    meaning = "Another `broker serve` runs on this home."
    remedy = "`hdrs-hpc broker status` shows it; stop that one first."


@dataclass
class _Child:
    name: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    due: float = field(default_factory=time.monotonic)


def serve(home: BrokerHome, ready: Callable[[str], None] = lambda url: None) -> None:
    """Run until SIGTERM or SIGINT; ``ready`` gets the URL once the API answers."""
    settings = home.require().settings()
    check_listening(settings)
    home.make_folders()
    with (home.root / "serve.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyServingError(where=str(home.root)) from None
        with closing(Database(home.database)) as db:
            db.migrate()  # here alone, before any process opens it
        _Supervisor(home, lambda: ready(settings.url)).run()


class _Supervisor:
    def __init__(self, home: BrokerHome, ready: Callable[[], None]) -> None:
        self._home = home
        self._ready = ready
        self._children = [_Child(name) for name in MODULES]
        self._stopping = False
        self._announced = False

    def run(self) -> None:
        old = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._stopping:
                for child in self._children:
                    self._tend(child)
                if not self._announced and answers(self._home):
                    self._announced = True
                    self._ready()
                time.sleep(_POLL_S)
        finally:
            self._end_all()
            for number, handler in old.items():
                signal.signal(number, handler)

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _tend(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None:
            status = child.process.poll()
            if status is None:
                return
            lived = now - child.started
            if lived >= STEADY_AFTER_S:
                child.pause_s = FIRST_PAUSE_S
            child.due = now + child.pause_s
            self._say(
                child.name, f"ended with status {status} after {lived:.0f} s; again in {child.pause_s:g} s"
            )
            child.pause_s = min(LONGEST_PAUSE_S, child.pause_s * 2)
            child.process = None
        if now >= child.due and (child.name == "keyd" or self._home.keyd_socket.exists()):
            child.process = self._spawn(child.name)
            child.started = time.monotonic()
            self._note_pids()

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        parent = os.getpid()
        argv = [sys.executable, "-m", MODULES[name], "--home", str(self._home.root)]
        with self._log(name) as stream:
            # preexec_fn is safe here: the supervisor has one thread.
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd=self._home.root,
                start_new_session=True,  # Ctrl-C reaches the supervisor only, which ends them in order
                preexec_fn=lambda: _die_with(parent),
            )

    def _end_all(self) -> None:
        for child in reversed(self._children):
            if child.process is not None and child.process.poll() is None:
                child.process.terminate()
                try:
                    child.process.wait(STOP_GRACE_S)
                except subprocess.TimeoutExpired:
                    self._say(child.name, "did not end in time and was killed")
                    child.process.kill()
                    child.process.wait()
        (self._home.root / "serve.json").unlink(missing_ok=True)

    def _note_pids(self) -> None:
        """For ``broker status``; replaced whole, so that a reader never sees half of it."""
        pids = {child.name: child.process.pid for child in self._children if child.process is not None}
        draft = self._home.root / "serve.json.new"
        draft.write_text(json.dumps({"supervisor": os.getpid(), **pids}), "ascii")
        draft.replace(self._home.root / "serve.json")

    def _say(self, name: str, text: str) -> None:
        with self._log("serve") as stream:
            stream.write(f"{clock.to_text(clock.now())} {name} {text}\n".encode())

    def _log(self, name: str) -> IO[bytes]:
        path = self._home.logs_dir / f"{name}.log"
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return os.fdopen(handle, "wb")


def _die_with(parent: int) -> None:
    """In the child, between fork and exec: die when the supervisor does, by any signal (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before prctl took hold
        os._exit(1)


def answers(home: BrokerHome) -> bool:
    """Whether the API of this home answers, be it that something else is not well, and keyd's socket is there."""
    url = home.settings().url
    try:
        # Its certificate is for its clients' name of it; here the question is only whether it lives.
        found = httpx.get(f"{url}/healthz", timeout=2, verify=False)  # noqa: S501
        return home.keyd_socket.exists() and found.status_code in (200, 503)
    except httpx.HTTPError:
        return False
