"""DSSE v1 envelopes, read strictly: exact payload bytes, canonical base64, no field beyond the format's.

Source: the DSSE 1.0 protocol and envelope documents (secure-systems-lab/dsse).  The signature covers the
pre-authentication encoding of payload type and raw payload bytes, never their base64 or a re-serialised form.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, replace
from typing import Any

from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import BadDocumentError

MAX_PAYLOAD_BYTES = strict_json.MAX_BYTES
MAX_SIGNATURES = 32
MAX_SIGNATURE_BYTES = 8192
MAX_KEYID_CHARS = 128
MAX_TYPE_CHARS = 128
# Base64 makes four bytes of three; the rest is room for the signatures and the field names.
MAX_ENVELOPE_BYTES = MAX_PAYLOAD_BYTES * 4 // 3 + MAX_SIGNATURES * (MAX_SIGNATURE_BYTES * 4 // 3 + 256) + 1024


class MalformedEnvelopeError(BadDocumentError):
    code = "malformed-envelope"
    meaning = "The file is not a signed document: its DSSE envelope is not what the format requires."
    remedy = "Send the file that `sign` wrote, unchanged; a draft must be signed first."


@dataclass(frozen=True)
class Signature:
    """One signature: ``sig`` is the binary SSHSIG blob, ``keyid`` a hint like ``SHA256:…``."""

    keyid: str
    sig: bytes


@dataclass(frozen=True)
class Envelope:
    """A payload with its type and signatures.  Parsing says nothing about who signed."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...] = ()

    @classmethod
    def parse(cls, raw: bytes) -> Envelope:
        """Read an envelope; raises BadDocumentError for everything that is not exactly one."""
        value = strict_json.loads(raw, max_bytes=MAX_ENVELOPE_BYTES, max_depth=4)
        fields = _fields(value, {"payload", "payloadType", "signatures"}, "the envelope")
        payload = _base64(fields["payload"], "payload", MAX_PAYLOAD_BYTES)
        payload_type = _text(fields["payloadType"], "payloadType", MAX_TYPE_CHARS)
        listed = fields["signatures"]
        if not isinstance(listed, list) or len(listed) > MAX_SIGNATURES:
            raise MalformedEnvelopeError(
                f"signatures must be a list of at most {MAX_SIGNATURES}", where="signatures"
            )
        signatures = []
        for index, item in enumerate(listed):
            where = f"signatures[{index}]"
            parts = _fields(item, {"keyid", "sig"}, where)
            keyid = _text(parts["keyid"], f"{where}.keyid", MAX_KEYID_CHARS)
            signatures.append(Signature(keyid, _base64(parts["sig"], f"{where}.sig", MAX_SIGNATURE_BYTES)))
        return cls(payload_type, payload, tuple(signatures))

    def to_bytes(self) -> bytes:
        """The one way this project writes an envelope; ``parse`` gives it back equal."""
        return strict_json.dumps(
            {
                "payload": base64.b64encode(self.payload).decode("ascii"),
                "payloadType": self.payload_type,
                "signatures": [
                    {"keyid": item.keyid, "sig": base64.b64encode(item.sig).decode("ascii")}
                    for item in self.signatures
                ],
            }
        )

    def with_signature(self, signature: Signature) -> Envelope:
        """This envelope with one signature more, as the second custodian makes it."""
        return replace(self, signatures=(*self.signatures, signature))

    @property
    def digest(self) -> str:
        """``sha256:…`` of the payload: the identity of the document, whoever signed it."""
        return "sha256:" + hashlib.sha256(self.payload).hexdigest()

    def pae(self) -> bytes:
        """DSSE's pre-authentication encoding: what the signatures are made over."""
        return pae(self.payload_type, self.payload)


def pae(payload_type: str, payload: bytes) -> bytes:
    """``"DSSEv1" SP LEN(type) SP type SP LEN(body) SP body`` with decimal ASCII lengths in bytes."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _fields(value: Any, wanted: set[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != wanted:
        raise MalformedEnvelopeError(f"{where} must have exactly the fields {', '.join(sorted(wanted))}")
    return value


def _text(value: Any, where: str, most: int) -> str:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or len(value) > most:
        raise MalformedEnvelopeError(
            f"must be printable ASCII text of at most {most} characters", where=where
        )
    return value


def _base64(value: Any, where: str, most: int) -> bytes:
    if not isinstance(value, str):
        raise MalformedEnvelopeError("must be base64 text", where=where)
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedEnvelopeError("is not standard base64", where=where) from None
    # Unused bits and odd padding would let one document travel as two different files.
    if base64.b64encode(raw).decode("ascii") != value:
        raise MalformedEnvelopeError("is base64 written in an unusual way", where=where)
    if len(raw) > most:
        raise MalformedEnvelopeError(f"has {len(raw)} bytes where {most} are allowed", where=where)
    return raw
