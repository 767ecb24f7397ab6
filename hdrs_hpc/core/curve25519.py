"""Public keys and signatures of Curve25519 that no honest program makes, told from their bytes alone.

A point of small order is one that eight times itself is nothing.  As a signing key it is everybody's: the
signature of 64 fixed bytes verifies for any message.  As an X25519 key it makes every shared secret zero.
OpenSSL takes both.  And one key or signature written in two ways would pass for two.

Sources: RFC 8032 sections 5.1.3 (decoding) and 5.1.7 (S below the order), RFC 7748 sections 5 and 6.1,
section 7 for why zero secrets are refused.

Points of mixed order (an honest point plus one of small order) are accepted: to sign for one its maker needs the
discrete logarithm as for any other, every verifier here uses the one equation without cofactor, so that none
disagrees with another, and whoever lists two such keys of one secret gains what two ordinary keys give.
"""

from __future__ import annotations

import functools

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of the base point."""
_D = -121665 * pow(121666, -1, PRIME) % PRIME
_EIGHTH_Y = 2707385501144840649318225287225658788936804267575313519463743609750303402022
"""y of the points of order 8: doubled they have y = 0, so d y⁴ + 2 y² = 1."""
SMALL_ORDER_Y = frozenset({1, PRIME - 1, 0, _EIGHTH_Y, PRIME - _EIGHTH_Y})
"""Of the eight Edwards points of order 1, 2, 4 and 8; the sign of x does not matter."""
SMALL_ORDER_U = frozenset(
    {PRIME - 1, *((1 + y) * pow(1 - y, -1, PRIME) % PRIME for y in SMALL_ORDER_Y - {1})}
)
"""Of the Montgomery points of small order: those (RFC 7748 section 4.1), and -1, which lies on the twist."""


@functools.lru_cache(maxsize=4096)  # a trust root's keys are looked at for every signature
def point_fault(raw: bytes) -> str | None:
    """Why 32 bytes are no Ed25519 point in its one encoding (RFC 8032 section 5.1.3); None: they are one."""
    if len(raw) != 32:
        return "not 32 bytes"
    written = int.from_bytes(raw, "little")
    y, odd = written & ((1 << 255) - 1), written >> 255
    if y >= PRIME:
        return "a coordinate that is not reduced"
    # x² = (y² - 1) / (d y² + 1); a quotient is a square where numerator times denominator is one.
    square = (y * y - 1) * (_D * y * y + 1) % PRIME
    if square == 0:
        return "x is zero with its sign set" if odd else None
    return None if pow(square, (PRIME - 1) // 2, PRIME) == 1 else "not on the curve"


def has_small_order(raw: bytes) -> bool:
    """Whether the encoding of an Ed25519 point, reduced or not, is one of a point of order 1, 2, 4 or 8."""
    return (int.from_bytes(raw, "little") & ((1 << 255) - 1)) % PRIME in SMALL_ORDER_Y


def signature_fault(raw: bytes) -> str | None:
    """Why 64 bytes are no Ed25519 signature that an honest signer writes; None: they may be one."""
    if len(raw) != 64:
        return "not 64 bytes"
    if int.from_bytes(raw[32:], "little") >= ORDER:
        return "S is not reduced"
    return point_fault(raw[:32])


def exchange_key_fault(raw: bytes) -> str | None:
    """Why 32 bytes are no X25519 public key that an honest program sends; None: they may be one."""
    if len(raw) != 32:
        return "not 32 bytes"
    u = int.from_bytes(raw, "little")
    if u >= PRIME:  # RFC 7748 lets receivers reduce; whoever makes a key writes it reduced
        return "a coordinate that is not reduced"
    return "a point of small order" if u in SMALL_ORDER_U else None
