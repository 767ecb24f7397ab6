"""What a count counts, told by the words of its declaration: ``patients``, "series of images", ``n_slides``.

The words decide how a cell is judged, whatever its column is called.
"""

from __future__ import annotations

import re
from enum import StrEnum


class Counted(StrEnum):
    PEOPLE = "people"
    ITEMS = "items"
    """Volumes, slides, rows of linked tables, and what each of them is part of."""
    THINGS = "things"
    """Whatever else: at most as many as the archive's instances."""


_EVERYBODY = frozenset({"patients", "people", "persons", "subjects", "participants", "individuals"})
_UNITS = {
    Counted.PEOPLE: "patients people persons subjects participants individuals donors women men adults children",
    Counted.ITEMS: "series studies volumes slides",
    Counted.THINGS: "instances images scans slices files frames",
}
_UNIT_OF = {word: counted for counted, words in _UNITS.items() for word in words.split()}
_CONNECTING = re.compile(
    r"\b(?:of|with|without|in|at|by|per|from|on|for|to|under|over|who|whose|that|which|having|between|aged)\b"
)


def same(words: str, others: str) -> bool:
    """Whether two counts count the same: in the same words, or everybody, however they are called."""
    both = {" ".join(said.casefold().split()) for said in (words, others)}
    return len(both) == 1 or both <= _EVERYBODY


def what(words: str) -> Counted:
    """What ``words`` count: the last unit before a connecting word, so that "images of patients" are images."""
    head = _CONNECTING.split(words.casefold().replace("_", " "), maxsplit=1)[0]
    units = [_UNIT_OF[word] for word in re.findall(r"[a-z]+", head) if word in _UNIT_OF]
    return units[-1] if units else Counted.THINGS
