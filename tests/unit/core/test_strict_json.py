"""JSON and YAML whose numbers and text not every reader would understand alike are refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdrs_hpc.core import strict_json, strict_yaml
from hdrs_hpc.core.errors import BadDocumentError

MOST = 9223372036854775807

JSON_NUMBERS = [
    b"1e999", b"-1e999", b"1E+400", b"123456789e400", b"1e-999", b"-0.001e-400", b"1" + b"0" * 400 + b".5",
    b"9223372036854775808", b"-9223372036854775808", b"1" * 41, b"1" * 5000, b"-" + b"9" * 300,
    b"NaN", b"Infinity", b"-Infinity", b"nan", b"-NaN", b"inf", b"+1", b"01", b".5", b"1.", b"0x10", b"1_000",
]  # fmt: skip
SURROGATES = [
    rb'"\ud800"',
    rb'"\uDFFF"',
    rb'"a\udc00\ud800b"',
    rb'"\ud83dx"',
    rb'"\\\ud800"',
    b'"\xed\xa0\x80"',
]


@pytest.mark.parametrize("number", JSON_NUMBERS)
@pytest.mark.parametrize("around", [b"%b", b'{"a": %b}', b'{"a": [0, %b]}'])
def test_a_number_that_readers_may_not_agree_on_is_refused(number: bytes, around: bytes) -> None:
    with pytest.raises(BadDocumentError) as caught:
        strict_json.loads(around % number)
    assert caught.value.code == "malformed-document"


@pytest.mark.parametrize("text", SURROGATES)
@pytest.mark.parametrize("around", [b"%b", b"{%b: 1}", b'{"a": [%b]}', b'[{"a": {%b: []}}]'])
def test_half_a_surrogate_pair_is_refused_in_keys_and_values(text: bytes, around: bytes) -> None:
    with pytest.raises(BadDocumentError) as caught:
        strict_json.loads(around % text)
    assert caught.value.code == "malformed-document"


def test_honest_numbers_and_text_are_read_as_they_are() -> None:
    raw = b'{"most": %d, "least": -%d, "zero": 0.0, "none": 0e999, "tiny": 5e-324, "huge": 1.7e308}' % (
        MOST,
        MOST,
    )
    assert strict_json.loads(raw) == {
        "most": MOST, "least": -MOST, "zero": 0.0, "none": 0.0, "tiny": 5e-324, "huge": 1.7e308,
    }  # fmt: skip
    assert strict_json.loads(rb'["\ud83d\ude00", "\\ud800", "\u00e9"]') == ["\U0001f600", "\\ud800", "é"]


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MOST, MOST)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES)
def test_whatever_is_written_is_read_back_equal(value: object) -> None:
    assert strict_json.loads(strict_json.dumps(value)) == value
    assert strict_json.loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "text",
    ["a: 1e999", "a: -1e999", "a: 1e-999", "a: 9223372036854775808", f"a: {'1' * 5000}", "[-1.5E+999]",
     r'a: "\ud800"', r'"\udfff": 1', r'a: ["\ud83dx"]', "a: 1e999\nb: 2"],
)  # fmt: skip
def test_yaml_refuses_the_same(text: str) -> None:
    with pytest.raises(BadDocumentError) as caught:
        strict_yaml.load(text.encode())
    assert caught.value.code == "malformed-document"


@pytest.mark.parametrize("word", [".nan", ".NaN", ".inf", "-.Inf", "NaN", "nan", "Infinity", "0x10", "1_000"])
def test_yaml_reads_every_spelling_of_no_number_as_text(word: str) -> None:
    assert strict_yaml.load(f"a: {word}".encode())[0] == {"a": word}


def test_yaml_names_the_line_of_a_number_out_of_range() -> None:
    with pytest.raises(BadDocumentError) as caught:
        strict_yaml.load(b"a: 1\nb:\n  - 1e999\n")
    assert caught.value.where == "line 3"


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "a:\n  b: 1\n\tc: 2\n", "a:\n  - \t- 1\n"])
def test_yaml_says_of_a_tab_that_spaces_belong_there(text: str) -> None:
    with pytest.raises(BadDocumentError) as caught:
        strict_yaml.load(text.encode())
    assert caught.value.code == "yaml-tab"
    assert "spaces" in caught.value.remedy
