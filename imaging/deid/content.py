"""Structured reports and coded people: dummies where an item must be, ages folded inside measurements."""

from __future__ import annotations

from collections.abc import Callable

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.valuerep import format_number_as_ds

from imaging.deid.reading_elements import BROKEN
from imaging.deid.rules import MAX_PLAIN_AGE_YEARS
from imaging.deid.values import REMOVED


def _coded(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _unknown() -> Dataset:
    return _coded("261665006", "SCT", "Unknown")


def _removed_text() -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = Sequence([_coded("121106", "DCM", "Comment")])
    item.TextValue = REMOVED
    return item


REPLACED: dict[str, Callable[[], Dataset]] = {
    "ContentSequence": _removed_text,
    "PersonIdentificationCodeSequence": _unknown,
    "InstitutionCodeSequence": _unknown,
}
"""Sequences whose items are replaced as a whole by one that says nothing."""


def cap_age(item: Dataset) -> None:
    """An age in years above 89 inside a NUM content item becomes 90, in place."""
    try:
        for measured in item.get("MeasuredValueSequence") or ():
            units = measured.get("MeasurementUnitsCodeSequence") or ()
            if any(str(unit.get("CodeValue", "")) == "a" for unit in units):
                value = float(measured.NumericValue)
                if value > MAX_PLAIN_AGE_YEARS:
                    measured.NumericValue = format_number_as_ds(float(MAX_PLAIN_AGE_YEARS + 1))
    except BROKEN:
        item.pop("MeasuredValueSequence", None)
