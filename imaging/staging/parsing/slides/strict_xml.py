"""XML out of untrusted files: bounded, and without anything that could be expanded or fetched."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from imaging.staging.parsing.unreadable import Unreadable

MAX_BYTES = 64 << 20
_MAX_DEPTH = 64
_DECLARATION = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)


def parse(text: str) -> ElementTree.Element:
    """The root element, names without their namespaces.  Raises :class:`Unreadable`."""
    text = text.strip("\0 \r\n\t\ufeff")
    if len(text) > MAX_BYTES or _DECLARATION.search(text):
        raise Unreadable("malformed-slide")
    try:
        # No document type: nothing to expand.  Bytes, since a declared encoding is refused for text.
        root = ElementTree.fromstring(text.encode("utf-8", "replace"))  # noqa: S314
    except (ElementTree.ParseError, ValueError, LookupError):
        raise Unreadable("malformed-slide") from None
    _strip(root)
    return root


def _strip(root: ElementTree.Element) -> None:
    level = [root]
    for _ in range(_MAX_DEPTH):
        for element in level:
            if isinstance(element.tag, str):
                element.tag = element.tag.rpartition("}")[2]
        level = [child for element in level for child in element]
        if not level:
            return
    raise Unreadable("malformed-slide")
