"""Commands over an SSH connection that an ``ssh`` process keeps open: OpenSSH's PROTOCOL.mux, the client's side.

The process listens on a socket in a folder of ours.  Whoever opens a session there hands it three descriptors,
hears once the server has taken the command, and later its exit status.  So there is no process for each command,
the outputs hold nothing but what the command wrote, and 255 is an exit status like any other, where ``ssh HOST
COMMAND`` also says 255 when the connection broke.

Source: OpenSSH's PROTOCOL.mux, version 4 (since OpenSSH 5.4, 2010).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from hdrs_hpc.core.line import Line

VERSION = 4
_HELLO, _NEW_SESSION = 0x00000001, 0x10000002
_DENIED, _FAILURE, _EXIT, _OPENED, _NO_TERMINAL = 0x80000002, 0x80000003, 0x80000004, 0x80000006, 0x80000008
_MAX_MESSAGE_BYTES = 256 * 1024
_NO_ESCAPES = 0xFFFFFFFF


class MuxError(ConnectionError):
    """The process that keeps the connection answered something that makes no sense here."""


class SessionRefusedError(Exception):
    """No session was opened, so the command never started."""


class MuxSession:
    """One command.  ``streams``: descriptors of its input, output and errors, which may be closed once this is made.

    Raises SessionRefusedError when the command surely never started, and ConnectionError or TimeoutError when that
    is not known.
    """

    def __init__(self, control: Path, command: str, streams: Sequence[int], until: float) -> None:
        sock = socket.socket(socket.AF_UNIX)
        try:
            self._line = Line(sock)
            try:
                sock.connect(str(control))
                self._line.say_message(struct.pack(">II", _HELLO, VERSION))
                self._expect(_HELLO, until, VERSION)
            except OSError as error:
                raise SessionRefusedError(f"no connection is kept open ({type(error).__name__})") from None
            self._open(command, streams, until)
        except BaseException:
            sock.close()
            raise
        self._sock = sock

    def _open(self, command: str, streams: Sequence[int], until: float) -> None:
        # request, reserved, terminal, X11, agent, subsystem, escape character, terminal's type, command
        flags = struct.pack(">IIIII", 0, 0, 0, 0, _NO_ESCAPES)
        ask = struct.pack(">II", _NEW_SESSION, 0) + _string(b"") + flags + _string(b"")
        self._line.say_message(ask + _string(command.encode("utf-8", "surrogateescape")))
        for stream in streams:
            self._line.say(b"\0", handle=stream)
        kind, body = self._receive(until)
        if kind in (_DENIED, _FAILURE):
            raise SessionRefusedError("the server opened no session")
        if kind != _OPENED or len(body) != 8:
            raise MuxError("no answer to a new session")
        (_, self._session) = struct.unpack(">II", body)

    def exit_status(self, until: float) -> int | None:
        """Once it is there; None where the connection broke first, or the command was killed by a signal."""
        try:
            while True:
                kind, body = self._receive(until)
                if kind == _EXIT and len(body) == 8 and struct.unpack(">II", body)[0] == self._session:
                    return int(struct.unpack(">II", body)[1])
                if kind != _NO_TERMINAL:
                    raise MuxError("an end of a session that was not begun")
        except ConnectionError:
            return None

    def close(self) -> None:
        """Give the command up, unless it has ended: the server closes its input and outputs."""
        self._sock.close()

    def _expect(self, kind: int, until: float, value: int) -> None:
        found, body = self._receive(until)
        if found != kind or len(body) < 4 or struct.unpack(">I", body[:4])[0] != value:
            raise MuxError("another version of the protocol")

    def _receive(self, until: float) -> tuple[int, bytes]:
        message = self._line.receive_message(_MAX_MESSAGE_BYTES, until)
        if len(message) < 4:
            raise MuxError("a message without a kind")
        return int.from_bytes(message[:4]), message[4:]


def _string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value
