"""De-identification of whole DICOM objects after PS3.15 annex E, under a project's key.

Element by element, at any depth, from the public table and the profile's options.  What the table does not name
stays only if its kind can be judged: numbers, code strings, UIDs, text of known harmless words, pixel data.
Elements that no dictionary knows, of unknown VR or of unjudged bytes go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pydicom import config
from pydicom.datadict import dictionary_has_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from hdrs_hpc.core.errors import NotAllowedError
from imaging.deid import annex_e, bulk, content, graphics, leaves, stamp
from imaging.deid.annex_e import Action, Option
from imaging.deid.keyed import DeidKey
from imaging.deid.object_profiles import ObjectProfile
from imaging.deid.private import safe_elements
from imaging.deid.reading_elements import elements, readable
from imaging.deid.text import Identifiers

PixelCleaner = Callable[[Dataset], None]
"""Blanks what is written into the pixels of a data set, in place; raises if it can't."""

MAX_DEPTH = 32


class UndeidentifiableError(NotAllowedError):
    code = "deidentification-refused"
    meaning = "The object holds what no rule can make harmless, or the profile lacks what it promises."
    remedy = "Leave the object out, or choose a profile that handles it."


def deidentify(
    dataset: Dataset,
    profile: ObjectProfile,
    key: DeidKey,
    issuer: str = "",
    *,
    pixels: PixelCleaner | None = None,
) -> Dataset:
    """A new data set without what identifies; ``dataset`` itself is not changed.

    ``issuer`` stands for the issuer of patient ids where the object names none.  ``pixels`` is called on the
    result if the profile cleans pixel data.  Raises :class:`UndeidentifiableError` for encapsulated documents,
    for burned-in text that the profile does not clean, for a promise of clean pixels without ``pixels``, and
    for nesting beyond any real object's.
    """
    source = readable(dataset)
    _refuse(source, profile, pixels)
    work = _Work(source, profile, key, issuer)
    result = work.whole()
    if pixels is not None and Option.CLEAN_PIXELS in profile.options:
        pixels(result)
        result.BurnedInAnnotation = "NO"
    return result


def _refuse(dataset: Dataset, profile: ObjectProfile, pixels: PixelCleaner | None) -> None:
    if not dataset.get("SOPClassUID") or not dataset.get("SOPInstanceUID"):
        raise UndeidentifiableError("it does not say which object of which kind it is")
    if "EncapsulatedDocument" in dataset:
        raise UndeidentifiableError("an encapsulated document can't be cleaned")
    if "DirectoryRecordSequence" in dataset:
        raise UndeidentifiableError("an index of files is not an object of its own")
    promised = {Option.CLEAN_PIXELS} & profile.options
    if promised and pixels is None:
        raise UndeidentifiableError("the profile promises clean pixels and nothing is given to clean them")
    if str(dataset.get("BurnedInAnnotation", "")).strip().upper() == "YES" and not promised:
        raise UndeidentifiableError("text is burned into its pixels, which this profile does not clean")


class _Work:
    """One object under one profile."""

    def __init__(self, dataset: Dataset, profile: ObjectProfile, key: DeidKey, issuer: str) -> None:
        self._source = dataset
        self._profile = profile
        self._options = profile.options
        self._known = Identifiers(dataset)
        self._subject = leaves.subject_of(dataset, key, issuer)

    def whole(self) -> Dataset:
        result = self._cleaned(self._source, depth=0)
        stamp.stamp(result, self._source, self._profile)
        stamp.file_meta(result, self._source)
        return result

    def _cleaned(self, dataset: Dataset, depth: int) -> Dataset:
        if depth > MAX_DEPTH:
            raise UndeidentifiableError("its sequences are nested beyond all reason")
        result = Dataset()
        parent = readable(dataset)
        safe: Iterable[DataElement] = ()
        if Option.RETAIN_SAFE_PRIVATE in self._options:
            safe = safe_elements(parent, self._known)
        public = (element for element in elements(parent) if not element.tag.is_private)
        for element in (*public, *safe):
            try:
                kept = (
                    _like(element, element.value)
                    if element.tag.is_private
                    else self._element(element, parent, depth)
                )
            except (ValueError, OverflowError):
                continue  # its value is none of its VR: it can't be judged and goes
            if kept is not None:
                result[kept.tag] = kept
        return result

    def _element(self, element: DataElement, parent: Dataset, depth: int) -> DataElement | None:
        tag, vr = element.tag, element.VR
        if not _is_judged(tag, vr):
            return None
        if graphics.is_curve_or_overlay(tag):
            keeps = Option.CLEAN_GRAPHICS in self._options and graphics.is_region(parent, tag)
            return _like(element, element.value) if keeps and graphics.is_plain(tag) else None
        action = annex_e.action(int(tag), vr, self._options)
        if action is Action.REMOVE:
            return None
        if vr == "SQ":
            return self._sequence(element, action, depth)
        if vr in bulk.BYTES:
            return self._bytes(element, action, depth)
        return leaves.leaf(element, action, parent, self._subject, self._known, self._profile)

    def _bytes(self, element: DataElement, action: Action | None, depth: int) -> DataElement | None:
        if not isinstance(element.value, bytes):
            return None  # broken: another VR was read as bytes
        if element.keyword == "PixelData" and depth == 0 and element.value:
            return _like(element, bulk.pixel_data(element, self._source))
        if self._known.is_in_bytes(element.value):
            return leaves.without_value(element, action)
        if element.keyword in bulk.KEPT or action is Action.KEEP:
            return _like(element, element.value)
        return leaves.without_value(element, action)

    def _sequence(self, element: DataElement, action: Action | None, depth: int) -> DataElement | None:
        items: list[Dataset] = list(element.value or ())
        if action is Action.EMPTY:
            items = []
        elif action is Action.DUMMY and element.keyword in content.REPLACED:
            items = [content.REPLACED[element.keyword]()] if items else []
        else:
            items = [self._cleaned(item, depth + 1) for item in items]
            if element.keyword == "ContentSequence":
                for item in items:
                    content.cap_age(item)
        return _like(element, Sequence(items))


def _is_judged(tag: BaseTag, vr: str) -> bool:
    """Whether there is a rule for the element at all."""
    if tag.is_private or tag.element == 0 or tag.group < 0x0008 or vr == "UN":
        return False
    return graphics.is_curve_or_overlay(tag) or bool(dictionary_has_tag(tag))


def _like(element: DataElement, value: Any) -> DataElement:
    like = DataElement(element.tag, element.VR, value, validation_mode=config.IGNORE)
    like.is_undefined_length = element.is_undefined_length
    return like
