"""Runs a process of the broker and kills it with SIGKILL at every boundary of everything that it does.

``python -m tests.support.killing controller|keyd|web --home HOME --diary FILE``

The product has no fail-points.  This wraps the one function through which the controller acts (keyd answers, web
accepts) and, while it acts, what changes the world: a committed transaction, keyd's answer, a cluster's command,
a started worker, a rename, a removal.  The first time an act is tried, it dies before it; the second time at its
first boundary; and so on until it got through.  The diary remembers, so that each boundary kills once.

The modules are imported once and a new process is forked for each life, so that hundreds of deaths are affordable.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import logging
import os
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from connectors.clusters.slurm import SlurmCluster
from hdrs_hpc.broker import opened
from hdrs_hpc.broker.controller import loop as controller
from hdrs_hpc.broker.controller import turns
from hdrs_hpc.broker.filing import accept
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.keyd import client, master, server
from hdrs_hpc.broker.keyd.keyd import Keyd
from hdrs_hpc.broker.keyd.master import MasterFile
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.broker.workers import process as workers
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.kinds import BY_PAYLOAD_TYPE

PASSED = "passed"
CLUSTER_VERBS = ("submit", "cancel", "run_in_job", "remove_tree")


class Diary:
    """One line a death (``act, boundary``), and one for each act that got through everything."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[tuple[str, str]]:
        if not self.path.exists():
            return []
        pairs = (line.split("\t") for line in self.path.read_text().splitlines())
        return [(act, boundary) for act, boundary in pairs]

    def deaths(self) -> list[tuple[str, str]]:
        return [line for line in self.lines() if line[1] != PASSED]

    def of(self, act: str) -> set[str]:
        """Boundaries at which the act died, and :data:`PASSED` once there were no others."""
        return {boundary for name, boundary in self.lines() if name == act}

    def write(self, act: str, boundary: str) -> None:
        with self.path.open("a") as file:
            file.write(f"{act}\t{boundary}\n")


