"""What one instance says of people, looked for in what a profile would keep of it.

A profile keeps attributes that should hold no text of a person.  Writers put text there all the same.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from imaging.deid.text import Identifiers
from imaging.deid.words import is_safe

type Value = str | int | float | tuple[str | int | float, ...]

IDENTIFYING = frozenset(
    {
        "AccessionNumber", "AdmissionID", "ContainerIdentifier", "DeviceSerialNumber", "InstitutionAddress",
        "InstitutionName", "InstitutionalDepartmentName", "NameOfPhysiciansReadingStudy", "OperatorsName",
        "OtherPatientIDs", "OtherPatientIDsSequence.PatientID", "OtherPatientNames", "PatientAddress",
        "PatientBirthDate", "PatientBirthName", "PatientID", "PatientMotherBirthName", "PatientName",
        "PatientTelephoneNumbers", "PerformedProcedureStepID", "PerformingPhysicianName", "PhysiciansOfRecord",
        "ReferringPhysicianName", "RequestingPhysician", "RequestedProcedureID", "ResponsiblePerson",
        "StationName", "StudyID",
    }
)  # fmt: skip
"""Asked for only to be looked for in other attributes of the same instance."""
_PART = re.compile(r"[^\W_]+")
_SHORT = 4
"""Parts up to this length count as whole words only: MARY is in PRIMARY."""
_LONG_NUMBER = 1e5


class Guard:
    """Names and ids of one instance, and their parts of three letters or digits and more."""

    def __init__(self, said: Mapping[str, Value]) -> None:
        dataset = Dataset()
        parts: set[str] = set()
        for keyword, value in said.items():
            last = keyword.rpartition(".")[2]
            texts = [str(part) for part in (value if isinstance(value, tuple) else (value,))]
            vr, tag = dictionary_VR(last), tag_for_keyword(last)
            assert tag is not None
            item = dataset if "." not in keyword else Dataset()
            item.add(DataElement(tag, vr, texts, validation_mode=config.IGNORE))
            if item is not dataset:
                # Elements of a sequence count as those at the top do; any sequence serves.
                dataset.OtherPatientIDsSequence = [item]
            # Of an institution's name the words of anatomy and technique name nobody; of a person's name all may.
            found = {part for text in texts for part in _PART.findall(text.casefold()) if len(part) > 2}
            parts |= (
                found if vr == "PN" else {part for part in found if not (part.isalpha() and is_safe(part))}
            )
            if vr == "DA":
                parts |= {text.strip()[:4] for text in texts}
        self.known = Identifiers(dataset)
        self._parts = frozenset(parts)
        self._long = tuple(part for part in parts if len(part) > _SHORT)

    def is_in(self, value: Value) -> bool:
        """Whether a value names somebody or carries an id or a part of one."""
        if isinstance(value, tuple):
            return any(self.is_in(part) for part in value)
        if not isinstance(value, str):
            return abs(value) >= _LONG_NUMBER and self.is_in(f"{abs(value):.0f}")
        words = _PART.findall(value.casefold())
        if self.known.is_in(value) or any(word in self._parts for word in words):
            return True
        # Across what separates words too, but not within a word that is harmless as it stands.
        glued = "".join(word if not is_safe(word) else " " for word in words)
        return any(part in glued for part in self._long)


def guard(attributes: Mapping[str, Value]) -> Guard:
    """Of all raw attributes of an instance; instances of one patient share it."""
    return _guard(frozenset((key, value) for key, value in attributes.items() if key in IDENTIFYING))


@functools.lru_cache(1024)
def _guard(said: frozenset[tuple[str, Value]]) -> Guard:
    return Guard(dict(said))
