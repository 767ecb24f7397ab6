"""Standard elements that a file gives under VR UN, read by the VR that the dictionary gives them.

A system that did not know an element when it stored or sent it may write UN (PS3.5 6.2.2).  The value is then encoded
as implicit VR little-endian, whatever the transfer syntax.  pydicom reads short ones so, and only of little-endian
files; :func:`register` teaches it the rest: values of any length, sequences among them, and big-endian files.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any, Final

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.hooks import hooks, raw_element_value, raw_element_vr
from pydicom.tag import BaseTag

_WORDS: Final = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
"""Bytes of a word of VRs whose values pydicom leaves as they lie in the file."""
_BITS_ALLOCATED, _PIXEL_REPRESENTATION = BaseTag(0x00280100), BaseTag(0x00280103)


def register() -> None:
    """Make pydicom convert elements in this process so; again is no harm."""
    hooks.register_callback("raw_element_vr", _vr)
    hooks.register_callback("raw_element_value", _value)


def standard_vr(tag: BaseTag, dataset: Dataset | None = None) -> str | None:
    """The VR that the dictionary gives a standard element; None for private and unknown ones.

    Where it leaves a choice, ``dataset`` decides as for implicit VR (PS3.5 A.1).
    """
    if tag.is_private:
        return None
    try:
        vr = "UL" if tag.element == 0 else dictionary_VR(tag)
    except KeyError:
        return None
    if vr == "US or SS":
        return "SS" if _number(dataset, _PIXEL_REPRESENTATION) == 1 else "US"
    if vr == "OB or OW":
        return "OB" if tag == 0x7FE00010 and 1 < _number(dataset, _BITS_ALLOCATED) <= 8 else "OW"
    return "OW" if " or " in vr else vr


def _number(dataset: Dataset | None, tag: BaseTag) -> int:
    found = None if dataset is None else dataset.get(tag)
    value = None if found is None else found.value
    return value if isinstance(value, int) else 0


def _vr(
    raw: RawDataElement,
    data: dict[str, Any],
    *,
    encoding: str | MutableSequence[str] | None = None,
    ds: Dataset | None = None,
    **more: Any,
) -> None:
    known = standard_vr(raw.tag, ds) if raw.VR == "UN" else None
    if known is None:
        raw_element_vr(raw, data, encoding=encoding, ds=ds, **more)
    else:
        data["VR"] = known


def _value(
    raw: RawDataElement,
    data: dict[str, Any],
    *,
    encoding: str | MutableSequence[str] | None = None,
    ds: Dataset | None = None,
    **more: Any,
) -> None:
    big_endian = raw.VR == "UN" and data["VR"] != "UN" and not raw.is_little_endian
    if big_endian:
        raw = raw._replace(is_little_endian=True)
    raw_element_value(raw, data, encoding=encoding, ds=ds, **more)
    width = _WORDS.get(data["VR"])
    if big_endian and width is not None and isinstance(data["value"], bytes):
        # Whoever takes such bytes looks at the file's byte order.
        data["value"] = swapped(data["value"], width)


def swapped(raw: bytes, width: int) -> bytes:
    """Words of ``width`` bytes in the other byte order; a torn last word is left out."""
    whole = bytearray(raw[: len(raw) // width * width])
    turned = bytearray(len(whole))
    for place in range(width):
        turned[place::width] = whole[width - 1 - place :: width]
    return bytes(turned)
