"""Keys and signatures that anybody can make, against arithmetic written out again and against OpenSSL."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from hdrs_hpc.core import curve25519

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
# The eight torsion points as published with libsodium's and Monero's blocklists, sign bit clear.
SMALL = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    # not reduced
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]
SMALL_U = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def _sign_set(raw: bytes) -> bytes:
    return raw[:31] + bytes([raw[31] | 0x80])


def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    return (
        (x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P,
    )


def point(raw: bytes) -> tuple[int, int] | None:
    """RFC 8032 section 5.1.3, written out."""
    number = int.from_bytes(raw, "little")
    y, sign = number % 2**255, number >> 255
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P == -u % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if v * x * x % P != u or (x == 0 and sign):
        return None
    return (P - x if x % 2 != sign else x), y


def encoded(at: tuple[int, int]) -> bytes:
    return (at[1] | (at[0] % 2) << 255).to_bytes(32, "little")


@pytest.mark.parametrize("raw", [bytes.fromhex(text) for text in SMALL])
def test_points_of_small_order_are_known_in_every_encoding(raw: bytes) -> None:
    assert curve25519.has_small_order(raw)
    assert curve25519.has_small_order(_sign_set(raw))


@pytest.mark.parametrize("raw", [bytes.fromhex(text) for text in SMALL[:5]])
def test_eight_times_such_a_point_is_nothing(raw: bytes) -> None:
    at = point(raw)
    assert at is not None
    for _ in range(3):
        at = add(at, at)
    assert at == (0, 1)


def test_openssl_takes_one_signature_under_such_a_key_for_every_message() -> None:
    """Why they are refused here: if this fails one day, the library has learnt to."""
    identity = bytes.fromhex(SMALL[0])
    for message in (b"a grant", b"another grant"):
        Ed25519PublicKey.from_public_bytes(identity).verify(identity + bytes(32), message)


@settings(deadline=None, max_examples=300)
@given(st.binary(min_size=32, max_size=32))
def test_a_point_is_accepted_exactly_where_rfc_8032_decodes_it(raw: bytes) -> None:
    assert (curve25519.point_fault(raw) is None) == (point(raw) is not None)


@pytest.mark.parametrize("y", [*range(20), *(P - n for n in range(-19, 20))])
@pytest.mark.parametrize("sign", [0, 1])
def test_so_it_is_at_the_edges(y: int, sign: int) -> None:
    if y < 2**255:
        raw = (y | sign << 255).to_bytes(32, "little")
        assert (curve25519.point_fault(raw) is None) == (point(raw) is not None)


def test_keys_and_signatures_as_they_are_made_have_no_fault() -> None:
    for _ in range(50):
        private = Ed25519PrivateKey.generate()
        raw = private.public_key().public_bytes_raw()
        assert curve25519.point_fault(raw) is None and not curve25519.has_small_order(raw)
        signature = private.sign(b"message")
        assert curve25519.signature_fault(signature) is None
        s = int.from_bytes(signature[32:], "little") + curve25519.ORDER
        if s < 2**256:
            assert curve25519.signature_fault(signature[:32] + s.to_bytes(32, "little")) == "S is not reduced"
        assert (
            curve25519.exchange_key_fault(X25519PrivateKey.generate().public_key().public_bytes_raw()) is None
        )


def test_an_honest_point_plus_one_of_small_order_is_told_from_neither() -> None:
    """Mixed order: accepted, and still only its maker can sign for it (the module says why)."""
    honest = point(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    eighth = point(bytes.fromhex(SMALL[3]))
    assert honest is not None and eighth is not None
    mixed = encoded(add(honest, eighth))
    assert curve25519.point_fault(mixed) is None and not curve25519.has_small_order(mixed)


@pytest.mark.parametrize("raw", [bytes.fromhex(text) for text in SMALL_U])
def test_exchange_keys_that_make_the_secret_zero_are_refused(raw: bytes) -> None:
    assert curve25519.exchange_key_fault(raw) is not None
    assert curve25519.exchange_key_fault(_sign_set(raw)) is not None
    with pytest.raises(ValueError, match="shared key"):
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(raw))


def test_an_exchange_key_that_is_not_reduced_is_refused() -> None:
    for u in (P, P + 9, 2**255 - 1, 2**255 + 9, 2**256 - 1):
        assert curve25519.exchange_key_fault(u.to_bytes(32, "little")) == "a coordinate that is not reduced"
    assert curve25519.exchange_key_fault((9).to_bytes(32, "little")) is None
