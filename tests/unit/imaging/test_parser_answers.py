"""What a parser that a file has taken over may say: each lie costs one item, under a reason code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest

from imaging.staging import answers
from imaging.staging.contact_sheet import decoded
from imaging.staging.items import Bench
from imaging.staging.pathology.slide import Grid
from imaging.staging.pathology.source import _codestreams, _lengths
from imaging.staging.radiology.burned_in import TextPart
from imaging.staging.radiology.slabs import checked
from imaging.staging.refusals import Refused
from imaging.staging.tables.task import batches

DEEP = b"[" * 200_000 + b"]" * 200_000


class Liar:
    """A bench whose parser gives one answer, again and again."""

    def __init__(self, header: bytes, blob: bytes = b"") -> None:
        self.answer = (header, bytearray(blob))
        self.reader = self

    def ask(self, number: int, operation: str, **arguments: Any) -> Iterator[tuple[bytes, bytearray]]:
        for _ in range(1000):
            yield self.answer
        raise AssertionError("it was listened to for ever")


def bench(header: bytes, blob: bytes = b"") -> Bench:
    return cast(Bench, Liar(header, blob))


READERS: dict[str, Callable[[bytes], object]] = {
    "frame": lambda raw: checked(raw, bytearray(12), (2, 3), np.dtype("<u2")),
    "held frame": lambda raw: decoded(raw, bytearray(12)),
    "lengths": _lengths,
    "text": lambda raw: TextPart(1, (0,), (2, 3)).make(bench(raw), {}),
    "rows": lambda raw: list(batches(bench(b"{}", raw), 1, ("a",), (0, 1))),
}


@pytest.mark.parametrize("reader", sorted(READERS))
@pytest.mark.parametrize(
    "lie",
    [
        DEEP,
        b'{"shape": [Infinity, 1], "dtype": "<u2", "lengths": [Infinity], "boxes": [[[Infinity, 0, 1, 1]]]}',
        b'{"shape": [2, 3], "dtype": ",,", "lengths": 1, "boxes": 1}',
        b"[]",
        b"7",
    ],
)
def test_a_lie_is_a_refusal_whatever_it_does_to_who_reads_it(reader: str, lie: bytes) -> None:
    with pytest.raises(Refused):
        READERS[reader](lie)


def test_an_answer_that_would_take_gigabytes_as_objects_is_not_read() -> None:
    with pytest.raises(Refused):
        answers.said(b'{"lengths": [' + b"{}," * (4 << 20) + b"{}]}")


@pytest.mark.parametrize("cells", [[[]], [["a"]], [["\ud800"]]])
def test_a_table_that_never_ends_or_holds_no_text_is_refused(cells: list[list[str]]) -> None:
    with pytest.raises(Refused):
        list(batches(bench(b"{}", json.dumps(cells).encode()), 1, ("a",), (0, 10)))


def test_tiles_that_never_come_are_not_waited_for() -> None:
    with pytest.raises(Refused):
        _codestreams(bench(b'{"lengths": []}'), Grid(1, 0, 0), (0, 2), (0, 2))
