"""What a verification found, for people and for programs.  A report exists only if nothing was wrong."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Mark(StrEnum):
    PROVEN = "proven"
    NOTE = "note"
    """True and worth knowing, such as an assurance of DEMO or a key destroyed late."""
    NOT_PROVEN = "not-proven"


@dataclass(frozen=True, slots=True)
class Line:
    mark: Mark
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """``anchored`` tells whether the trust root was compared with a digest learnt by another way."""

    about: str
    lines: tuple[Line, ...]
    anchored: bool
    facts: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return {
            "about": self.about,
            "anchored": self.anchored,
            "lines": [{"mark": line.mark.value, "text": line.text} for line in self.lines],
            "facts": self.facts,
        }


def anchor_line(root_digest: str, *, anchored: bool) -> Line:
    """The line on what all of it rests on."""
    if anchored:
        return Line(Mark.PROVEN, f"the trust root is the one whose digest you gave, {root_digest}")
    return Line(
        Mark.NOT_PROVEN,
        f"self-consistent only: compare {root_digest} with the digest you got by another way (--root-digest)",
    )
