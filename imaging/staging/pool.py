"""A pool of parser processes: a file that crashes or hangs one costs that file only."""

from __future__ import annotations

import contextlib
import json
import os
import queue
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Any, BinaryIO, Self

from hdrs_hpc.confined import table
from hdrs_hpc.confined.port import Provider
from imaging.staging import sandbox
from imaging.staging.parser_process import Answer, ParserProcess, ParserStartError
from imaging.staging.refusals import PARSER_FAILURES, Refused

__all__ = ["AHEAD", "ITEM_TIMEOUT_S", "Answer", "ParserPool", "ParserStartError", "as_descriptor"]

ITEM_TIMEOUT_S = 300.0
AHEAD = 16
"""Requests a parser may have before it has answered the first: few enough descriptors for its limit."""


class ParserPool:
    """``size`` parsers, lent to one caller at a time each; thread-safe.  Use as a context manager.

    Each in the strongest sandbox that works here, if ``provider`` names no other.
    """

    def __init__(
        self,
        size: int,
        *,
        timeout_s: float = ITEM_TIMEOUT_S,
        command: Sequence[str] = sandbox.COMMAND,
        provider: Provider | None = None,
    ) -> None:
        self.timeout_s = timeout_s
        self._confined = sandbox.parser(tuple(command))
        self._provider = provider
        self._starter = ThreadPoolExecutor(1, "parser-starter")
        self._idle: queue.SimpleQueue[ParserProcess | Future[ParserProcess] | None] = queue.SimpleQueue()
        self._size = size
        self._living: set[ParserProcess] = set()
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

        Raises :class:`Refused` with the parser's code, ``parser-crashed`` or ``parser-timeout``.  The time limit
        counts from answer to answer.  A parser that is lost proves nothing against the file: it is asked about once
        more, in a process that has read no other; what was answered already is not given again.
        """
        request = _request(operation, arguments)
        given = 0
        try:
            with contextlib.closing(self._asked(file, request)) as answers:
                for answer in answers:
                    given += 1
                    yield answer
            return
        except Refused as refused:
            if not _is_failure(refused):
                raise
        with contextlib.closing(self._asked(file, request, alone=True)) as answers:
            yield from islice(answers, given, None)

    def ask_alone(self, file: BinaryIO, operation: str, **arguments: Any) -> list[Answer] | Refused:
        """The one answer of a parser that has read no other file, asked once; or its refusal."""
        return self._alone(file, _request(operation, arguments))

    def ask_each(
        self, files: Sequence[BinaryIO], operation: str, **arguments: Any
    ) -> list[list[Answer] | Refused]:
        """The one answer about each of ``files``, or its refusal, in their order.

        They go to one parser, :data:`AHEAD` at most without waiting in between.  If that is lost, the file that it had
        not answered is asked about again, alone, so that only what a parser fails on by itself is blamed; the rest
        go to a new one.
        """
        request = _request(operation, arguments)
        outcomes: list[list[Answer] | Refused] = []
        while len(outcomes) < len(files):
            left = files[len(outcomes) : len(outcomes) + AHEAD]
            answered = self._until_lost(left, request)
            outcomes += answered
            if len(answered) < len(left):
                outcomes.append(self._alone(left[len(answered)], request))
        return outcomes

    def _until_lost(self, files: Sequence[BinaryIO], request: bytes) -> list[list[Answer] | Refused]:
        """Outcomes of one loan: of all files, or of those before the one on which its parser was lost."""
        outcomes: list[list[Answer] | Refused] = []
        with contextlib.suppress(Refused), self._lent() as parser:
            for file in files:
                file.seek(0)  # a parser that is gone shared the position
                parser.ask(request, file.fileno())
            for _ in files:
                outcome = _outcome(parser)
                if isinstance(outcome, Refused) and _is_failure(outcome):
                    raise outcome
                outcomes.append(outcome)
        return outcomes

    def _alone(self, file: BinaryIO, request: bytes) -> list[Answer] | Refused:
        try:
            return _only(self._asked(file, request, alone=True))
        except Refused as refused:
            return refused

    def _asked(self, file: BinaryIO, request: bytes, *, alone: bool = False) -> Generator[Answer]:
        with self._lent(alone=alone) as parser:
            file.seek(0)
            parser.ask(request, file.fileno())
            yield from parser.answers()

    @contextlib.contextmanager
    def _lent(self, *, alone: bool = False) -> Iterator[ParserProcess]:
        """A parser that is ready; it is ended if the block ends by anything but a refusal of its own.

        ``alone``: one that has read no file before.
        """
        given = self._idle.get()
        parser = None if isinstance(given, Future) else given
        healthy = False
        try:
            if self._closed:
                raise Refused("parser-crashed")
            if parser is None or alone or not parser.usable():
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
            healthy = not _is_failure(refused)
            raise
        finally:
            if parser is not None and not healthy:
                self._stop(parser)  # also when the caller stopped listening in the middle of an answer
                parser = None
            self._idle.put(parser)

    def _begin(self) -> Future[ParserProcess]:
        return self._starter.submit(self._start_one)

    def _start_one(self) -> ParserProcess:
        provider = self._provider or table.strongest("parsers")
        return ParserProcess(provider, self._confined, self.timeout_s)

    def _stop(self, parser: ParserProcess) -> None:
        parser.stop()
        self._living.discard(parser)


def _outcome(parser: ParserProcess) -> list[Answer] | Refused:
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


def _is_failure(refused: Refused) -> bool:
    return refused.code in PARSER_FAILURES


def _request(operation: str, arguments: dict[str, Any]) -> bytes:
    return json.dumps({"op": operation, **arguments}).encode()


def as_descriptor(data: bytes) -> BinaryIO:
    """Bytes in memory as a file with a descriptor, so that they can be handed to a parser."""
    handle = os.memfd_create("item", os.MFD_CLOEXEC)
    file = os.fdopen(handle, "r+b")
    file.write(data)
    file.flush()
    file.seek(0)
    return file
