"""Weights that a job takes in: what is read, what is refused, and that nothing but tensors comes along."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.protocol import safetensors
from hdrs_hpc.protocol.safetensors import WeightsMalformedError


def made(header: Any, body: bytes, pad: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += pad
    return struct.pack("<Q", len(text)) + text + body


def rebuilt(raw: bytes) -> bytes:
    target = io.BytesIO()
    safetensors.rebuild(io.BytesIO(raw), len(raw), target)
    return target.getvalue()


def told(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


B, W = struct.pack("<2H", 1, 2), struct.pack("<3f", 1, 2, 3)
GOOD = {"b": told("F16", [2], 0, 4), "w": told("F32", [3], 4, 16)}


def test_a_file_is_built_anew_widest_numbers_first_and_then_by_name() -> None:
    found = rebuilt(made(GOOD, B + W))
    length = int.from_bytes(found[:8], "little")
    header = json.loads(found[8 : 8 + length])
    assert list(header) == ["w", "b"]
    assert header == {"w": told("F32", [3], 0, 12), "b": told("F16", [2], 12, 16)}
    assert found[8 + length :] == W + B
    assert length % 8 == 0


def test_the_same_tensors_are_the_same_file_whatever_else_was_written() -> None:
    plain = rebuilt(made(GOOD, B + W))
    other = {"w": told("F32", [3], 0, 12), "b": told("F16", [2], 12, 16)}
    noted = {"__metadata__": {"patient": "WHITECHAPEL-0451"}, **other}
    assert rebuilt(made(noted, W + B, pad=b" " * 30)) == plain
    assert rebuilt(plain) == plain
    assert b"WHITECHAPEL" not in plain


def test_empty_tensors_and_single_numbers_are_tensors() -> None:
    header = {"e": told("F32", [0, 4], 0, 0), "s": told("I64", [], 0, 8)}
    assert json.loads(rebuilt(made(header, b"\1" * 8))[8:-8]) == {
        "e": told("F32", [0, 4], 8, 8),
        "s": told("I64", [], 0, 8),
    }


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x80\x04\x95" + bytes(40), id="a pickle"),
        pytest.param(struct.pack("<Q", 1 << 62) + b"{}", id="a header longer than the file"),
        pytest.param(struct.pack("<Q", 9 << 20) + b" " * (9 << 20), id="a header longer than any"),
        pytest.param(made(b"[]", b""), id="no mapping"),
        pytest.param(made({}, b""), id="no tensor"),
        pytest.param(made(b'{"w": 1, "w": 2}', b""), id="a name twice"),
        pytest.param(made(b'{"w": ' + b"[" * 50 + b"]" * 50 + b"}", b""), id="nested"),
        pytest.param(made(GOOD, B + W + b"hidden"), id="bytes behind"),
        pytest.param(made(GOOD, B + W[:-1]), id="cut off"),
        pytest.param(made({"w": told("F32", [3], 4, 16)}, B + W), id="bytes before"),
        pytest.param(made({**GOOD, "w": told("F32", [3], 8, 20)}, B + b"gap!" + W), id="a gap"),
        pytest.param(made({**GOOD, "w": told("F32", [3], 2, 14)}, B + W), id="an overlap"),
        pytest.param(made({**GOOD, "w": told("F32", [4], 4, 16)}, B + W), id="a shape that is larger"),
        pytest.param(made({"w": told("F32", [-3], 0, -12)}, b""), id="negative"),
        pytest.param(made({"w": told("F32", [True], 0, 4)}, bytes(4)), id="a truth value as a length"),
        pytest.param(made({"w": told("F32", [1 << 50], 0, 1 << 52)}, b""), id="huge"),
        pytest.param(made({"w": told("F32", [1] * 17, 0, 4)}, bytes(4)), id="too many dimensions"),
        pytest.param(made({"w": told("O", [1], 0, 4)}, bytes(4)), id="an object dtype"),
        pytest.param(made({"w": told("F4", [2], 0, 1)}, bytes(1)), id="half bytes"),
        pytest.param(made({"../w": told("F32", [1], 0, 4)}, bytes(4)), id="a name that climbs"),
        pytest.param(made({"w\n": told("F32", [1], 0, 4)}, bytes(4)), id="a name of two lines"),
        pytest.param(made({"w": told("F32", [1], 0, 4) | {"note": "x"}}, bytes(4)), id="a field more"),
        pytest.param(made({"w": told("BOOL", [2], 0, 2)}, b"\1\7"), id="a truth value of seven"),
    ],
)
def test_anything_else_is_refused(raw: bytes) -> None:
    with pytest.raises(WeightsMalformedError):
        rebuilt(raw)


@given(st.integers(0, 200), st.integers(1, 255))
def test_one_changed_byte_is_other_numbers_or_a_refusal_and_never_more_bytes(place: int, change: int) -> None:
    raw = bytearray(made(GOOD, B + W))
    raw[place % len(raw)] ^= change
    try:
        found = rebuilt(bytes(raw))
    except BadDocumentError:
        return
    length = int.from_bytes(found[:8], "little")
    assert len(found) - 8 - length == sum(
        t.size_bytes for t in safetensors.read(io.BytesIO(found), len(found))
    )


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(WeightsMalformedError):
        rebuilt(raw)
