"""Two ends that speak at once, over buffers in which next to nothing fits."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from hdrs_hpc.core.line import Line, LineEndedError, MessageTooLongError
from tests.support import narrow

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=narrow.KINDS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with narrow.sockets(narrow.KINDS[request.param]):
        ends = socket.socketpair()
        yield ends
        for end in ends:
            end.close()


def soon() -> float:
    return time.monotonic() + 30


def test_the_kernel_holds_next_to_nothing_in_these_tests(pair: Pair) -> None:
    pair[0].setblocking(False)
    taken = 0
    with pytest.raises(BlockingIOError):
        while True:
            taken += pair[0].send(b"x" * 512)
    assert taken < 10_000


def test_both_ends_may_say_much_before_either_listens(pair: Pair) -> None:
    size = 50_000
    heard: dict[str, bytes] = {}

    def talk(name: str, end: socket.socket) -> None:
        line = Line(end)
        line.say(name.encode() * size)
        heard[name] = line.receive(size, soon())
        line.flush(soon())

    threads = [threading.Thread(target=talk, args=(name, end)) for name, end in zip("ab", pair, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert heard == {"a": b"b" * size, "b": b"a" * size}


def test_a_descriptor_arrives_with_the_first_byte_of_its_message_and_no_other(pair: Pair) -> None:
    first, second = os.memfd_create("1"), os.memfd_create("2")
    os.write(first, b"first")
    os.write(second, b"second")
    line = Line(pair[0])
    line.say(b"x" * 3000, handle=first)
    line.say(b"y" * 3000, handle=second)
    found: list[tuple[int, bytes]] = []

    def read() -> None:
        at = 0
        while at < 6000:
            data, fds, _, _ = socket.recv_fds(pair[1], 1000, 4)
            found.extend((at, os.pread(fd, 10, 0)) for fd in fds)
            at += len(data)

    reader = threading.Thread(target=read)
    reader.start()
    line.flush(soon())
    reader.join(30)
    assert found == [(0, b"first"), (3000, b"second")]


def test_an_answer_that_comes_before_the_question_is_read_is_heard(pair: Pair) -> None:
    def refuse() -> None:
        other = Line(pair[1])
        other.receive(10, soon())
        other.say(b"too long")
        other.flush(soon())
        pair[1].close()

    refusing = threading.Thread(target=refuse)
    refusing.start()
    line = Line(pair[0])
    line.say(b"?" * 1_000_000)
    assert line.receive(8, soon()) == b"too long"
    with pytest.raises((LineEndedError, ConnectionResetError)):
        line.receive(1, soon())
    refusing.join(10)


def test_bytes_that_trickle_in_do_not_lengthen_the_time(pair: Pair) -> None:
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.05):
            pair[1].send(b".")

    trickling = threading.Thread(target=trickle)
    trickling.start()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        Line(pair[0]).receive(1000, began + 0.5)
    assert 0.4 < time.monotonic() - began < 5
    stop.set()
    trickling.join()


def test_an_end_that_takes_nothing_is_not_waited_for_longer_than_said(pair: Pair) -> None:
    line = Line(pair[0])
    line.say(b"x" * 1_000_000)
    with pytest.raises(TimeoutError):
        line.flush(time.monotonic() + 0.3)
    assert line.unsent_bytes > 900_000


@pytest.mark.parametrize(
    ("said", "ends", "heard"),
    [
        (b"one\n", False, b"one\n"),
        (b"no end", True, b"no end"),
        (b"", True, b""),
        (b"x" * 90, False, b"x" * 64),
    ],
)
def test_a_line_ends_at_its_end_at_the_end_of_speech_or_at_the_bound(
    pair: Pair, said: bytes, ends: bool, heard: bytes
) -> None:
    speaker = Line(pair[0])
    speaker.say(said)
    if ends:
        speaker.say_no_more()
    speaking = threading.Thread(target=lambda: speaker.flush(soon()))
    speaking.start()
    assert Line(pair[1]).receive_line(64, soon()) == heard
    pair[1].close()  # whoever still speaks is not heard
    speaking.join(10)


def test_messages_keep_their_bounds_however_they_travel(pair: Pair) -> None:
    said = [b"", b"a", b"\0\0\0\1", b"x" * 30_000]
    lines = [Line(end) for end in pair]
    for message in said:
        lines[0].say_message(message)
    lines[0].say_message(b"in ", b"parts")
    sender = threading.Thread(target=lines[0].flush, args=(soon(),))
    sender.start()
    assert [lines[1].receive_message(30_000, soon()) for _ in said] == said
    assert lines[1].receive_message(30_000, soon()) == b"in parts"
    sender.join(30)


def test_nothing_of_a_message_that_is_too_long_is_read(pair: Pair) -> None:
    line = Line(pair[1])
    _say(pair[0], (1001).to_bytes(4) + b"x" * 10)
    with pytest.raises(MessageTooLongError):
        line.receive_message(1000, soon())
    assert line.receive(10, soon()) == b"x" * 10


def test_a_message_that_ends_early_is_none(pair: Pair) -> None:
    _say(pair[0], (1000).to_bytes(4) + b"x" * 10)
    with pytest.raises(LineEndedError):
        Line(pair[1]).receive_message(1000, soon())


def _say(end: socket.socket, raw: bytes) -> None:
    """All of it, and then no more, while the other end is listened to."""

    def say() -> None:
        line = Line(end)
        line.say(raw)
        line.flush(soon())
        line.say_no_more()

    threading.Thread(target=say).start()
