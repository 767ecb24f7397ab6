"""SSH public keys: which types are accepted, how they are read, and what identifies one.

Sources: RFC 4253 section 6.6 and RFC 5656 (ssh-rsa, ecdsa), RFC 8709 (ssh-ed25519), and OpenSSH's
PROTOCOL.u2f (sk-).  A key is always re-encoded from its parsed numbers before it is compared or
fingerprinted, so that one key can not pass as two by being written in two ways.  Keys for which anybody can sign
are refused by what they are, wherever one is read: trust roots, the broker's own keys, signatures.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hdrs_hpc.core import curve25519
from hdrs_hpc.core.errors import BadDocumentError

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
MIN_RSA_EXPONENT = 65537
"""FIPS 186-5 section 5.4: above 2^16; what ssh-keygen has used since OpenSSH 5.4."""
MAX_KEY_BYTES = 4096
MAX_LINE_CHARS = 8192

SK_ED25519 = "sk-ssh-ed25519@openssh.com"
SK_ECDSA = "sk-ecdsa-sha2-nistp256@openssh.com"
CURVES: dict[str, type[EllipticCurve]] = {
    "nistp256": SECP256R1,
    "nistp384": SECP384R1,
    "nistp521": SECP521R1,
}


class MalformedKeyError(BadDocumentError):
    code = "malformed-key"
    meaning = "The public key can not be read."
    remedy = "Give the one line of the `.pub` file that ssh-keygen wrote."


class KeyTypeRefusedError(BadDocumentError):
    code = "key-type-refused"
    meaning = "Keys of this type are not accepted: SSH certificates, webauthn types, DSA and unknown ones."
    remedy = "Use an ed25519 key (`ssh-keygen -t ed25519`), ecdsa, a security key (sk-) or RSA of 2048 bits."


class WeakKeyError(BadDocumentError):
    code = "weak-key"
    meaning = "The key is too weak to sign with."
    remedy = "Make a new key: `ssh-keygen -t ed25519`."


@dataclass(frozen=True)
class PublicKey:
    """A parsed key: its type's name, the verifying key, and for sk- types the application it is bound to."""

    type_name: str
    key: Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey
    blob: bytes
    """Re-encoded from the parsed numbers, RFC 4253 wire format."""
    application: bytes | None = None

    @property
    def fingerprint(self) -> str:
        """``SHA256:`` and unpadded base64, as ``ssh-keygen -l`` shows it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode("ascii")
        return "SHA256:" + digest.rstrip("=")

    @property
    def line(self) -> str:
        """``type base64``, without a comment."""
        return f"{self.type_name} {base64.b64encode(self.blob).decode('ascii')}"


class WireReader:
    """Reads RFC 4251 section 5 data from bytes; raises the error class it was given on anything short."""

    def __init__(self, raw: bytes, error: type[BadDocumentError]) -> None:
        self._raw, self._at, self._error = raw, 0, error

    def take(self, count: int) -> bytes:
        if count > len(self._raw) - self._at:
            raise self._error("it ends too early")
        self._at += count
        return self._raw[self._at - count : self._at]

    def uint32(self) -> int:
        return int(struct.unpack(">I", self.take(4))[0])

    def string(self) -> bytes:
        return self.take(self.uint32())

    def mpint(self) -> int:
        raw = self.string()
        # RFC 4251: shortest form; a set top bit would be a negative number.
        if (raw and raw[0] & 0x80) or (len(raw) > 1 and raw[0] == 0 and not raw[1] & 0x80) or raw == b"\0":
            raise self._error("a number is not written in its shortest form")
        return int.from_bytes(raw, "big")

    def end(self) -> None:
        if self._at != len(self._raw):
            raise self._error("it has bytes left over")


def wire_string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def wire_mpint(number: int) -> bytes:
    return wire_string(number.to_bytes(number.bit_length() // 8 + 1, "big") if number else b"")


def parse_line(line: str) -> PublicKey:
    """Read ``type base64 [comment]``; the type before the base64 must be the type inside it."""
    if len(line) > MAX_LINE_CHARS or "\n" in line or "\r" in line:
        raise MalformedKeyError("a public key is one line")
    parts = line.split(None, 2)
    if len(parts) < 2:
        raise MalformedKeyError("a public key line has a type and base64")
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (binascii.Error, ValueError):
        raise MalformedKeyError("the key's base64 can not be read") from None
    key = parse_blob(blob)
    if key.type_name != parts[0]:
        raise MalformedKeyError("the key's line and its inside name different types")
    return key


def parse_blob(blob: bytes) -> PublicKey:
    """Read the wire form of a public key; refuses types, weak keys and non-canonical points."""
    if len(blob) > MAX_KEY_BYTES:
        raise MalformedKeyError("the key is larger than any accepted key")
    reader = WireReader(blob, MalformedKeyError)
    name_raw = reader.string()
    try:
        name = name_raw.decode("ascii")
    except UnicodeDecodeError:
        raise KeyTypeRefusedError("a key type that is not ASCII") from None
    if name in ("ssh-ed25519", SK_ED25519):
        return _ed25519(name, reader)
    if name in (SK_ECDSA, *(f"ecdsa-sha2-{curve}" for curve in CURVES)):
        return _ecdsa(name, reader)
    if name == "ssh-rsa":
        return _rsa(reader)
    shown = name if len(name) <= 60 and name.isprintable() else "an unknown type"
    raise KeyTypeRefusedError(f"keys of type {shown} are not accepted")


def _ed25519(name: str, reader: WireReader) -> PublicKey:
    raw = reader.string()
    application = reader.string() if name == SK_ED25519 else None
    reader.end()
    if len(raw) == 32 and curve25519.has_small_order(raw):
        raise WeakKeyError("an ed25519 point of small order: anybody can sign for it")
    wrong = curve25519.point_fault(raw)
    if wrong is not None:
        raise MalformedKeyError(f"not an ed25519 point: {wrong}")
    key = Ed25519PublicKey.from_public_bytes(raw)
    return PublicKey(name, key, _blob(name, application, raw), application)


def _ecdsa(name: str, reader: WireReader) -> PublicKey:
    curve_name = "nistp256" if name == SK_ECDSA else name.removeprefix("ecdsa-sha2-")
    if reader.string() != curve_name.encode():
        raise MalformedKeyError("the key's type and curve differ")
    point = reader.string()
    application = reader.string() if name == SK_ECDSA else None
    reader.end()
    try:
        key = EllipticCurvePublicKey.from_encoded_point(CURVES[curve_name](), point)
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedKeyError("not a point of the curve") from None
    uncompressed = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return PublicKey(name, key, _blob(name, application, curve_name.encode(), uncompressed), application)


def _rsa(reader: WireReader) -> PublicKey:
    exponent, modulus = reader.mpint(), reader.mpint()
    reader.end()
    bits = modulus.bit_length()
    if bits < MIN_RSA_BITS:
        raise WeakKeyError(f"an RSA key of {bits} bits where {MIN_RSA_BITS} are needed")
    # Large exponents and moduli only make verification slow; small exponents forgive sloppy padding.
    if bits > MAX_RSA_BITS or exponent >= 1 << 32 or not exponent & modulus & 1:
        raise MalformedKeyError("an RSA key with an unusual modulus or exponent")
    if exponent < MIN_RSA_EXPONENT:
        raise WeakKeyError(f"an RSA exponent below {MIN_RSA_EXPONENT}")
    try:
        key = RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError:
        raise MalformedKeyError("not an RSA key") from None
    blob = wire_string(b"ssh-rsa") + wire_mpint(exponent) + wire_mpint(modulus)
    return PublicKey("ssh-rsa", key, blob)


def _blob(name: str, application: bytes | None, *parts: bytes) -> bytes:
    tail = () if application is None else (application,)
    return b"".join(wire_string(part) for part in (name.encode(), *parts, *tail))
