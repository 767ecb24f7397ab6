"""A TCP relay in front of sshd that a test can deafen or cut: the network's part in a lost answer."""

from __future__ import annotations

import contextlib
import socket
import threading


class SeveredLine:
    """Relays one port.  ``deafen_after`` and ``cut_after`` count bytes sent by the client."""

    def __init__(self, port: int, *, deafen_after: int | None = None, cut_after: int | None = None) -> None:
        self._target = port
        self._deafen_after = deafen_after
        self._cut_after = cut_after
        self._sent = 0
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def deaf(self) -> bool:
        return self._deafen_after is not None and self._sent > self._deafen_after

    def cut(self) -> None:
        """Both ends see the connection end at once, and no new one is let in."""
        self._end(self._listener)
        self.drop_all()

    def drop_all(self) -> None:
        """End the connections there are; new ones may come."""
        ends, self._sockets = self._sockets, []
        self._end(*ends)

    @staticmethod
    def _end(*ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [near, far]
            threading.Thread(target=self._up, args=(near, far), daemon=True).start()
            threading.Thread(target=self._down, args=(far, near), daemon=True).start()

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(16_384):
                self._sent += len(data)
                if self._cut_after is not None and self._sent > self._cut_after:
                    self.cut()
                    return
                far.sendall(data)

    def _down(self, far: socket.socket, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(16_384):
                if not self.deaf:
                    near.sendall(data)
