"""A list of patients as a file: one id a line, read strictly.

A line that is no id is refused by its number, never guessed: a list that is read otherwise than it was meant keeps a
patient in who said no.  The line itself is never told, since it may name a patient.

::

    9434765919          an id of any issuer
    943 476 5919        the same: an NHS number in its groups, whose check digit is verified
    TRUST-A|AB-1234     this issuer's patient only
    |SMITHJ             with a bar in front an id is taken as it stands, also one that looks like something else

UTF-8, with or without a byte order mark; lines end in LF or CRLF; empty lines don't count.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from hdrs_hpc.core.errors import BadDocumentError
from imaging.deid.keyed import normalise

MAX_BYTES = 64 << 20
MAX_ID_CHARS = 64
"""As many as a DICOM Patient ID may have (PS3.5, VR LO)."""
_TOLD_LINES = 20
_SEPARATORS = frozenset(" .-/_:^*()[]#&'@=~")
"""What an id may hold beside letters and digits.  A comma, a semicolon, a tab, a double quote or a ``+`` is another
program's way of writing columns, text or numbers."""
_PLAIN_SEPARATORS = frozenset(" .-/_:")
"""The same for an id without a bar in front."""
_NHS_NUMBER = re.compile(r"(\d{3})[ \-](\d{3})[ \-](\d{4})")
_LOOKS_LIKE = (
    (re.compile(r"\d+\.\d*|\.\d+"), "it looks like a decimal number"),
    (re.compile(r"[\d.]+E\d+", re.IGNORECASE), "it looks like a number in a spreadsheet's short form"),
    (
        re.compile(r"\d{1,2}([/.\-])\d{1,2}\1(\d{4}|\d{2})|\d{4}([/.\-])\d{1,2}\3\d{1,2}"),
        "it looks like a date",
    ),
)
_HEADINGS = frozenset(
    {
        "ID",
        "IDS",
        "PATIENT",
        "PATIENTID",
        "PATIENTIDS",
        "PATIENTIDENTIFIER",
        "PATIENTNUMBER",
        "PATIENTNO",
        "PID",
        "MRN",
        "MRNS",
        "NHS",
        "NHSNUMBER",
        "NHSNO",
        "NHSID",
        "HOSPITALNUMBER",
        "HOSPITALNO",
        "HOSPITALID",
        "NUMBER",
        "IDENTIFIER",
        "SUBJECT",
        "SUBJECTID",
        "STUDYID",
        "NAME",
        "NULL",
        "NONE",
        "NAN",
        "NA",
        "UNKNOWN",
        "CHI",
        "CHINUMBER",
        "CRN",
    }
)


class PatientListError(BadDocumentError):
    code = "patient-list-line"
    meaning = "A list of patients has lines that are no id; they are told by number, never shown."
    remedy = (
        "Write one id a line and nothing else: no heading, columns, quotes or comments.  An id that looks like "
        "something else is written with a bar before it: `|ID`."
    )


class PatientListEncodingError(BadDocumentError):
    code = "patient-list-encoding"
    meaning = "A list of patients is not plain text in UTF-8, so its ids can't be read with certainty."
    remedy = "Save it as plain text in UTF-8, one id a line."


class PatientListEmptyError(BadDocumentError):
    code = "patient-list-empty"
    meaning = "A list of patients names nobody; an empty list is more often a mistake than a statement."
    remedy = (
        "If nobody opted out, say so with a reason: `opt-out nobody`, or `imaging stage --no-opt-out REASON`."
    )


class PatientListUnreadableError(BadDocumentError):
    code = "patient-list-unreadable"
    meaning = "A list of patients can't be read; nothing is staged without it."
    remedy = "Give the path of a file that you may read, of 64 MiB at most."


def read(path: Path) -> list[str]:
    """The ids of the list at ``path`` as they are written; raises as :func:`parse`, or PatientListUnreadableError."""
    try:
        with path.open("rb") as handle:
            raw = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise PatientListUnreadableError(error.strerror or type(error).__name__, where=str(path)) from None
    if len(raw) > MAX_BYTES:
        raise PatientListUnreadableError("it is larger than 64 MiB", where=str(path))
    return parse(raw)


