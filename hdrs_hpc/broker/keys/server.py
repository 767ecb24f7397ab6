"""keyd's process: one request a connection over a 0600 UNIX socket, answered one after the other.

``python -m hdrs_hpc.broker.keys.server --home HOME``.  It holds one lock, so no two requests interleave.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import resource
import signal
import socket
import socketserver
import struct
import sys
import threading
import typing
from pathlib import Path
from typing import Any

from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.keys import messages
from hdrs_hpc.broker.keys.channel import MAX_MESSAGE_BYTES, receive, send
from hdrs_hpc.broker.keys.keyd import Keyd
from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import HdrsError, NotAllowedError
from hdrs_hpc.protocol import wire

REAP_EVERY_S = 30.0
ASKS: dict[str, type] = {cls.__name__: cls for cls in typing.get_args(messages.Ask)}


class StrangerError(NotAllowedError):
    code = "keyd-stranger"
    meaning = "keyd answers only processes of its own user."
    remedy = "Run the broker's processes under one account."


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.request.settimeout(60)
        try:
            _check_peer(self.request)
            reply = {"ok": self.server.answer(receive(self.request))}
        except HdrsError as error:
            reply = {"error": error.as_dict()}
        except (TimeoutError, ConnectionError):
            return
        with contextlib.suppress(OSError):
            send(self.request, strict_json.dumps(reply))


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path, keyd: Keyd) -> None:
        path.unlink(missing_ok=True)
        self.keyd = keyd
        self.lock = threading.Lock()
        old = os.umask(0o177)
        try:
            super().__init__(str(path), _Handler)
        finally:
            os.umask(old)

    def answer(self, raw: bytes) -> dict[str, Any]:
        value = strict_json.loads(raw, max_bytes=MAX_MESSAGE_BYTES)
        if not isinstance(value, dict) or value.keys() != {"ask", "args"} or value["ask"] not in ASKS:
            raise wire.MessageError("not a request that keyd knows")
        ask: messages.Ask = wire.from_value(ASKS[value["ask"]], value["args"])
        with self.lock:
            return self.keyd.answer(ask)

    def reap(self, stop: threading.Event) -> None:
        """Expiry does not wait for the broker: what is past its time dies here."""
        while not stop.wait(REAP_EVERY_S):
            with self.lock:
                self.keyd.destroy_expired()


def _check_peer(channel: socket.socket) -> None:
    raw = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", raw)
    if uid != os.getuid():
        raise StrangerError()


def serve(home: BrokerHome) -> None:
    """Run until SIGTERM.  A second keyd on the same home does not start."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    home.keyd_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = (home.keyd_dir / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel frees it with the process, however that ended
    server = _Server(home.keyd_socket, Keyd.open(home))
    stop = threading.Event()

    def leave(*_: object) -> None:
        stop.set()
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    threading.Thread(target=server.reap, args=(stop,), daemon=True).start()
    server.serve_forever(poll_interval=0.2)
    server.server_close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="hdrs-hpc keyd")
    parser.add_argument("--home", type=Path, required=True)
    serve(BrokerHome.at(parser.parse_args(sys.argv[1:]).home).require())
