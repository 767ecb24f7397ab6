"""What a session believes of an SFTP server, and how it speaks to one that is not OpenSSH."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hdrs_hpc.core.errors import SiteError
from hdrs_hpc.sealing.objects import sftp_wire as wire
from hdrs_hpc.sealing.objects.sftp import SftpPool, SftpStore
from hdrs_hpc.sealing.objects.sftp_session import SftpLostError, SftpSession
from tests.support import narrow

INIT, OPEN, CLOSE, READ, WRITE, RENAME, EXTENDED = 1, 3, 4, 5, 6, 18, 200
VERSION, STATUS, HANDLE, DATA = 2, 101, 102, 103
LIMITS = b"limits@openssh.com"

Reply = Callable[[int, int, bytes], list[bytes]]
"""(kind, number, body) of a request → whole messages to answer with."""


def message(kind: int, number: int, body: bytes = b"") -> bytes:
    return struct.pack(">IBI", 5 + len(body), kind, number) + body


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def status(number: int, code: int) -> bytes:
    return message(STATUS, number, struct.pack(">I", code) + text(b"") + text(b""))


def exactly(line: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = line.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def serve(line: socket.socket, reply: Reply) -> None:
    try:
        while True:
            (length,) = struct.unpack(">I", exactly(line, 4))
            request = exactly(line, length)
            kind, number = struct.unpack(">BI", request[:5])
            line.sendall(b"".join(reply(kind, number, request[5:])))
    except (EOFError, OSError):
        line.close()


@contextmanager
def session_with(reply: Reply, timeout_s: float = 20, hello: bytes | None = None) -> Iterator[SftpSession]:
    """A session with a made-up server; ``hello`` is its answer to INIT."""
    ours, theirs = socket.socketpair()

    def answer(kind: int, number: int, body: bytes) -> list[bytes]:
        if kind == INIT:
            return [message(VERSION, 3) if hello is None else hello]
        return reply(kind, number, body)

    threading.Thread(target=serve, args=(theirs, answer), daemon=True).start()
    session = SftpSession(ours, timeout_s, lambda: None)
    yield session
    session.close()


def silent(kind: int, number: int, body: bytes) -> list[bytes]:
    return []


@pytest.mark.parametrize(
    "hello",
    [
        b"Welcome to the cluster, please read the news\n" * 3,
        message(VERSION, 6),
        message(STATUS, 3, struct.pack(">I", 4)),
        message(VERSION, 3, text(LIMITS) + struct.pack(">I", 400) + b"short"),
        struct.pack(">I", 2**31) + b"x" * 20,
        struct.pack(">I", 2) + b"x" * 20,
    ],
    ids=["a banner", "another version", "a refusal", "a field beyond its end", "too long", "too short"],
)
def test_what_is_no_sftp_server_is_not_spoken_to(hello: bytes) -> None:
    with pytest.raises(OSError), session_with(silent, hello=hello):
        pass


@pytest.mark.parametrize(
    "answer",
    [
        lambda number: [status(number + 1, 0)],
        lambda number: [message(DATA, number, text(b"more than was asked for" * 9))],
        lambda number: [message(DATA, number, struct.pack(">I", 9) + b"less")],
        lambda number: [message(DATA, number, text(b""))],
        lambda number: [message(HANDLE, number, text(b"h"))],
    ],
    ids=["to nothing", "too much", "another length", "no data", "another kind"],
)
def test_an_answer_that_does_not_fit_is_an_error(answer: Callable[[int], list[bytes]]) -> None:
    target = bytearray(64)
    with session_with(lambda kind, number, body: answer(number)) as session, pytest.raises(ConnectionError):
        session.read_into(b"h", 0, memoryview(target))
    assert bytes(target[23:]) == bytes(41)


def test_an_answer_that_never_comes_ends_the_connection_for_all() -> None:
    with session_with(silent, timeout_s=0.3) as session:
        first = session.ask(wire.remove("/a"))
        with pytest.raises(TimeoutError):
            session.wait(session.ask(wire.remove("/b")))
        assert not session.alive
        with pytest.raises(SftpLostError):
            session.succeed(first)
        with pytest.raises(SftpLostError):
            session.ask(wire.remove("/c"))


def test_a_slow_server_that_still_answers_others_is_waited_for() -> None:
    late: list[int] = []

    def reply(kind: int, number: int, body: bytes) -> list[bytes]:
        if body.endswith(b"late"):
            late.append(number)
            return []
        return [status(number, 0)] + ([status(late.pop(), 0)] if body.endswith(b"last") else [])

    with session_with(reply, timeout_s=1.0) as session:
        slow = session.ask(wire.remove("/late"))
        done = threading.Event()
        waiting = threading.Thread(target=lambda: (session.succeed(slow), done.set()))
        waiting.start()
        for _ in range(8):
            time.sleep(0.2)
            session.succeed(session.ask(wire.remove("/other")))
        assert not done.is_set()
        session.succeed(session.ask(wire.remove("/last")))
        waiting.join(20)
        assert done.is_set()


def test_an_answer_byte_by_byte_is_waited_for_four_times_the_limit_and_no_longer() -> None:
    def trickle(line: socket.socket) -> None:
        with contextlib.suppress(OSError):
            exactly(line, int.from_bytes(exactly(line, 4)))
            line.sendall(message(VERSION, 3))
            request = exactly(line, int.from_bytes(exactly(line, 4)))
            for byte in message(STATUS, int.from_bytes(request[1:5]), bytes(200)):
                time.sleep(0.1)
                line.sendall(bytes([byte]))

    ours, theirs = socket.socketpair()
    with ours, theirs:
        threading.Thread(target=trickle, args=(theirs,), daemon=True).start()
        session = SftpSession(ours, 0.5, lambda: None)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            session.wait(session.ask(wire.remove("/a")))
        assert 1.9 < time.monotonic() - began < 10
        assert not session.alive


def test_short_reads_are_completed_and_the_end_is_told() -> None:
    content = bytes(range(250)) * 400

    def reply(kind: int, number: int, body: bytes) -> list[bytes]:
        offset, length = struct.unpack(">QI", body[-12:])
        part = content[offset : offset + min(length, 777)]
        return [message(DATA, number, text(part)) if part else status(number, 1)]

    with session_with(reply) as session:
        target = bytearray(70_000)
        assert session.read_into(b"h", 3, memoryview(target)) == 70_000
        assert target == content[3:70_003]
        assert session.read_into(b"h", 99_000, memoryview(target)) == 1_000
        assert target[:1_000] == content[99_000:]


def test_a_read_that_ends_in_its_middle_is_not_taken_for_whole() -> None:
    """The later request is answered, the earlier one met the end: the file grew in between."""

    def reply(kind: int, number: int, body: bytes) -> list[bytes]:
        offset, length = struct.unpack(">QI", body[-12:])
        return [message(DATA, number, text(bytes(length))) if offset else status(number, 1)]

    with session_with(reply) as session:
        assert session.read_into(b"h", 0, memoryview(bytearray(100_000))) == 0


@pytest.mark.parametrize(
    ("limit", "largest"), [(None, 32 * 1024), (50_000, 50_000), (0, 32 * 1024), (1 << 30, 255 * 1024)]
)
def test_requests_are_no_larger_than_the_server_takes(limit: int | None, largest: int) -> None:
    extension = b"" if limit is None else text(LIMITS) + text(b"1")
    written: list[int] = []

    def reply(kind: int, number: int, body: bytes) -> list[bytes]:
        if kind == EXTENDED:
            return [message(201, number, struct.pack(">QQQQ", 1 << 18, limit or 0, limit or 0, 9))]
        if kind == OPEN:
            return [message(HANDLE, number, text(b"h"))]
        if kind == WRITE:
            written.append(len(body) - len(text(b"h")) - 12)
        return [status(number, 0)]

    with session_with(reply, hello=message(VERSION, 3, extension)) as session:
        SftpStore(SftpPool(lambda: session), "/r").put("a", [bytes(70_000)] * 8)
    assert (max(written), sum(written)) == (largest, 560_000)


@pytest.mark.parametrize("refused", [WRITE, CLOSE, RENAME])
def test_a_put_that_the_server_refused_anywhere_is_an_error(refused: int) -> None:
    asked: list[tuple[int, bytes]] = []

    def reply(kind: int, number: int, body: bytes) -> list[bytes]:
        asked.append((kind, body))
        if kind == OPEN:
            return [message(HANDLE, number, text(b"h"))]
        return [status(number, 2 if kind == 7 else 4 if kind == refused else 0)]

    with session_with(reply) as session:
        with pytest.raises(SiteError) as raised:
            SftpStore(SftpPool(lambda: session), "/r").put("a", b"x")
        assert getattr(raised.value, "code", None) == (
            "object-transfer" if refused == RENAME else "scratch-full"
        )
        session.succeed(session.ask(wire.remove("/fence")))
    kinds = [kind for kind, _ in asked]
    assert (RENAME in kinds) == (refused == RENAME), "nothing gets a name that was not written whole"
    assert any(kind == 13 and b"/r/.partial-a" in body for kind, body in asked)


@pytest.mark.parametrize(("kind", "size"), [("smallest buffers", 600_000), ("single bytes", 20_000)])
def test_objects_go_both_ways_where_nothing_fits_into_the_line(kind: str, size: int) -> None:
    """Many requests are under way at once, and the server reads none while it answers one."""
    kept: dict[int, bytes] = {}
    content = random.Random(1).randbytes(size)

    def reply(kind: int, number: int, body: bytes) -> list[bytes]:
        if kind == OPEN:
            return [message(HANDLE, number, text(b"h"))]
        if kind == WRITE:
            at = struct.unpack(">Q", body[5:13])[0]
            kept[at] = body[17:]
        if kind == READ:
            offset, length = struct.unpack(">QI", body[-12:])
            part = content[offset : offset + length]
            return [message(DATA, number, text(part)) if part else status(number, 1)]
        return [status(number, 0)]

    with narrow.sockets(narrow.KINDS[kind]), session_with(reply) as session:
        into = [bytearray(size) for _ in range(2)]
        reads = [
            threading.Thread(target=session.read_into, args=(b"h", 0, memoryview(target))) for target in into
        ]
        for thread in reads:
            thread.start()
        SftpStore(SftpPool(lambda: session), "/r").put("a", content)
        for thread in reads:
            thread.join(60)
        assert session.alive
    assert b"".join(part for _, part in sorted(kept.items())) == content
    assert into == [content, content]


def test_answers_may_come_in_any_order() -> None:
    held: list[int] = []

    def reply(kind: int, number: int, body: bytes) -> list[bytes]:
        held.append(number)
        if len(held) < 3:
            return []
        return [status(held[2], 2), status(held[0], 0), status(held[1], 3)]

    with session_with(reply) as session:
        first, second, third = session.ask_all(*(wire.remove(f"/{n}") for n in range(3)))
        session.succeed(first)
        with pytest.raises(PermissionError):
            session.succeed(second)
        with pytest.raises(FileNotFoundError):
            session.succeed(third)
