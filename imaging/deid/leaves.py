"""Elements that are no sequence and no bulk: one function a kind of VR."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from pydicom import _uid_dict, charset, config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from imaging.deid import annex_e, rules
from imaging.deid.annex_e import TEMPORAL, Action, Option
from imaging.deid.attribute_kinds import kind
from imaging.deid.body_parts import BODY_PARTS
from imaging.deid.keyed import DeidKey
from imaging.deid.object_profiles import ObjectProfile
from imaging.deid.reading_elements import values_of
from imaging.deid.text import Identifiers, cleaned, is_technical
from imaging.deid.values import REMOVED, dummy, moved
from imaging.deid.words import is_product, is_safe

TEXT = frozenset({"LO", "SH", "ST", "LT", "UT", "UC"})

_DEVICE_WRITTEN = kind("device_written")
"""Text that a device writes of itself: kept as it is unless it names somebody or has the shape of an id."""

_STANDARD_SCHEMES = kind("standard_schemes")
_IDENTIFYING = kind("identifying")
_SIZES = frozenset({"Rows", "Columns", "TotalPixelMatrixRows", "TotalPixelMatrixColumns"})
"""Numbers that the pixels confirm: nobody's, whatever they are equal to."""
_STRUCTURAL, _TERMS = kind("structural"), kind("terms")
_CODED = frozenset({"CodeValue", "CodeMeaning", "LongCodeValue"})
_STRUCTURAL_UID = re.compile(
    r"(?:SOPClass|TransferSyntax|CodingScheme|Context|MappingResource|Template)\w*UID$"
)
_UID = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))+")
_CODE_STRING = re.compile(r"[A-Za-z0-9_ ]{0,16}")
_LONG_NUMBER = re.compile(r"\d{5,}")


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose object it is."""

    key: DeidKey
    issuer: str
    pseudonym: str

    @property
    def patient(self) -> rules.Patient:
        return rules.Patient(self.key, self.pseudonym)


def subject_of(dataset: Dataset, key: DeidKey, issuer: str) -> Subject:
    """The same pseudonym that staging gives: by issuer and id, else by study."""
    patient_id = str(dataset.get("PatientID") or "").strip()
    named = str(dataset.get("IssuerOfPatientID") or "").strip() or issuer
    if patient_id:
        return Subject(key, issuer, key.patient(named, patient_id))
    return Subject(key, issuer, key.patient_of_study(str(dataset.get("StudyInstanceUID") or "")))


def leaf(
    element: DataElement,
    action: Action | None,
    parent: Dataset,
    subject: Subject,
    known: Identifiers,
    profile: ObjectProfile,
) -> DataElement | None:
    """What becomes of one element; None leaves it out."""
    keyed = _KEYED.get(element.keyword)
    if keyed is not None:
        value = str(element.value or "").strip()
        return _with(element, keyed(subject, value) if value or element.keyword == "PatientID" else "")
    if element.keyword == "SpecificCharacterSet":
        named = [str(value).strip() for value in values_of(element)]
        return _with(element, element.value if set(named) <= set(charset.python_encoding) else "ISO_IR 192")
    vr = element.VR
    if not values_of(element):
        return _with(element, element.value if action is not Action.DUMMY else dummy(vr))
    if action in (Action.EMPTY, Action.DUMMY):
        return without_value(element, action)
    if vr == "UI":
        return _uids(element, action, subject, known, profile)
    if vr in TEMPORAL:
        return _temporal(element, action, subject, known, profile)
    if vr == "AS":
        return _each(element, lambda value: rules.age(subject.patient, value) or "")
    if vr == "PN":
        return _with(element, "")
    if vr in ("AE", "UR"):
        values = [unquote(str(value)) for value in values_of(element)]
        harmless = action is Action.KEEP and not any(map(known.is_in, values))
        return _with(element, element.value) if harmless else None
    if vr == "CS":
        return _each(element, lambda value: _code_string(element.keyword, str(value), known))
    if vr in TEXT:
        return _text(element, action, parent, known)
    if element.keyword not in _SIZES and known.is_in_numbers(values_of(element)):
        return None
    return _with(element, element.value)


def without_value(element: DataElement, action: Action | None) -> DataElement | None:
    """Emptied or with a dummy; None if neither is wanted."""
    if action is Action.EMPTY:
        return _with(element, b"" if element.VR.startswith("O") else "" if element.VR != "SQ" else [])
    return _with(element, dummy(element.VR)) if action is Action.DUMMY else None


def _uids(
    element: DataElement, action: Action | None, subject: Subject, known: Identifiers, profile: ObjectProfile
) -> DataElement:
    carries = any(known.is_in_digits(str(value)) for value in values_of(element))
    if Option.RETAIN_UIDS in profile.options and not carries:
        return _with(element, element.value)
    if action is Action.KEEP and not carries:
        return _with(element, element.value)
    structural = _STRUCTURAL_UID.search(element.keyword) is not None

    def replaced(value: Any) -> str:
        text = str(value).strip("\0 ")
        if text in _uid_dict.UID_dictionary:
            return text
        if structural and len(text) <= 64 and _UID.fullmatch(text) and not known.is_in_digits(text):
            return text
        return subject.key.uid(text) if text else ""

    return _each(element, replaced)


def _temporal(
    element: DataElement, action: Action | None, subject: Subject, known: Identifiers, profile: ObjectProfile
) -> DataElement:
    if any(known.is_in_digits(_of_day(element.VR, str(one))) for one in values_of(element)):
        return _with(element, dummy(element.VR))
    if action is Action.KEEP or Option.RETAIN_FULL_DATES in profile.options:
        return _with(element, element.value)
    if action is Action.SHIFT or (action is None and Option.RETAIN_MODIFIED_DATES in profile.options):
        values = [moved(subject.key, subject.pseudonym, element.VR, str(one)) for one in values_of(element)]
        if None not in values:
            return _with(element, values if len(values) > 1 else values[0])
    wants_value = (annex_e.listed(int(element.tag)) or "Z").endswith("D")
    return _with(element, dummy(element.VR) if wants_value else "")


def _of_day(vr: str, value: str) -> str:
    """What of a temporal value is not moved with its date: a time, the fraction of a second."""
    return {"TM": value, "DT": re.split(r"[+-]", value.partition(".")[2])[0]}.get(vr, "")


def _text(
    element: DataElement, action: Action | None, parent: Dataset, known: Identifiers
) -> DataElement | None:
    coded = element.keyword in _CODED and str(parent.get("CodingSchemeDesignator")) in _STANDARD_SCHEMES
    coded = coded or element.keyword in ("CodeValue", "CodingSchemeDesignator")
    by_device = action is None and element.keyword in _DEVICE_WRITTEN

    def judged(value: Any) -> str:
        text = str(value)
        if action is Action.KEEP:
            names = any(known.names(word) for word in re.findall(r"\w+", text))
            carries = element.keyword not in _IDENTIFYING and known.is_in_digits(text)
            return REMOVED if names or carries else text
        if coded and is_technical(text, known):
            return text
        if by_device:
            whole = is_technical(text, known) and all(map(is_product, re.findall(r"[^\W_]+", text)))
            return text if whole else cleaned(text, known, is_product)
        return cleaned(text, known)

    kept = [judged(value) for value in values_of(element)]
    if any(kept):
        return _with(element, kept if len(kept) > 1 else kept[0])
    code = annex_e.listed(int(element.tag)) or "D"
    if code.endswith("D"):
        return _with(element, REMOVED)
    return _with(element, "") if code.endswith("Z") else None


def _code_string(keyword: str, value: str, known: Identifiers) -> str:
    """A code string is from a closed vocabulary: one that holds a name or a long number is not."""
    text = value.strip()
    if keyword == "BodyPartExamined" and text.upper() in BODY_PARTS:
        return text
    if keyword in _STRUCTURAL and text in _TERMS:
        return text
    words = text.replace("_", " ").split()
    if any(len(word) > 3 and known.names(word) for word in words):
        return REMOVED
    if any(known.initials.all_of(word) and not is_safe(word) for word in words):
        return REMOVED
    if all(is_safe(word) for word in words):
        return text
    # Of a body part and of what follows an image's first two types anybody may write anything.
    is_open = keyword in ("BodyPartExamined", "ImageType")
    if is_open or _CODE_STRING.fullmatch(text) is None or _LONG_NUMBER.search(text) or known.is_in(text):
        return "" if keyword == "BodyPartExamined" else REMOVED
    return text


def _each(element: DataElement, change: Callable[[Any], Any]) -> DataElement:
    values = [change(value) for value in values_of(element)]
    return _with(element, values if len(values) > 1 else values[0])


def _with(element: DataElement, value: Any) -> DataElement:
    return DataElement(element.tag, element.VR, value, validation_mode=config.IGNORE)


_KEYED: dict[str, Callable[[Subject, str], str]] = {
    "PatientID": lambda subject, value: subject.pseudonym,
    "PatientName": lambda subject, value: subject.pseudonym,
    "AccessionNumber": lambda subject, value: subject.key.number("accession", subject.issuer, value),
    "StudyID": lambda subject, value: subject.key.number("study", subject.issuer, value),
}
"""Replaced under the key, so that objects of one patient or order still belong together."""
