"""SSHSIG, verified in process: OpenSSH's signature format for files.

Source: OpenSSH ``PROTOCOL.sshsig`` and, for security keys, ``PROTOCOL.u2f``.  The algorithm follows from the
pinned key, never from the signature: a signature may not choose how it is judged.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hdrs_hpc.core import curve25519
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.documents.sshkeys import (
    SK_ECDSA,
    SK_ED25519,
    PublicKey,
    WireReader,
    parse_blob,
    parse_line,
    wire_string,
)

MAGIC = b"SSHSIG"
VERSION = 1
MAX_BLOB_BYTES = 8192
ARMOR_BEGIN = "-----BEGIN SSH SIGNATURE-----"
ARMOR_END = "-----END SSH SIGNATURE-----"
_USER_PRESENT = 0x01
_MESSAGE_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
# RFC 5656 section 6.2.1: the hash follows from the curve's size.
_CURVE_HASHES: dict[int, type[HashAlgorithm]] = {256: SHA256, 384: SHA384, 521: SHA512}
_RSA_HASHES: dict[bytes, type[HashAlgorithm]] = {b"rsa-sha2-256": SHA256, b"rsa-sha2-512": SHA512}


class MalformedSignatureError(BadDocumentError):
    code = "malformed-signature"
    meaning = "A signature is not in OpenSSH's signature format."
    remedy = "Sign again with `hdrs-hpc … sign` or `ssh-keygen -Y sign`."


class BadSignatureError(BadDocumentError):
    code = "bad-signature"
    meaning = "A signature does not match: the document or the signature was altered."
    remedy = "Get the file again from the person who signed it, or have it signed again."


class WrongNamespaceError(BadDocumentError):
    code = "wrong-namespace"
    meaning = "The signature was made for another kind of document."
    remedy = "Sign with the command for this kind of document; a signature is good for one kind only."


class WrongKeyError(BadDocumentError):
    code = "wrong-key"
    meaning = "The signature was made with another key."
    remedy = "Sign with the key that the trust root lists."


class UserPresenceError(BadDocumentError):
    code = "user-presence-missing"
    meaning = "A security key signed without being touched."
    remedy = "Make the key without `-O no-touch-required` and touch it when it blinks."


def fingerprint(public_key_line: str) -> str:
    """``SHA256:…`` over the re-encoded key, as ``ssh-keygen -l`` shows it."""
    return parse_line(public_key_line).fingerprint


def embedded_key(sig: bytes) -> str:
    """The public key line that a signature says it was made with.  Tells whom to ask, proves nothing."""
    return _parse(sig).key.line


def verify(public_key_line: str, sig: bytes, namespace: str, message: bytes) -> None:
    """Check a binary SSHSIG blob over ``message`` under one pinned key; returns nothing, or raises.

    Raises a BadDocumentError: malformed-key, malformed-signature, key-type-refused, wrong-namespace,
    wrong-key, user-presence-missing or bad-signature.
    """
    pinned = parse_line(public_key_line)
    parsed = _parse(sig)
    if parsed.namespace != namespace.encode("utf-8"):
        raise WrongNamespaceError("the signature was made for another kind of document")
    if parsed.key.blob != pinned.blob:
        raise WrongKeyError("the signature was made with another key")
    signed = _signed_data(namespace, parsed.hash_name, message)
    _check(pinned, parsed.signature, signed)


def sign_ed25519(private: Ed25519PrivateKey, namespace: str, message: bytes) -> bytes:
    """A binary SSHSIG blob, the same bytes as ``ssh-keygen -Y sign`` gives with this key, unarmoured."""
    public = base64.b64decode(_openssh(private).split()[1])
    made = private.sign(_signed_data(namespace, b"sha512", message))
    return (
        MAGIC
        + VERSION.to_bytes(4, "big")
        + wire_string(public)
        + wire_string(namespace.encode("utf-8"))
        + wire_string(b"")
        + wire_string(b"sha512")
        + wire_string(wire_string(b"ssh-ed25519") + wire_string(made))
    )


def public_line(private: Ed25519PrivateKey, comment: str) -> str:
    """``ssh-ed25519 AAAA… comment`` for a private key."""
    return f"{_openssh(private)} {comment}".rstrip()


def _openssh(private: Ed25519PrivateKey) -> str:
    return private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")


def unarmour(text: str) -> bytes:
    """The binary blob inside ``-----BEGIN SSH SIGNATURE-----`` lines; raises malformed-signature."""
    lines = text.strip().splitlines()
    if len(lines) < 3 or lines[0].strip() != ARMOR_BEGIN or lines[-1].strip() != ARMOR_END:
        raise MalformedSignatureError("the armour lines are missing")
    try:
        return base64.b64decode("".join(line.strip() for line in lines[1:-1]), validate=True)
    except (binascii.Error, ValueError):
        raise MalformedSignatureError("the armoured base64 can not be read") from None


def armour(sig: bytes) -> str:
    """The text form that ``ssh-keygen -Y verify`` reads: base64 in lines of 70."""
    text = base64.b64encode(sig).decode("ascii")
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    return "\n".join([ARMOR_BEGIN, *lines, ARMOR_END, ""])


class _Parsed:
    def __init__(self, key: PublicKey, namespace: bytes, hash_name: bytes, signature: bytes) -> None:
        self.key, self.namespace, self.hash_name, self.signature = key, namespace, hash_name, signature


def _parse(sig: bytes) -> _Parsed:
    if len(sig) > MAX_BLOB_BYTES:
        raise MalformedSignatureError("larger than any signature")
    reader = WireReader(sig, MalformedSignatureError)
    if reader.take(len(MAGIC)) != MAGIC:
        raise MalformedSignatureError("not an SSH signature")
    if reader.uint32() != VERSION:
        raise MalformedSignatureError("an unknown version of the signature format")
    key = parse_blob(reader.string())
    namespace = reader.string()
    if reader.string():
        raise MalformedSignatureError("the reserved field is not empty")
    hash_name = reader.string()
    if hash_name not in _MESSAGE_HASHES:
        raise MalformedSignatureError("an unknown hash of the message")
    signature = reader.string()
    reader.end()
    return _Parsed(key, namespace, hash_name, signature)


def _signed_data(namespace: str, hash_name: bytes, message: bytes) -> bytes:
    """PROTOCOL.sshsig section 3: what the key signs (magic without the version)."""
    digest = _MESSAGE_HASHES[hash_name](message).digest()
    parts = (namespace.encode("utf-8"), b"", hash_name, digest)
    return MAGIC + b"".join(wire_string(part) for part in parts)


def _check(pinned: PublicKey, signature: bytes, signed: bytes) -> None:
    reader = WireReader(signature, MalformedSignatureError)
    algorithm = reader.string()
    body = reader.string()
    if pinned.type_name in (SK_ED25519, SK_ECDSA):
        signed = _security_key_data(pinned, reader, signed)
    reader.end()
    key = pinned.key
    try:
        if isinstance(key, RSAPublicKey):
            hash_class = _RSA_HASHES.get(algorithm)
            if hash_class is None:  # ssh-rsa would be SHA-1
                raise MalformedSignatureError("RSA signatures must be rsa-sha2-256 or rsa-sha2-512")
            # RFC 8332 section 3: as long as the modulus.
            if len(body) != (key.key_size + 7) // 8:
                raise MalformedSignatureError("an RSA signature of the wrong length")
            key.verify(body, signed, PKCS1v15(), hash_class())
            return
        if algorithm != pinned.type_name.encode():
            raise MalformedSignatureError("the signature's algorithm is not the key's")
        if isinstance(key, Ed25519PublicKey):
            wrong = curve25519.signature_fault(body)
            if wrong is not None:
                raise BadSignatureError(f"not an ed25519 signature: {wrong}")
            key.verify(body, signed)
        else:
            _check_ecdsa(key, body, signed)
    except InvalidSignature:
        raise BadSignatureError("the signature does not match") from None


def _check_ecdsa(key: EllipticCurvePublicKey, body: bytes, signed: bytes) -> None:
    numbers = WireReader(body, MalformedSignatureError)
    r, s = numbers.mpint(), numbers.mpint()
    numbers.end()
    if not r or not s or max(r, s).bit_length() > key.curve.key_size:
        raise BadSignatureError("the signature does not match")
    key.verify(encode_dss_signature(r, s), signed, ECDSA(_CURVE_HASHES[key.curve.key_size]()))


def _security_key_data(pinned: PublicKey, reader: WireReader, signed: bytes) -> bytes:
    """PROTOCOL.u2f: the token signs H(application) ‖ flags ‖ counter ‖ H(data); presence is bit 0."""
    flags, counter = reader.take(1), reader.take(4)
    if not flags[0] & _USER_PRESENT:
        raise UserPresenceError("the security key was not touched")
    application = hashlib.sha256(pinned.application or b"").digest()
    return application + flags + counter + hashlib.sha256(signed).digest()
