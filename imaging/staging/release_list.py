"""The list by which a person releases held images: JSON with the inventory that its item numbers are rows of.

::

    {"schema": "hdrs-hpc/released-items/1", "inventory": "sha256:…", "items": [12, 40]}

A list made over another version of the dataset is refused: its numbers would name other images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import BadDocumentError, ConflictError

SCHEMA = "hdrs-hpc/released-items/1"


class ReleaseListError(BadDocumentError):
    code = "release-list-malformed"
    meaning = "The list of released items is not JSON with schema, inventory and item numbers."
    remedy = "Begin with the release.json that `hdrs-hpc imaging sheet --held` writes."


class ReleaseForOtherDataError(ConflictError):
    code = "release-for-other-data"
    meaning = (
        "The released items were looked at in another version of the dataset; numbers name other images now."
    )
    remedy = "Look at the held images of this version and release them anew."


def parse(raw: bytes) -> tuple[str, frozenset[int]]:
    """(inventory digest, item numbers).  Raises :class:`ReleaseListError`."""
    said: Any = strict_json.loads(raw)
    if not isinstance(said, dict) or said.get("schema") != SCHEMA:
        raise ReleaseListError("another schema")
    items, inventory = said.get("items"), said.get("inventory")
    if (
        isinstance(items, list)
        and isinstance(inventory, str)
        and all(type(one) is int and one > 0 for one in items)
    ):
        return inventory, frozenset(items)
    raise ReleaseListError("inventory is a digest, items are whole numbers from 1")


def to_bytes(
    inventory: str, items: list[int], held: list[int], why: Mapping[int, str] | None = None
) -> bytes:
    """A list that releases ``items``; ``held`` is for the person who moves numbers over, ``why`` names the rule that
    holds each."""
    told = {str(number): rule for number, rule in (why or {}).items()}
    return strict_json.dumps(
        {"schema": SCHEMA, "inventory": inventory, "items": items, "held": held, "why": told}
    )
