"""One entry of the log and its only byte form, which is the leaf of the Merkle tree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hdrs_hpc.audit.events import EVENTS
from hdrs_hpc.audit.merkle import leaf_hash
from hdrs_hpc.audit.vocabulary import ACTOR, MAX_COUNT, EntryMalformedError, Event, Value
from hdrs_hpc.core import clock, strict_json
from hdrs_hpc.core.errors import InternalError

MAX_ENTRY_BYTES = 65_535
"""The largest entry of C2SP's log tiles, whose lengths have 16 bits: the log can be served as tiles as it is."""
MAX_ENTRY_DEPTH = 4
_KEYS = frozenset({"seq", "at", "event", "subject", "actor", "detail"})
_PRINTABLE = re.compile(r"[a-z-]{1,40}", re.ASCII)


class EntryTooLargeError(InternalError):
    code = "log-entry-too-large"
    meaning = "Something tried to write more than 65,535 bytes into one entry of the log."
    remedy = "Report it: what is logged is bounded where it is made, and one of those bounds is wrong."


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened: ``seq`` counts from 0, ``at`` is RFC 3339 in UTC to the second.

    Constructing one checks it against :data:`~hdrs_hpc.audit.events.EVENTS`, so nothing that the table does
    not allow can be written or read; raises :class:`EntryMalformedError`.
    """

    seq: int
    at: str
    event: str
    subject: Mapping[str, str]
    actor: str
    detail: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.seq, bool) or not isinstance(self.seq, int) or not 0 <= self.seq <= MAX_COUNT:
            raise EntryMalformedError("seq is not a whole number from 0")
        if not Value.TIME.fits(self.at):
            raise EntryMalformedError("at is not a time in UTC to the second")
        try:
            clock.from_text(self.at)
        except ValueError:
            raise EntryMalformedError("at is not a real time") from None
        if not isinstance(self.actor, str) or ACTOR.fullmatch(self.actor) is None:
            raise EntryMalformedError("actor is neither a person's id nor a process of the broker")
        if not isinstance(self.subject, Mapping) or not isinstance(self.detail, Mapping):
            raise EntryMalformedError("subject and detail are mappings")
        self.row.check(self.subject, self.detail)

    @property
    def row(self) -> Event:
        """The row of the table that this entry obeys."""
        row = EVENTS.get(self.event) if isinstance(self.event, str) else None
        if row is None:
            shown = self.event if isinstance(self.event, str) and _PRINTABLE.fullmatch(self.event) else "?"
            raise EntryMalformedError(f"there is no event {shown}")
        return row

    @property
    def moment(self) -> datetime:
        return clock.from_text(self.at)

    def to_bytes(self) -> bytes:
        """Canonical JSON without a line end: what is hashed, stored and exported.

        Raises :class:`EntryTooLargeError`, so that nothing is written that nobody would read.
        """
        raw = strict_json.dumps(
            {
                "seq": self.seq,
                "at": self.at,
                "event": self.event,
                "subject": dict(self.subject),
                "actor": self.actor,
                "detail": dict(self.detail),
            }
        )
        if len(raw) > MAX_ENTRY_BYTES:
            raise EntryTooLargeError(f"{len(raw)} bytes")
        return raw

    def leaf_hash(self) -> bytes:
        """The entry as a leaf of the log's tree, 32 bytes."""
        return leaf_hash(self.to_bytes())

    @classmethod
    def from_bytes(cls, raw: bytes) -> Entry:
        """Read one entry; any other way of writing the same thing is refused: bytes and meaning are one."""
        loaded = strict_json.loads(raw, max_bytes=MAX_ENTRY_BYTES, max_depth=MAX_ENTRY_DEPTH)
        if not isinstance(loaded, dict) or loaded.keys() != _KEYS:
            raise EntryMalformedError(f"an entry has exactly the keys {', '.join(sorted(_KEYS))}")
        entry = cls(**loaded)
        if entry.to_bytes() != raw:
            raise EntryMalformedError("the entry is not in canonical form")
        return entry
