"""Waking the controller: whoever filed something rings, and it looks at once instead of at its next tick.

Nothing depends on it: a ring that is lost costs one tick.  It is a datagram socket in the broker's home; what is
sent on it says nothing, so whoever can reach it can cause a look and no more.
"""

from __future__ import annotations

import contextlib
import socket

from hdrs_hpc.broker.home import BrokerHome

_RING = b"1"


def ring(home: BrokerHome) -> None:
    """Wake the controller of this home, if one listens.  Never waits and never raises."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.setblocking(False)
        bell.sendto(_RING, str(home.wake_socket))


class Bell:
    """The controller's end.  One process of a home has it: the one that holds ``controller.lock``."""

    def __init__(self, home: BrokerHome) -> None:
        home.wake_socket.unlink(missing_ok=True)  # of a controller that was killed
        self._home, self._path = home, home.wake_socket
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))
        self._path.chmod(0o600)

    def ring(self) -> None:
        """From a thread or a signal's handler of this process."""
        ring(self._home)

    def wait(self, seconds: float) -> bool:
        """Wait until somebody rings, for at most so long; whether somebody did.  Many rings are one."""
        self._socket.settimeout(max(seconds, 0.001))
        try:
            self._socket.recv(16)
        except TimeoutError:
            return False
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(16)
        return True

    def close(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)
