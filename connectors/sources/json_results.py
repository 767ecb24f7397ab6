"""The objects of a JSON array, one after the other, while it arrives: never the array as a whole.

What an archive answers to a search is as little trusted as its files.  Python makes some 50 bytes of each byte of
``[{},{},…]``, so an answer is cut into its results, and counted, before anything is made of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from connectors.sources import SourceRefusedError

MAX_ANSWER_BYTES = 64 << 20
MAX_RESULTS = 100_000
"""In one answer, of a service that gives everything whatever page it is asked for."""
MAX_RESULT_BYTES = 256 << 10
MAX_DEPTH = 32
_BLANK = b" \t\r\n"
_NO_BLANK = re.compile(rb"[^ \t\r\n]")
_OBJECT = ord("{")
_AFTER = {ord("["): b"{]", ord(","): b"{", ord("]"): b""}
"""Sign → those of which one has to come next; after an object it is ``,`` or ``]``."""
_MARK = re.compile(rb'["\[\]{}]')
_IN_TEXT = re.compile(rb'["\\]')
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def results(blocks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Each object of the array in its order (RFC 8259).

    Raises :class:`SourceRefusedError` for anything but an array of objects, and at the limits above; what came before
    has been given by then.
    """
    cutter = _Cutter()
    taken = count = 0
    for block in blocks:
        taken += len(block)
        if taken > MAX_ANSWER_BYTES:
            raise SourceRefusedError("a page of search results of excessive size")
        for raw in cutter.cut(block):
            count += 1
            if count > MAX_RESULTS:
                raise SourceRefusedError(f"a page of more than {MAX_RESULTS} search results")
            yield _parsed(raw)
    cutter.end()


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise SourceRefusedError("search results that are not JSON") from None
    assert isinstance(value, dict)  # it begins as one, and is whole
    return value


class _Cutter:
    """Finds where each object begins and ends by its brackets and quotes; whether it is JSON inside is not asked."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._expected = b"["
        """Signs of which one has to come next, outside of objects; none behind the array."""
        self._depth = 0
        self._in_text = False
        self._at = 0
        """How far the object that is being read has been looked through."""

    def cut(self, block: bytes) -> Iterator[bytes]:
        """The objects that end in this block."""
        self._buffer += block
        start = 0
        while True:
            if self._depth == 0:
                start = self._between(start)
                if self._depth == 0:
                    break
            end = self._object_end(start)
            if end is None:
                break
            yield bytes(self._buffer[start:end])
            start, self._expected = end, b",]"
        del self._buffer[:start]
        self._at = max(0, self._at - start)

    def end(self) -> None:
        """Raises :class:`SourceRefusedError` if the array is not over."""
        if self._expected or self._depth or self._buffer.strip(_BLANK):
            raise SourceRefusedError("search results that are not JSON, or not all of it")

    def _between(self, at: int) -> int:
        """Past what stands between objects; where the next begins, depth is 1."""
        buffer = self._buffer
        if self._expected == b"[" and buffer[:1] == _BYTE_ORDER_MARK[:1]:
            if len(buffer) < len(_BYTE_ORDER_MARK):
                return at
            at = len(_BYTE_ORDER_MARK) if buffer.startswith(_BYTE_ORDER_MARK) else at
        while found := _NO_BLANK.search(buffer, at):
            at = found.start()
            sign = buffer[at]
            if sign not in self._expected:
                raise SourceRefusedError("search results that are not a list of objects")
            if sign == _OBJECT:
                self._depth, self._at = 1, at + 1
                return at
            at += 1
            self._expected = _AFTER[sign]
        return len(buffer)

    def _object_end(self, start: int) -> int | None:
        """The place behind the object that begins at ``start``, or None where it is not all here."""
        buffer = self._buffer
        while self._depth:
            found = (_IN_TEXT if self._in_text else _MARK).search(buffer, self._at)
            if found is None:
                self._at = len(buffer)
                break
            sign, at = found[0], found.end()
            if sign == b"\\":
                if at == len(buffer):
                    self._at = found.start()  # what it escapes is still to come
                    break
                at += 1
            elif sign == b'"':
                self._in_text = not self._in_text
            elif sign in b"[{":
                self._depth += 1
                if self._depth > MAX_DEPTH:
                    raise SourceRefusedError("a search result that is nested too deeply")
            else:
                self._depth -= 1
            self._at = at
        if (self._at if self._depth == 0 else len(buffer)) - start > MAX_RESULT_BYTES:
            raise SourceRefusedError("a search result of excessive size")
        return self._at if self._depth == 0 else None
