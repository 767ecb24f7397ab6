"""What ``grant draft`` and ``spec new`` write where a person must: a document that still says it is not signed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hdrs_hpc.core.errors import BadDocumentError

PROJECT = "your-project"
LEAD = "your-lead"
DATASET = "your-dataset"
CLUSTER = "your-cluster"
COMMITTEE = "Your Data Access Committee"
REFERENCE = "DAC-0000"
CONTACT = "your-committee@your.hospital"
TITLE = "What this project is about, in a line"
LAY_SUMMARY = "Say here for anybody, patients too, what the project does with the data and why"
PURPOSE = "Say in a sentence what this run is for; custodians and checkers read it"
COLUMN = "your-column"
VERSION = f"sha256:{'0' * 64}"

_ALL = frozenset(
    {
        PROJECT,
        LEAD,
        DATASET,
        CLUSTER,
        COMMITTEE,
        REFERENCE,
        CONTACT,
        TITLE,
        LAY_SUMMARY,
        PURPOSE,
        COLUMN,
        VERSION,
    }
)


class DraftUnfilledError(BadDocumentError):
    code = "draft-unfilled"
    meaning = "The document still says what a new draft says where a person must fill something in."
    remedy = "Fill in what the message names, then sign."


def places(value: Any, where: str = "") -> Iterator[str]:
    """Where a document's value still holds a draft's words, names of datasets among them."""
    if isinstance(value, dict):
        for name, item in value.items():
            here = f"{where}.{name}" if where else str(name)
            if name in _ALL:
                yield here
            yield from places(item, here)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from places(item, f"{where}[{index}]")
    elif isinstance(value, str) and value in _ALL:
        yield where


def require_filled(value: Any) -> None:
    """Raise DraftUnfilledError that names every place still to be filled in."""
    found = list(dict.fromkeys(places(value)))
    if found:
        raise DraftUnfilledError(f"not filled in yet: {', '.join(found)}", where=found[0])
