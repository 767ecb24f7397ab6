"""keyd's process: one request a connection over a 0600 UNIX socket, answered one after the other.

``python -m hdrs_hpc.broker.keyd.server --home HOME``.  It holds one lock, so no two requests interleave.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import logging
import os
import resource
import signal
import socket
import socketserver
import sqlite3
import struct
import sys
import threading
import time
import typing
from pathlib import Path
from typing import Any

from hdrs_hpc.broker.heartbeats import Pulse
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.keyd.channel import receive, send
from hdrs_hpc.broker.keyd.keyd import Keyd
from hdrs_hpc.broker.keyd.messages import ASKS
from hdrs_hpc.core import wire
from hdrs_hpc.core.errors import HdrsError, InternalError, NotAllowedError, SiteError
from hdrs_hpc.core.line import Line

REAP_EVERY_S = 30.0
BEAT_EVERY_S = 5.0
STALE_AFTER_S = 60.0
"""Longer than any request takes; a silence of more is a keyd that hangs or is stopped."""
REQUEST_TIMEOUT_S = 60.0
_PR_SET_DUMPABLE = 4  # linux/prctl.h

logger = logging.getLogger("hdrs_hpc.keyd")


class StrangerError(NotAllowedError):
    code = "keyd-stranger"
    meaning = "keyd answers only processes of its own user."
    remedy = "Run the broker's processes under one account."


class KeystoreTroubleError(SiteError):
    code = "keystore-trouble"
    meaning = "keyd could not read or write its keystore; nothing was changed."
    remedy = "Look at the disk that holds the broker's folder `keyd`: space, permissions, hardware."


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        line = Line(self.request)
        try:
            _check_peer(self.request)
            reply = {"ok": self.server.answer(receive(line, time.monotonic() + REQUEST_TIMEOUT_S))}
        except HdrsError as error:
            reply = {"error": error.as_dict()}
        except (TimeoutError, ConnectionError):
            return
        _reply(line, reply)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path, keyd: Keyd) -> None:
        path.unlink(missing_ok=True)
        self.keyd = keyd
        self.lock = threading.Lock()
        super().__init__(str(path), _Handler)
        path.chmod(0o600)

    def answer(self, said: dict[str, Any]) -> dict[str, Any]:
        if said.keys() != {"ask", "args"} or not isinstance(said["ask"], str) or said["ask"] not in ASKS:
            raise wire.MessageError("not a request that keyd knows")
        ask = wire.from_value(ASKS[said["ask"]], said["args"])
        with self.lock, _keystore_trouble():
            return wire.to_value(self.keyd.answer(ask))

    def reap(self, stop: threading.Event) -> None:
        """Expiry does not wait for the broker: what is past its time dies here."""
        while not stop.wait(REAP_EVERY_S):
            try:
                with self.lock, _keystore_trouble():
                    self.keyd.destroy_expired()
            except HdrsError as error:
                logger.error("keys past their time could not be destroyed yet: %s", error.code)

    def beat(self, pulse: Pulse, stop: threading.Event) -> None:
        """Say that requests are answered: one that hangs holds the lock, and a stopped process says nothing."""
        while True:
            with self.lock, contextlib.suppress(OSError):  # a full disk takes no heartbeat
                pulse.beat()
            if stop.wait(BEAT_EVERY_S):
                return

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Our own bug: its kind and place help to find it, its text might hold anything."""
        error, trace = sys.exc_info()[1], sys.exc_info()[2]
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"
        logger.critical("%s at %s", type(error).__name__, place)
        _reply(Line(request), {"error": InternalError(where="keyd").as_dict()})


def _reply(line: Line, reply: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # who asked is gone, or does not listen
        send(line, reply)
        line.flush(time.monotonic() + REQUEST_TIMEOUT_S)


@contextlib.contextmanager
def _keystore_trouble() -> typing.Iterator[None]:
    """The medium's failures as an error that asks for another try; the keystore undid what was begun."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        logger.error("keystore: %s", type(error).__name__)
        raise KeystoreTroubleError(type(error).__name__) from None


def _check_peer(channel: socket.socket) -> None:
    raw = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", raw)
    if uid != os.getuid():
        raise StrangerError()


def _harden() -> None:
    """No core files, no ptrace, no /proc/PID/mem for other processes of this account (root still may)."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A piped core_pattern ignores the limit; a process that is not dumpable leaves nothing there either.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def serve(home: BrokerHome) -> None:
    """Run until SIGTERM.  A second keyd on the same home waits for the first one's end."""
    _harden()
    home.keyd_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = (home.keyd_dir / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel frees it with the process, however that ended
    keyd = Keyd.open(home)
    keyd.destroy_expired()  # before anybody may ask
    server = _Server(home.keyd_socket, keyd)
    stop = threading.Event()

    def leave(*_: object) -> None:
        stop.set()
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    threading.Thread(target=server.reap, args=(stop,), daemon=True).start()
    pulse = Pulse.of_keyd(home, STALE_AFTER_S)
    threading.Thread(target=server.beat, args=(pulse, stop), daemon=True).start()
    server.serve_forever(poll_interval=0.2)
    server.server_close()
    with server.lock:
        keyd.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="hdrs-hpc keyd")
    parser.add_argument("--home", type=Path, required=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    serve(BrokerHome.at(parser.parse_args(sys.argv[1:]).home).require())
