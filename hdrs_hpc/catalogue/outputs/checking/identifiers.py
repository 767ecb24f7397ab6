"""Look for identifiers of people in text: NHS numbers, DICOM UIDs, full dates.

A detector, not a proof: a name or an address in a category is for the reviewers' eyes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from hdrs_hpc.catalogue.outputs.checking.refusal import ArtefactRefusedError, Finding

_TEN_DIGITS = re.compile(r"(?<![\d.])(\d{3}[ -]?\d{3}[ -]?\d{4})(?![\d.])", re.ASCII)
_UID = re.compile(r"(?<![\w.])[0-2](?:\.(?:0|[1-9]\d*)){5,}(?![\w.])", re.ASCII)
_DATE = re.compile(
    r"(?<!\d)(?:(?:18|19|20)\d\d[-/.]?(?:0[1-9]|1[0-2])[-/.]?(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|1[0-2])[-/.](?:(?:18|19|20)\d\d))(?!\d)",
    re.ASCII,
)
_CONTEXT = re.compile(r"nhs|patient.?(id|no|num)|mrn|hospital.?(no|num)|chi\b|identifier", re.IGNORECASE)
_MIN_UID_LENGTH = 20
# What the stager makes (imaging/deid/keyed.py): pseudonyms of patients, keyed values of tables, names of items.
_KEYED = re.compile(
    r"(?<![0-9A-Za-z])(?:P[0-9A-HJKMNP-TV-Z]{16}|K[0-9A-HJKMNP-TV-Z]{20}|[0-9a-hjkmnp-tv-z]{20})(?![0-9A-Za-z])",
    re.ASCII,
)


class IdentifierFoundError(ArtefactRefusedError):
    code = "identifier-in-artefact"
    meaning = "The artefact seems to hold identifiers of patients, studies or images."
    remedy = "Leave NHS numbers, record numbers and DICOM UIDs out of every output."


@dataclass
class IdentifierScan:
    """Collects what was seen over many texts; :meth:`conclude` refuses or gives findings."""

    candidates: int = 0
    nhs_numbers: set[str] = field(default_factory=set)
    nhs_places: set[str] = field(default_factory=set)
    date_places: set[str] = field(default_factory=set)
    context: bool = False

    def look(self, texts: Iterable[str], where: str) -> None:
        """Scan ``texts``, which all stand at ``where`` (a column or key).

        Raises at once on a DICOM UID and on a name that the stager gave to a patient or an item.
        """
        if _CONTEXT.search(where):
            self.context = True
        for text in texts:
            if any(len(found.group()) >= _MIN_UID_LENGTH for found in _UID.finditer(text)):
                raise IdentifierFoundError("a DICOM UID", where=where)
            if any(any(map(str.isdigit, found.group())) for found in _KEYED.finditer(text)):
                raise IdentifierFoundError("a name that stands for one patient or one item", where=where)
            for found in _TEN_DIGITS.finditer(text):
                digits = re.sub(r"[ -]", "", found.group(1))
                self.candidates += 1
                if is_nhs_number(digits):
                    self.nhs_numbers.add(digits)
                    self.nhs_places.add(where)
                    if _CONTEXT.search(text):
                        self.context = True
            if _DATE.search(text):
                self.date_places.add(where)

    def look_at_names(self, names: Iterable[str], where: str) -> None:
        """Scan names of columns or metrics: no honest one has ten digits, so one NHS number is enough."""
        texts = list(names)
        self.look(texts, where)
        for text in texts:
            for found in _TEN_DIGITS.finditer(text):
                if is_nhs_number(re.sub(r"[ -]", "", found.group(1))):
                    raise IdentifierFoundError("a name with the check digit of an NHS number", where=where)

    def look_at_counts(self, counts: Iterable[str], where: str) -> None:
        """Scan counts, of which no honest one has ten digits: one that passes as an NHS number is enough.

        A number that begins with 0, as those of Scotland may, loses it when written as a count.
        """
        for count in counts:
            if len(count) in (9, 10) and is_nhs_number(count.zfill(10)):
                raise IdentifierFoundError("a count with the check digit of an NHS number", where=where)

    def conclude(self) -> list[Finding]:
        """One random ten-digit number in eleven passes modulus 11, so a lone hit needs context to refuse."""
        hits = len(self.nhs_numbers)
        several = hits >= 3 and hits * 4 >= self.candidates
        if hits and (self.context or several):
            raise IdentifierFoundError(
                f"{hits} number(s) with the check digit of an NHS number",
                where=", ".join(sorted(self.nhs_places)),
            )
        findings = []
        if hits:
            message = f"{hits} ten-digit number(s) would pass as NHS numbers; this may be chance"
            findings.append(Finding("maybe-nhs-number", message, ", ".join(sorted(self.nhs_places))))
        findings += [
            Finding("full-date", "full dates; one known date can unmask a patient's others", place)
            for place in sorted(self.date_places)
        ]
        return findings


def is_nhs_number(digits: str) -> bool:
    """NHS Data Dictionary's check: weights 10 to 2, modulus 11, remainder 10 is never issued."""
    if not (digits.isascii() and digits.isdigit()) or len(digits) != 10 or len(set(digits)) == 1:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(digits[:9], range(10, 1, -1), strict=True))
    check = (11 - total % 11) % 11
    return check != 10 and check == int(digits[9])
