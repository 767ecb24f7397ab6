"""A relay in front of a real peer that a contract test can cut, slow down or shut: the network's part."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class CutLine:
    """Relays one port of this machine on ``port``; counts what the peer sends."""

    def __init__(self, peer_port: int) -> None:
        self._peer_port = peer_port
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._cuts_due: list[int] = []
        self._since_cut = 0
        self.brought_bytes = 0
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: TracebackType | type | BaseException | None) -> None:
        self.shut()

    @property
    def cuts_due(self) -> int:
        """Cuts that did not happen yet."""
        return len(self._cuts_due)

    def cut_after(self, *sent_bytes: int) -> None:
        """Cut all connections when the peer sent so much, counted from here and from each cut on."""
        with self._lock:
            self._cuts_due = list(sent_bytes)
            self._since_cut = 0

    def shut(self) -> None:
        """End everything and let nobody in again."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_all()

    def drop_all(self) -> None:
        """End the connections there are; new ones may come."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._peer_port))
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._ends += [near, far]
            threading.Thread(target=self._relay, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._relay, args=(far, near, True), daemon=True).start()

    def _relay(self, giver: socket.socket, taker: socket.socket, from_peer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := giver.recv(65_536):
                taker.sendall(data)
                if from_peer and self._cut_is_due(len(data)):
                    self.drop_all()
                    return
        for end in (giver, taker):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _cut_is_due(self, count: int) -> bool:
        with self._lock:
            self.brought_bytes += count
            self._since_cut += count
            if not self._cuts_due or self._since_cut < self._cuts_due[0]:
                return False
            self._cuts_due.pop(0)
            self._since_cut = 0
            return True
