"""Everything that depends on the project's de-identification key: equal input gives equal output, for every
worker, run and modality of one project, and nothing to compare with across projects.

Each value is HMAC-SHA256(key, length-prefixed (schema ‖ type ‖ issuer ‖ normalised id)).  The type keeps a
patient id and an equal accession number apart; the issuer keeps two hospitals' patient "12345" apart.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import unicodedata
from collections.abc import Iterable
from datetime import date, timedelta

from hdrs_hpc.core.errors import UsageError
from hdrs_hpc.core.ids import ALPHABET

_SCHEMA = "hdrs-hpc/deid/1"
KEY_BYTES = 32
MAX_SHIFT_DAYS = 1826
"""Five years: a date moves by 1 to this many days, forwards or backwards."""


class DeidKeyError(UsageError):
    code = "deid-key-size"
    meaning = "A de-identification key has exactly 32 bytes."
    remedy = "Make one with `hdrs-hpc imaging secret new FILE`."


class DeidKey:
    """The engine.  Holds the key; neither printable nor picklable, so that it can't travel by accident."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise DeidKeyError()
        self._key = bytes(key)

    def __reduce__(self) -> str:
        raise TypeError("a de-identification key does not travel")

    def __repr__(self) -> str:
        return "DeidKey(…)"

    def patient(self, issuer: str, patient_id: str) -> str:
        """Pseudonymous patient id: ``P`` and 16 Crockford base-32 characters (80 bits)."""
        return "P" + _base32(self._mac("patient", issuer, normalise(patient_id)))[:16]

    def patient_of_study(self, study: str) -> str:
        """Pseudonym where there is no patient id: one unknown person per study."""
        return "P" + _base32(self._mac("patient-of-study", "", study.strip()))[:16]

    def number(self, kind: str, issuer: str, value: str) -> str:
        """Stands for a number that an institution gave (accession, study): 16 characters, as SH allows."""
        return _base32(self._mac(f"number-{kind}", issuer, normalise(value)))[:16]

    def uid(self, value: str) -> str:
        """A UID under 2.25 (PS3.5 B.2), made from a version 8 UUID (RFC 9562)."""
        raw = bytearray(self._mac("uid", "", value.strip())[:16])
        raw[6] = (raw[6] & 0x0F) | 0x80
        raw[8] = (raw[8] & 0x3F) | 0x80
        return f"2.25.{int.from_bytes(raw, 'big')}"

    def item(self, kind: str, *parts: str) -> str:
        """Name of a series or slide inside the copy: 20 lower-case characters (100 bits)."""
        return _base32(self._mac(f"item-{kind}", "", "\0".join(parts)))[:20].lower()

    def shift_days(self, patient: str) -> int:
        """Days by which this patient's dates move: −1826 … 1826, never zero.  ``patient``: a pseudonym."""
        number = int.from_bytes(self._mac("date-shift", "", patient)[:16], "big")
        days = number % (2 * MAX_SHIFT_DAYS) - MAX_SHIFT_DAYS
        return days if days < 0 else days + 1

    def shifted(self, patient: str, value: str) -> str | None:
        """A DICOM date (``YYYYMMDD``) moved by the patient's shift, or None if it is no date."""
        day = parse_date(value)
        if day is None:
            return None
        try:
            return (day + timedelta(days=self.shift_days(patient))).strftime("%Y%m%d").zfill(8)
        except OverflowError:
            return None

    def opt_out_hash(self, issuer: str, patient_id: str) -> str:
        """An entry of the opt-out list: 64 hex.  With an empty issuer it means this id of any issuer."""
        return self._mac("opt-out", issuer, normalise(patient_id)).hex()

    def list_digest(self, kind: str, entries: Iterable[tuple[str, str]]) -> str:
        """``sha256:…`` over a whole list of (issuer, id), whatever its order."""
        each = sorted(self._mac(f"{kind}-entry", issuer, patient_id) for issuer, patient_id in entries)
        return f"sha256:{self._mac(f'{kind}-list', '', b''.join(each).hex()).hex()}"

    def _mac(self, kind: str, issuer: str, value: str) -> bytes:
        message = b"".join(
            struct.pack(">I", len(raw)) + raw
            for raw in (
                part.encode("utf-8", "surrogatepass") for part in (_SCHEMA, kind, issuer.strip(), value)
            )
        )
        return hmac.new(self._key, message, hashlib.sha256).digest()


def normalise(identifier: str) -> str:
    """One person's id written in several ways is one id: NFKC, upper case, no white space.

    ``943 476 5919`` and ``9434765919`` are one NHS number.
    """
    return "".join(unicodedata.normalize("NFKC", identifier).upper().split())


def parse_date(value: str) -> date | None:
    """A DICOM DA value (or the retired ``YYYY.MM.DD``), else None."""
    text = value.strip().replace(".", "")
    if len(text) != 8 or not text.isascii() or not text.isdigit():
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


def _base32(raw: bytes) -> str:
    number = int.from_bytes(raw, "big")
    bits = len(raw) * 8
    return "".join(ALPHABET[(number >> shift) & 31] for shift in range(bits - 5, -1, -5))
