"""The tree of errors: eight kinds, each with one exit code and one HTTP status.

Every concrete error stands beside the rule that raises it, subclasses one of the eight kinds, and carries a
stable reason code (kebab-case).  The same code is the name of its example in ``jobspecs/invalid/``, the value
in JSON, the anchor in ``docs/reason-codes.md`` and the argument of ``hdrs-hpc explain``.

Nothing sensitive belongs in a message: no identifiers of patients, no keys, no paths inside an archive.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar


class HdrsError(Exception):
    """Root of all errors that this project raises on purpose.

    Parameters: ``message`` says what is wrong, in a sentence for the person who can act on it; ``where`` says
    in which document, line or item; ``remedy`` overrides the class's general remedy with a specific one.
    """

    kind: ClassVar[str] = "bug"
    exit_code: ClassVar[int] = 70
    http_status: ClassVar[int] = 500
    retry: ClassVar[bool] = False
    """Whether the same call may succeed later with nothing changed by the caller."""

    code: ClassVar[str] = "internal-bug"
    meaning: ClassVar[str] = "The program broke one of its own rules; this is our fault, not yours."
    remedy: str = "Report it with the command that led here; no data was released."

    def __init__(self, message: str = "", *, where: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message or self.meaning)
        self.message = message or self.meaning
        self.where = where
        if remedy is not None:
            self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.where, self.remedy))

    def as_dict(self) -> dict[str, Any]:
        """The form in ``--json`` output and HTTP bodies."""
        return {
            "kind": self.kind,
            "code": self.code,
            "message": self.message,
            "where": self.where,
            "remedy": self.remedy,
            "retry": self.retry,
        }

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return f"{self.code}: {self.message}{place}"


def _rebuild(cls: type[HdrsError], message: str, where: str | None, remedy: str) -> HdrsError:
    return cls(message, where=where, remedy=remedy)


class InternalError(HdrsError):
    """Our own bug: a broken invariant.  Never used for bad input."""


class UsageError(HdrsError):
    kind, exit_code, http_status = "usage", 2, 400
    code = "usage"
    meaning = "The command was typed in a way it does not understand."
    remedy = "See the command's --help, which ends with an example."


class BadDocumentError(HdrsError):
    kind, exit_code, http_status = "bad-document", 3, 422
    code = "bad-document"
    meaning = "A document or file is not what its format requires."
    remedy = "Mend the document at the place named and try again."


class NotAllowedError(HdrsError):
    kind, exit_code, http_status = "not-allowed", 4, 403
    code = "not-allowed"
    meaning = "The rules of the project, grant or site do not allow this."
    remedy = "Ask the project's custodian, or change the request so that it stays within the grant."


class NotFoundError(HdrsError):
    kind, exit_code, http_status = "not-found", 5, 404
    code = "not-found"
    meaning = "There is no such thing, or you may not know of it."
    remedy = "Check the name; `hdrs-hpc project list`, `job list` and `dataset list` show what you can see."


class ConflictError(HdrsError):
    kind, exit_code, http_status = "conflict", 6, 409
    code = "conflict"
    meaning = "It contradicts something that was accepted earlier."
    remedy = "Look at the present state first, then decide."


class SiteError(HdrsError):
    kind, exit_code, http_status, retry = "site", 7, 503, True
    code = "site-trouble"
    meaning = "A cluster, archive or network did not do its part."
    remedy = "Work that waits goes on by itself when the site is back; `hdrs-hpc cluster doctor` tells more."


class StoppedError(HdrsError):
    kind, exit_code, http_status, retry = "interrupted", 130, 503, True
    code = "interrupted"
    meaning = "It was stopped before it ended; what was done is kept."
    remedy = "Run the same command again; it goes on where it stopped."


KINDS: tuple[type[HdrsError], ...] = (
    UsageError,
    BadDocumentError,
    NotAllowedError,
    NotFoundError,
    ConflictError,
    SiteError,
    InternalError,
    StoppedError,
)


def all_errors() -> dict[str, type[HdrsError]]:
    """Every error class that is imported now, by reason code; a duplicate code is our bug."""
    found: dict[str, type[HdrsError]] = {}
    stack: list[type[HdrsError]] = [*KINDS]
    while stack:
        cls = stack.pop()
        if "code" in vars(cls) or cls in KINDS:
            other = found.get(cls.code)
            if other is not None and other is not cls:
                raise InternalError(f"reason code {cls.code} belongs to {other.__name__} and {cls.__name__}")
            found[cls.code] = cls
        stack.extend(cls.__subclasses__())
    return found


def raised_at(error: Exception) -> str:
    """File and line of our own or a library's code where an exception was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"