def parse(raw: bytes) -> list[str]:
    """The ids in a list's bytes, without the white space around them.

    Raises :class:`PatientListEncodingError`, :class:`PatientListError` (which lines), :class:`PatientListEmptyError`.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PatientListEncodingError() from None
    if "\0" in text:
        raise PatientListEncodingError("it holds zero bytes, as UTF-16 does")
    ids: list[str] = []
    refused: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        entry = line.removesuffix("\r").strip(" \t\xa0")
        if not entry:
            continue
        fault = fault_of(entry)
        if fault is None:
            ids.append(entry)
        else:
            refused.append((number, fault))
    if refused:
        raise PatientListError(_told(refused))
    if not ids:
        raise PatientListEmptyError()
    return ids


def check(ids: list[str]) -> None:
    """The same for ids that did not come from a file: their places in the list count as lines."""
    refused = [
        (place, fault) for place, one in enumerate(ids, start=1) if (fault := fault_of(one)) is not None
    ]
    if refused:
        raise PatientListError(_told(refused))


def split(entry: str) -> tuple[str, str]:
    """Issuer (empty: of any) and id of an entry."""
    issuer, _, patient_id = entry.rpartition("|")
    return issuer.strip(), patient_id.strip()


def same_patient(entry: str) -> tuple[str, str]:
    """What two spellings of one entry share: punctuation, white space, case and zeros in front don't count."""
    issuer, patient_id = split(entry)
    plain = normalise(patient_id)
    bare = "".join(char for char in plain if char.isalnum())
    return issuer, bare.lstrip("0") or bare or plain


def fault_of(entry: str) -> str | None:
    """Why an entry is no id, without its content; None for one that is."""
    if any(
        unicodedata.category(char).startswith("C") or char == "\N{REPLACEMENT CHARACTER}" for char in entry
    ):
        return "it holds a character that can't be seen"
    if entry.count("|") > 1:
        return "it holds more than one bar"
    issuer, patient_id = split(entry)
    if len(issuer) > MAX_ID_CHARS or len(patient_id) > MAX_ID_CHARS:
        return f"it is longer than {MAX_ID_CHARS} characters"
    as_it_stands = "|" in entry
    shown = unicodedata.normalize("NFKC", patient_id)
    allowed = _SEPARATORS if as_it_stands else _PLAIN_SEPARATORS
    if not any(char.isalnum() for char in shown):
        return "it holds neither a letter nor a digit"
    if any(
        not char.isalnum() and char not in allowed for char in shown + unicodedata.normalize("NFKC", issuer)
    ):
        return "it holds a character that no id has: perhaps columns, quotes or a comment"
    if "".join(char for char in shown.upper() if char.isalpha()) in _HEADINGS and not _has_digit(shown):
        return "it looks like the heading of a column"
    return None if as_it_stands else _fault_of_plain(shown)


def _fault_of_plain(patient_id: str) -> str | None:
    nhs = _NHS_NUMBER.fullmatch(patient_id)
    if nhs is not None:
        return (
            None
            if _nhs_number_holds("".join(nhs.groups()))
            else "its check digit is not that of an NHS number"
        )
    if " " in patient_id:
        return "it holds a space, and is not an NHS number in groups: perhaps two ids, or a name"
    if not _has_digit(patient_id):
        return "it holds no digit: perhaps a heading or a name"
    return next((said for pattern, said in _LOOKS_LIKE if pattern.fullmatch(patient_id)), None)


def _has_digit(text: str) -> bool:
    return any(char.isdigit() for char in text)


def _nhs_number_holds(digits: str) -> bool:
    """Modulus 11 (NHS Data Dictionary, "NHS NUMBER"): weights 10 to 2; 11 stands for 0, 10 is never issued."""
    check = (
        11 - sum(int(digit) * weight for digit, weight in zip(digits, range(10, 1, -1), strict=False)) % 11
    )
    return check % 11 == int(digits[9]) and check != 10


def _told(refused: list[tuple[int, str]]) -> str:
    shown = "; ".join(f"line {number}: {fault}" for number, fault in refused[:_TOLD_LINES])
    more = len(refused) - _TOLD_LINES
    return shown + (f"; and {more} more lines" if more > 0 else "")
