"""A pool of parser processes: a file that crashes or hangs one costs that file only."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeGuard

from hdrs_hpc.core import die_with_parent, seccomp
from hdrs_hpc.core.errors import SiteError
from imaging.staging import sandbox, wire
from imaging.staging.refusals import Refused

ITEM_TIMEOUT_S = 300.0
_START_TIMEOUT_S = 180.0
_RECYCLE_AFTER = 5000
"""Requests after which a parser is replaced: bounds leaks in native decoders."""
_RECYCLE_AFTER_S = 1200.0
"""The same in time: well before the processor time that a parser may use (that limit would hit an innocent file)."""
AHEAD = 16
"""Requests a parser may have before it has answered the first: few enough descriptors for its limit, and little
enough text for a socket's buffer, so that neither side waits for the other for ever."""

Answer = tuple[bytes, bytearray]
"""JSON text and bytes."""


class ParserStartError(SiteError):
    code = "parser-does-not-start"
    meaning = "The process that parses untrusted files could not be started."
    remedy = "Check that the environment is complete (`hdrs-hpc imaging --help` works) and memory is free."


class ParserPool:
    """``size`` parsers, lent to one caller at a time each; thread-safe.  Use as a context manager."""

    def __init__(
        self,
        size: int,
        *,
        timeout_s: float = ITEM_TIMEOUT_S,
        argv: Sequence[str] | None = None,
    ) -> None:
        self.timeout_s = timeout_s
        self._argv = list(argv) if argv is not None else sandbox.parser_argv()
        self._starter = ThreadPoolExecutor(1, "parser-starter")
        self._idle: queue.SimpleQueue[_Parser | Future[_Parser] | None] = queue.SimpleQueue()
        self._size = size
        self._living: set[_Parser] = set()
        self._closed = False
        for _ in range(size):
            self._idle.put(None)  # started on first use

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: TracebackType | type | BaseException | None) -> None:
        """Ends the parsers, at once if by an error: who still listens to one hears ``parser-crashed``."""
        if self._closed:
            return
        self._closed = True
        if error[0] is not None:
            for parser in list(self._living):
                parser.kill()
        for _ in range(self._size):
            # Callers that still hold a parser return it within the item's time limit.
            with contextlib.suppress(queue.Empty):
                parser_or_none = self._idle.get(timeout=self.timeout_s)
                if isinstance(parser_or_none, Future):
                    parser_or_none = parser_or_none.result()
                if parser_or_none is not None:
                    self._stop(parser_or_none)
        for _ in range(self._size):
            self._idle.put(None)  # wakes who still waits for one; it is told that there is none
        self._starter.shutdown()

    def start(self) -> None:
        """Start those that were not yet, without waiting: what else there is to do first goes on beside them."""
        for _ in range(self._size):
            with contextlib.suppress(queue.Empty):
                parser = self._idle.get_nowait()
                self._idle.put(self._begin() if parser is None else parser)

    def ask(self, file: BinaryIO, operation: str, **arguments: Any) -> Generator[Answer]:
        """Stream a parser's answers about ``file`` (a real descriptor).

        Raises :class:`Refused` with the parser's code, ``parser-crashed`` or ``parser-timeout``.  The time
        limit counts from answer to answer.
        """
        request = json.dumps({"op": operation, **arguments}).encode()
        with self._lent() as parser:
            parser.send(request, file.fileno())
            yield from parser.answers()

    def ask_each(
        self, files: Sequence[BinaryIO], operation: str, **arguments: Any
    ) -> list[list[Answer] | Refused]:
        """The one answer about each of at most :data:`AHEAD` files, or its refusal, in their order.

        They go to one parser without waiting in between.  If it dies, the file that it had not answered is asked
        about again alone, so that only what kills a parser by itself is blamed; the rest go to a new one.
        """
        request = json.dumps({"op": operation, **arguments}).encode()
        outcomes: list[list[Answer] | Refused] = []
        while len(outcomes) < len(files):
            left = files[len(outcomes) : len(outcomes) + AHEAD]
            answered, lost = self._until_lost(left, request)
            outcomes += answered
            if lost is not None:
                file = left[len(answered)]
                alone = len(left) > 1 and lost.code == "parser-crashed"
                outcomes.append(self._alone(file, operation, arguments) if alone else lost)
        return outcomes

    def _until_lost(
        self, files: Sequence[BinaryIO], request: bytes
    ) -> tuple[list[list[Answer] | Refused], Refused | None]:
        """Outcomes of one loan, and how it lost its parser, if it did."""
        outcomes: list[list[Answer] | Refused] = []
        try:
            with self._lent() as parser:
                for file in files:
                    file.seek(0)  # a parser that is gone shared the position
                    if not parser.send(request, file.fileno()):
                        break  # it died on one of the files before: which, its answers tell
                for _ in files:
                    outcome = _outcome(parser)
                    if _parser_lost(outcome):
                        raise outcome
                    outcomes.append(outcome)
        except Refused as lost:
            return outcomes, lost
        return outcomes, None

    def _alone(self, file: BinaryIO, operation: str, arguments: dict[str, Any]) -> list[Answer] | Refused:
        file.seek(0)
        try:
            return _only(self.ask(file, operation, **arguments))
        except Refused as refused:
            return refused

    @contextlib.contextmanager
    def _lent(self) -> Iterator[_Parser]:
        """A parser that is ready; it is ended if the block ends by anything but a refusal of its own."""
        given = self._idle.get()
        parser = None if isinstance(given, Future) else given
        healthy = False
        try:
            if self._closed:
                raise Refused("parser-crashed")
            if parser is None or not parser.usable():
                if parser is not None:
                    self._stop(parser)
                    parser = None
                parser = (given if isinstance(given, Future) else self._begin()).result()
                self._living.add(parser)
                if self._closed:  # too late to be killed with the others
                    raise Refused("parser-crashed")
                parser.wait_until_ready()
            yield parser
            healthy = True
        except Refused as refused:
            healthy = not _parser_lost(refused)
            raise
        finally:
            if parser is not None and not healthy:
                self._stop(parser)  # also when the caller stopped listening in the middle of an answer
                parser = None
            self._idle.put(parser)

    def _begin(self) -> Future[_Parser]:
        return self._starter.submit(_Parser, self._argv, self.timeout_s)

    def _stop(self, parser: _Parser) -> None:
        parser.stop()
        self._living.discard(parser)