class Killer(threading.local):
    """Dies at the first boundary of an act at which it never died before.

    Each thread of the controller is in an act of its own; when it dies, it takes the others along in the middle of
    theirs.
    """

    def __init__(self, diary: Diary, only: frozenset[str]) -> None:
        self.diary, self.only = diary, only
        self.act: str | None = None
        self._known: set[str] = set()
        self._crossed: Counter[str] = Counter()

    def cross(self, boundary: str) -> None:
        """``commit``, and when there are more of them in one act: ``commit 2``, ``commit 3``."""
        if self.act is None:
            return
        self._crossed[boundary] += 1
        count = self._crossed[boundary]
        name = boundary if count == 1 else f"{boundary} {count}"
        if name not in self._known:
            self.diary.write(self.act, name)
            os.kill(os.getpid(), signal.SIGKILL)

    @contextlib.contextmanager
    def around(self, act: str) -> Iterator[None]:
        """Die before, within or after what happens inside."""
        wanted = not self.only or act.split()[0] in self.only
        known = self.diary.of(act)
        if not wanted or PASSED in known or self.act is not None:
            yield
            return
        self.act, self._known, self._crossed = act, known, Counter()
        try:
            self.cross("before")
            yield
            self.cross("after")
            self.diary.write(act, PASSED)
        finally:
            self.act = None

    def after[**P, R](self, boundary: str, function: Callable[P, R]) -> Callable[P, R]:
        """``function``, which crosses a boundary when it is through."""

        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            result = function(*args, **kwargs)
            self.cross(boundary)
            return result

        return wrapped

    def after_block(self, boundary: str, manager: Callable[..., Any]) -> Callable[..., Any]:
        """The same for a context manager."""

        @contextlib.contextmanager
        def wrapped(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with manager(*args, **kwargs) as entered:
                yield entered
            self.cross(boundary)

        return wrapped


def name_of(action: Any) -> str:
    """An act by its class and what it is about, e.g. ``Release 7K3QW2 cohort``."""
    parts = [type(action).__name__]
    if is_dataclass(action):
        for field in fields(action):
            about = getattr(action, field.name)
            identity = getattr(about, "id", None) or getattr(about, "name", None)
            if isinstance(identity, str):
                parts.append(identity)
    return " ".join(parts)


def prepare_controller(killer: Killer, home: BrokerHome) -> Callable[[], None]:
    act = turns.act

    def killing_act(action: Any, broker: OpenBroker) -> None:
        with killer.around(name_of(action)):
            act(action, broker)

    open_cluster = opened.open_cluster

    def killing_cluster(*args: Any) -> Any:
        cluster = open_cluster(*args)
        for verb in CLUSTER_VERBS:
            setattr(cluster, verb, killer.after(verb, getattr(cluster, verb)))
        return cluster

    patch(turns, "act", killing_act)
    patch(opened, "open_cluster", killing_cluster)
    patch(OpenBroker, "ask", killer.after("keyd", OpenBroker.ask))
    patch(Database, "write", killer.after_block("commit", Database.write))
    patch(workers, "start", killer.after("start", workers.start))
    patch(Path, "replace", killer.after("rename", Path.replace))
    patch(shutil, "rmtree", killer.after("rmtree", shutil.rmtree))
    return lambda: controller.run(home)


def prepare_web(killer: Killer, home: BrokerHome, document: bytes) -> Callable[[], None]:
    """What web does with one filed document; it ends when that got through."""
    kind = BY_PAYLOAD_TYPE[Envelope.parse(document).payload_type].name

    def file() -> None:
        db = Database(home.database)
        with killer.around(f"accept {kind}"):
            accept.accept(db, lambda ask: client.ask(home.keyd_socket, ask), document, home=home)
        db.close()

    patch(client, "ask", killer.after("keyd", client.ask))
    patch(Database, "write", killer.after_block("commit", Database.write))
    return file


def prepare_keyd(killer: Killer, home: BrokerHome) -> Callable[[], None]:
    answer = Keyd.answer

    def killing_answer(keyd: Keyd, ask: Any) -> dict[str, Any]:
        told = (getattr(ask, name, None) for name in ("role", "purpose", "what"))
        with killer.around(" ".join([type(ask).__name__, *(text for text in told if text)])):
            return answer(keyd, ask)

    settle, start = MasterFile.settle, Keyd.open

    def killing_open(where: BrokerHome) -> Keyd:
        """Start after a death in the middle of a rotation, which the start has to finish: die in that too."""
        if not list(home.keyd_dir.glob("*.new")):
            return start(where)
        last = [
            f"{act}, {boundary}" for act, boundary in killer.diary.deaths() if not act.startswith("Open")
        ][-1]
        with killer.around(f"Open after {last}"):
            return start(where)

    def killing_settle(file: MasterFile, fingerprint: str) -> None:
        killer.cross(
            "commit"
        )  # what comes right before: a new master may be named and not yet be in its place
        settle(file, fingerprint)
        killer.cross("settled")

    patch(Keyd, "answer", killing_answer)
    patch(Keyd, "open", killing_open)
    patch(MasterFile, "settle", killing_settle)
    patch(MasterFile, "propose", killer.after("proposed", MasterFile.propose))
    patch(master, "_overwrite", killer.after("overwritten", master._overwrite))
    patch(Path, "replace", killer.after("rename", Path.replace))
    return lambda: server.serve(home)


def patch(owner: Any, name: str, value: Any) -> None:
    setattr(owner, name, value)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("victim", choices=("controller", "keyd", "web"))
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--diary", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--settle-s", type=float)
    parser.add_argument("--document", type=Path)
    asked = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(message)s")
    logging.getLogger("alembic").setLevel(logging.ERROR)
    killer = Killer(Diary(asked.diary), frozenset(filter(None, asked.only.split(","))))
    if asked.settle_s is not None:
        # Only for trials that die before anything was sent, so that nothing can arrive late.
        SlurmCluster.settle_s = asked.settle_s
    home = BrokerHome.at(asked.home)
    if asked.victim == "web":
        return respawn(prepare_web(killer, home, asked.document.read_bytes()), until_done=True)
    prepare = prepare_controller if asked.victim == "controller" else prepare_keyd
    return respawn(prepare(killer, home))


def respawn(work: Callable[[], None], *, until_done: bool = False) -> int:
    """Fork a process for ``work`` and, whenever it was killed, another; for ever, or until one got through."""
    child = 0
    asked_to_stop = False

    def stop(*_: object) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    while not asked_to_stop:
        # Held back until it is known whom to pass it on to, or a process that has just begun would never be ended.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: never outlive the trial
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            code = 1
            try:
                work()
                code = 0
            except Exception:
                logging.exception("the process ended by itself")
            finally:
                os._exit(code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if asked_to_stop:  # between the question and the fork
            os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            return 0 if asked_to_stop or (until_done and status == 0) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
