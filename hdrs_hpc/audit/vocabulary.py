"""What an entry of the log may be made of: kinds of value, subjects, actors, and the rows of the table.

The log is read by people who may see no patient data, so it has no free text: every value is an id, a name, a
digest, a number, a time or a code, and a key that is not in the table is refused when it is written *and*
when it is verified.  Content that was not released appears only as a salted commitment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hdrs_hpc.core.errors import BadDocumentError

MAX_LIST = 512
MAX_COUNT = 2**53 - 1
"""The largest integer that every JSON reader keeps exact (RFC 8259 §6)."""


class EntryMalformedError(BadDocumentError):
    code = "audit-entry-malformed"
    meaning = "A log entry is not written as the table of events requires."
    remedy = "An entry read from an export was altered or made by another version; fetch the export again."


class Value(Enum):
    """A kind of value an entry may hold; the pattern is all of its syntax."""

    NAME = r"[a-z][a-z0-9-]{0,39}"
    ID = r"[0-9A-Za-z][0-9A-Za-z-]{1,63}"
    WORD = r"[0-9A-Za-z][0-9A-Za-z._+:@-]{0,79}"
    CODE = r"[a-z][a-z0-9-]{0,59}(@[0-9]{1,4})?"
    STATE = r"[A-Z][A-Z_]{1,23}"
    DIGEST = r"sha256:[0-9a-f]{64}"
    TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
    COUNT = "whole number from 0"
    NUMBER = "whole number"
    FLAG = "true or false"
    NAMES = "list of names"
    WORDS = "list of words"
    CODES = "list of codes"
    DIGESTS = "list of digests"

    def fits(self, value: Any) -> bool:
        """Whether ``value`` is one of this kind; bool is never a number here."""
        if self in _LISTS:
            one = _LISTS[self]
            return isinstance(value, list) and len(value) <= MAX_LIST and all(one.fits(v) for v in value)
        if self is Value.FLAG:
            return isinstance(value, bool)
        if self in (Value.COUNT, Value.NUMBER):
            low = 0 if self is Value.COUNT else -MAX_COUNT
            return isinstance(value, int) and not isinstance(value, bool) and low <= value <= MAX_COUNT
        return isinstance(value, str) and _PATTERNS[self].fullmatch(value) is not None


_LISTS = {
    Value.NAMES: Value.NAME,
    Value.WORDS: Value.WORD,
    Value.CODES: Value.CODE,
    Value.DIGESTS: Value.DIGEST,
}
_PATTERNS = {
    kind: re.compile(kind.value, re.ASCII)
    for kind in (Value.NAME, Value.ID, Value.WORD, Value.CODE, Value.STATE, Value.DIGEST, Value.TIME)
}

SUBJECTS: dict[str, Value] = {
    "project": Value.NAME,
    "dataset": Value.NAME,
    "cluster": Value.NAME,
    "person": Value.NAME,
    "job": Value.ID,
    "copy": Value.ID,
    "attempt": Value.WORD,
    "artefact": Value.NAME,
    "key": Value.WORD,
    "node": Value.WORD,
    "document": Value.DIGEST,
}
"""What an entry can be about.  ``document`` is the digest of a signed payload."""

ACTOR = re.compile(r"[a-z][a-z0-9-]{0,39}|broker/[a-z]{1,20}", re.ASCII)
"""A person's pseudonymous id, or one of the broker's processes, e.g. ``broker/keyd``."""


@dataclass(frozen=True, slots=True)
class Event:
    """One row: what it means, what it is about, and the only details it may carry."""

    name: str
    meaning: str
    subject: frozenset[str]
    detail: Mapping[str, Value] = field(default_factory=dict)
    optional: Mapping[str, Value] = field(default_factory=dict)
    document_kind: str | None = None
    """Kind of the signed document named by ``subject.document``, in ``documents.kinds.KINDS``."""
    document_exported: bool = True
    """Whether an export must hold that document; decisions stay sealed until all are in."""

    def check(self, subject: Mapping[str, Any], detail: Mapping[str, Any]) -> None:
        """Raise :class:`EntryMalformedError` unless subject and detail are exactly what this row allows."""
        if set(subject) != self.subject:
            raise EntryMalformedError(f"{self.name} is about {', '.join(sorted(self.subject)) or 'nothing'}")
        for key, value in subject.items():
            if not SUBJECTS[key].fits(value):
                raise EntryMalformedError(f"{self.name}: subject {key} is not a {SUBJECTS[key].name.lower()}")
        missing = self.detail.keys() - detail.keys()
        if missing:
            raise EntryMalformedError(f"{self.name} lacks the detail {', '.join(sorted(missing))}")
        for key, value in detail.items():
            kind = self.detail.get(key) or self.optional.get(key)
            if kind is None:
                raise EntryMalformedError(f"{self.name} may not carry the detail {key[:40]!r}")
            if not kind.fits(value):
                raise EntryMalformedError(f"{self.name}: detail {key} is not a {kind.name.lower()}")
