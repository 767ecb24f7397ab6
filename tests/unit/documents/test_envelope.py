from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.documents.envelope import Envelope, MalformedEnvelopeError, Signature, pae

GOOD = {"payload": "aGk=", "payloadType": "t", "signatures": [{"keyid": "SHA256:x", "sig": "AAAA"}]}


def _raw(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def test_pae_is_the_example_of_the_dsse_protocol():
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_pae_counts_bytes_not_characters():
    assert pae("t", "é".encode()) == b"DSSEv1 1 t 2 \xc3\xa9"


@given(
    st.text("abc/+.", max_size=20),
    st.binary(max_size=200),
    st.lists(st.builds(Signature, st.text("SHA256:ab", max_size=20), st.binary(max_size=100)), max_size=4),
)
def test_an_envelope_survives_the_way_to_bytes_and_back(kind, payload, signatures):
    envelope = Envelope(kind, payload, tuple(signatures))
    assert Envelope.parse(envelope.to_bytes()) == envelope


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"{}",
        _raw(extra=1),
        _raw(payload=7),
        _raw(payload="aGk"),
        _raw(payload="aGl="),  # the same two bytes with other unused bits
        _raw(payload="aG k="),
        _raw(payload="aGk=\n"),
        _raw(payloadType=None),
        _raw(payloadType="t\u202e"),
        _raw(signatures={}),
        _raw(signatures=[{"keyid": "x"}]),
        _raw(signatures=[{"keyid": "x", "sig": "AAAA", "cert": "AAAA"}]),
        _raw(signatures=[{"keyid": "x", "sig": "AAAA"}] * 33),
        _raw(signatures=[{"keyid": "x", "sig": base64.b64encode(b"x" * 8193).decode()}]),
        _raw(payload=base64.b64encode(b"x" * ((1 << 20) + 1)).decode()),
    ],
)
def test_what_is_not_exactly_an_envelope_is_refused(raw):
    with pytest.raises(MalformedEnvelopeError):
        Envelope.parse(raw)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'{"payload": "aGk=", "payload": "aGk=", "payloadType": "t", "signatures": []}', "duplicate-key"),
        (b"[" * 100 + b"]" * 100, "document-too-deep"),
        (b" " * (3 << 20), "document-too-large"),
        (b"\xff", "malformed-document"),
    ],
)
def test_an_envelope_is_bounded_and_strict_before_it_is_read(raw, code):
    with pytest.raises(BadDocumentError) as caught:
        Envelope.parse(raw)
    assert caught.value.code == code


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_and_never_crash(raw):
    with pytest.raises(BadDocumentError):
        Envelope.parse(raw)
