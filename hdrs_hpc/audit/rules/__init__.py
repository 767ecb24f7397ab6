"""Replays a log and refuses histories that an honest broker can't have had.

Signatures and hashes prove that the log was not changed afterwards; these rules prove that what it tells
could have happened under the design: nothing given before it was allowed, nothing used after its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.audit.history import (
    CLOCK_TOLERANCE,
    History,
    HistoryImpossibleError,
    Rule,
    TimeBackwardsError,
    require,
)
from hdrs_hpc.audit.rules import jobs, keys, lives
from hdrs_hpc.core import clock

RULES: dict[str, Rule] = {**lives.RULES, **keys.RULES, **jobs.RULES}
"""The rule that reads each event; an event without one constrains nothing."""


def replay(entries: Iterable[Entry]) -> History:
    """Replay a log from its first entry; raises :class:`HistoryImpossibleError` naming the entry."""
    history = History()
    latest: datetime | None = None
    for entry in entries:
        try:
            require(entry.seq == history.entries, f"entry {history.entries} is missing")
            require(entry.seq > 0 or entry.event == "trust-root-accepted", "a log begins with its trust root")
            latest = _clock(latest, entry)
            rule = RULES.get(entry.event)
            if rule is not None:
                rule(history, entry)
        except HistoryImpossibleError as error:
            error.where = f"entry {entry.seq}, {entry.event}"
            raise
        history.entries += 1
    require(history.entries > 0, "an empty log")
    return history


def _clock(latest: datetime | None, entry: Entry) -> datetime:
    if latest is not None and entry.moment < latest - CLOCK_TOLERANCE:
        raise TimeBackwardsError(f"{entry.at} follows {clock.to_text(latest)}")
    return entry.moment if latest is None else max(latest, entry.moment)