def _outcome(parser: _Parser) -> list[Answer] | Refused:
    try:
        return _only(parser.answers())
    except Refused as refused:
        return refused


def _only(answers: Generator[Answer]) -> list[Answer]:
    """At most one: kept until the end, answers without one would fill the memory."""
    found: list[Answer] = []
    # Closed here: the refusal's traceback keeps the generator alive, which would keep its parser.
    with contextlib.closing(answers):
        for answer in answers:
            if found:
                raise Refused("parser-crashed")
            found.append(answer)
    return found


def _parser_lost(outcome: list[Answer] | Refused) -> TypeGuard[Refused]:
    return isinstance(outcome, Refused) and outcome.code in ("parser-crashed", "parser-timeout")


class _Parser:
    def __init__(self, argv: list[str], timeout_s: float) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs, seccomp.filtered(argv) as (command, given):
            self._process = subprocess.Popen(
                die_with_parent.guarded(command, namespace=True),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=sandbox.parser_environment(),
                cwd="/",
                pass_fds=given,
            )
        self._sock = ours
        self._served = 0
        self._until = time.monotonic() + _RECYCLE_AFTER_S
        self._timeout_s = timeout_s

    def wait_until_ready(self) -> None:
        """Raises :class:`ParserStartError`; not part of starting, so that parsers start side by side."""
        self._sock.settimeout(_START_TIMEOUT_S)
        try:
            wire.receive_header(self._sock)
        except (OSError, wire.WireError):
            raise ParserStartError() from None
        self._sock.settimeout(self._timeout_s)

    def usable(self) -> bool:
        fresh = self._served < _RECYCLE_AFTER and time.monotonic() < self._until
        return fresh and self._process.poll() is None

    def send(self, request: bytes, handle: int) -> bool:
        """Ask; False if the parser is gone, which :meth:`answers` then says as a refusal."""
        self._served += 1
        self._sock.settimeout(self._timeout_s)
        try:
            wire.send(self._sock, request, handle=handle)
        except OSError:
            return False
        return True

    def answers(self) -> Generator[Answer]:
        """The answers to the oldest request; raises :class:`Refused`."""
        try:
            while True:
                until = time.monotonic() + self._timeout_s
                header, length = wire.receive_header(self._sock, until)
                blob = bytearray(length)
                if length:
                    wire.receive_into(self._sock, memoryview(blob), until)
                end = _ending(header)
                if end is None:
                    yield header, blob
                elif end == "":
                    return
                else:
                    raise Refused(end)
        except TimeoutError:
            raise Refused("parser-timeout") from None
        except (OSError, wire.WireError):
            raise Refused("parser-crashed") from None

    def kill(self) -> None:
        """End the process; whoever listens hears that it is gone."""
        self._process.terminate()

    def stop(self) -> None:
        """End the process and forget it."""
        self._sock.close()
        self._process.terminate()
        self._process.wait()


def _ending(header: bytes) -> str | None:
    """None for an answer that goes on, "" at its good end, else the reason code."""
    if len(header) > 200:
        return None
    try:
        message = json.loads(header)
    except ValueError:
        raise wire.WireError("an answer that is not JSON") from None
    if not isinstance(message, dict):
        raise wire.WireError("an answer that is not a mapping")
    if message.get("end") is True:
        return ""
    refused = message.get("refused")
    return refused if isinstance(refused, str) else None


def as_descriptor(data: bytes) -> BinaryIO:
    """Bytes in memory as a file with a descriptor, so that they can be handed to a parser."""
    handle = os.memfd_create("item", os.MFD_CLOEXEC)
    file = os.fdopen(handle, "r+b")
    file.write(data)
    file.flush()
    file.seek(0)
    return file
