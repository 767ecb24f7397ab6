"""Messages: nothing unknown, nothing missing, nothing out of bounds, and never a crash."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdrs_hpc.core import wire
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.core.wire import Between, MessageError, Name, Pattern
from hdrs_hpc.protocol import outputs, progress
from hdrs_hpc.protocol.handover import parse_answer, parse_reply, parse_request


@dataclass(frozen=True)
class Inner:
    size_bytes: Annotated[int, Between(0, 10)]


@dataclass(frozen=True)
class Message:
    kind: Literal["a", "b"]
    name: Name
    key: Annotated[bytes, Between(2, 2)]
    inner: Inner | None
    many: Annotated[tuple[Inner, ...], Between(0, 2)]
    by_name: dict[Name, Annotated[str, Pattern("x+")]]
    ratio: float
    flag: bool
    free: Any


GOOD: dict[str, Any] = {
    "kind": "a",
    "name": "ct",
    "key": "AAE=",
    "inner": {"size-bytes": 3},
    "many": [{"size-bytes": 0}],
    "by-name": {"one": "xx"},
    "ratio": 0.5,
    "flag": True,
    "free": {"deep": [1, None]},
}


def test_a_message_survives_the_way_out_and_back() -> None:
    made = wire.from_value(Message, GOOD)
    assert made.key == b"\x00\x01"
    assert wire.to_value(made) == GOOD
    assert wire.from_bytes(Message, wire.to_bytes(made)) == made
    assert wire.to_line(made).count(b"\n") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"kind": "c"},
        {"kind": 1},
        {"name": "CT"},
        {"name": "ct\n"},
        {"key": "AAECAw=="},
        {"key": "AAE"},
        {"key": "AAF="},  # stray bits: another text for the same bytes
        {"key": " AAE="},
        {"inner": {"size_bytes": 3}},
        {"inner": {"size-bytes": 11}},
        {"inner": {"size-bytes": True}},
        {"inner": {"size-bytes": 3.0}},
        {"many": [{"size-bytes": 0}] * 3},
        {"many": {"size-bytes": 0}},
        {"by-name": {"One": "x"}},
        {"by-name": {"one": "y"}},
        {"flag": 1},
        {"ratio": "0.5"},
    ],
)
def test_anything_else_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        wire.from_value(Message, GOOD | change)


@pytest.mark.parametrize("field", sorted(GOOD))
def test_every_field_must_be_there(field: str) -> None:
    with pytest.raises(MessageError, match="missing"):
        wire.from_value(Message, {key: value for key, value in GOOD.items() if key != field})


def test_a_line_over_one_mebibyte_is_not_sent_and_not_read() -> None:
    long = GOOD | {"free": "x" * (1 << 20)}
    with pytest.raises(MessageError):
        wire.to_line(wire.from_value(Message, long))
    with pytest.raises(BadDocumentError):
        wire.from_bytes(Message, json.dumps(long).encode())


PARSERS = [
    parse_request,
    parse_reply,
    parse_answer,
    progress.from_bytes,
    outputs.parse_list,
    outputs.parse_pointer,
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=20,
)


@pytest.mark.parametrize("parse", PARSERS)
@given(raw=st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_parser_raises_anything_but_a_document_error(parse: Any, raw: bytes) -> None:
    with pytest.raises(BadDocumentError):
        parse(raw)
