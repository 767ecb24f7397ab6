"""What the airlock says: refusals end an artefact, findings are for the eyes of the two reviewers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hdrs_hpc.core.errors import BadDocumentError


class ArtefactRefusedError(BadDocumentError):
    """Parent of every refusal by content.  Messages never quote a value out of the artefact."""

    code = "artefact-refused"
    meaning = "The artefact is not what its class may hold."
    remedy = "See docs/output-checking.md for what each class may hold, and write the artefact again."


class NothingLeftError(ArtefactRefusedError):
    code = "nothing-left-to-release"
    meaning = "Every count is too small to be shown, and what describes only small groups does not leave."
    remedy = "Merge categories or widen bins until some groups reach the grant's min-count."


class UndeclaredCountError(ArtefactRefusedError):
    code = "undeclared-count"
    meaning = "A metric is a whole number, 3.0 included, that the spec declares neither as a count nor as a measure."
    remedy = (
        "Declare it under `columns`, as a count of people or things or as a measure (a median in mm, a year)."
    )


class CannotProtectError(ArtefactRefusedError):
    code = "table-cannot-be-protected"
    meaning = "Small counts in this table could be worked out whatever else is suppressed."
    remedy = (
        "Merge categories so that fewer counts are small, leave out columns that repeat others, "
        "and call the rows of totals Total."
    )

    def __init__(self, message: str = "", *, where: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.sheets: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Finding:
    """Something a reviewer should look at; it does not stop the artefact by itself."""

    code: str
    message: str
    where: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "where": self.where}
