"""Attributes by keyword, wherever the object keeps them: at the top, in a sequence, in a functional group."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.valuerep import IS, DSfloat

from imaging.deid.body_parts import term_of
from imaging.staging.headers import Value
from imaging.staging.parsing.dicom.functional_groups import FunctionalGroups
from imaging.staging.parsing.dicom.values import TEXT_LIMIT, first, tag_of, text, value

_ENHANCED_NAMES = {
    "ImageType": "FrameType",
    "EchoTime": "EffectiveEchoTime",
    "InversionTime": "InversionTimes",
    "XRayTubeCurrent": "XRayTubeCurrentInmA",
    "ExposureTime": "ExposureTimeInms",
    "Exposure": "ExposureInmAs",
    "Laterality": "FrameLaterality",
    "ImageLaterality": "FrameLaterality",
    "PatientOrientation": "PatientOrientationInFrame",
    "GantryDetectorTilt": "GantryDetectorTilt",
}
"""What enhanced objects call it."""
_VALUES = 64
_KEPT = 5000
_plains: dict[int, tuple[DataElement, Value | None]] = {}
"""By identity: the element is kept with its value, so that no other can have its place."""


def attributes(dataset: Dataset, groups: FunctionalGroups, keywords: Iterable[str]) -> dict[str, Value]:
    """Those of ``keywords`` that have a plain value.

    ``A.B`` is attribute B of the first item of sequence A.  Attributes of functional groups are told where they
    are the same for all frames.
    """
    found: dict[str, Value] = {}
    # Elsewhere than at the top they can only be where there are groups, and a body part may be coded.
    there = dict(dataset.items())
    for keyword, tag in _tags(frozenset(keywords)):
        if tag not in there and not groups.present and keyword != "BodyPartExamined":
            continue
        element = there.get(tag) if tag is not None else None
        if isinstance(element, DataElement) and keyword.isalpha():
            told = _plain_of(element)
            if told is not None:
                found[keyword] = told
                continue
        told = _plain(_nested(dataset, groups, keyword) if "." in keyword else value(dataset, keyword))
        if told is None and "." not in keyword and groups.present:
            told = _plain(groups.constant(keyword))
            if told is None and keyword in _ENHANCED_NAMES:
                told = _plain(groups.constant(_ENHANCED_NAMES[keyword]))
        if told is None and keyword == "BodyPartExamined":
            told = _body_part(dataset, groups)
        if told is not None:
            found[keyword] = told
    return found


@functools.lru_cache(8)
def _tags(keywords: frozenset[str]) -> list[tuple[str, BaseTag | None]]:
    """Each keyword, in order, with the tag at the top under which it is looked for."""
    return [(keyword, tag_of(keyword.split(".")[0])) for keyword in sorted(keywords)]


def _plain_of(element: DataElement) -> Value | None:
    """The same again for an element that the next file has too."""
    kept = _plains.get(id(element))
    if kept is None:
        if len(_plains) > _KEPT:
            _plains.clear()
        kept = _plains[id(element)] = (element, _plain(element.value))
    return kept[1]


def _nested(dataset: Dataset, groups: FunctionalGroups, keyword: str) -> Any:
    *path, last = keyword.split(".")
    item: Dataset | None = dataset
    for step, sequence in enumerate(path):
        assert item is not None
        found = first(item, sequence)
        if found is None and step == 0 and groups.present:
            found = groups.constant_group(sequence) if _is_same(groups, sequence) else None
            if found is None:
                found = _inside(groups, sequence)
        item = found
        if item is None:
            return None
    return value(item, last) if item is not None else None


def _is_same(groups: FunctionalGroups, sequence: str) -> bool:
    return first(groups.shared, sequence) is not None or len(groups.per_frame) == 1


def _inside(groups: FunctionalGroups, sequence: str) -> Dataset | None:
    """The first item of a sequence that lies within a shared group."""
    found = groups.constant(sequence)
    return found[0] if isinstance(found, pydicom.Sequence) and len(found) else None


def _body_part(dataset: Dataset, groups: FunctionalGroups) -> str | None:
    region = first(dataset, "AnatomicRegionSequence")
    if region is None and groups.present:
        region = _inside(groups, "AnatomicRegionSequence")
    if region is None:
        return None
    return term_of(text(region, "CodeValue"), text(region, "CodingSchemeDesignator"))


def _plain(found: Any) -> Value | None:
    if found is None or isinstance(found, bytes | Dataset | pydicom.Sequence):
        return None
    if isinstance(found, MultiValue | list | tuple):
        parts = [_scalar(part) for part in list(found)[:_VALUES]]
        kept = tuple(part for part in parts if part is not None)
        return kept if len(kept) == len(parts) and kept else None
    return _scalar(found)


def _scalar(found: Any) -> str | int | float | None:
    if isinstance(found, IS) or (isinstance(found, int) and not isinstance(found, bool)):
        return int(found)
    if isinstance(found, DSfloat | float):
        return float(found) if math.isfinite(found) else None
    written = str(found).strip(" \0")
    return written if 0 < len(written) <= TEXT_LIMIT else None
