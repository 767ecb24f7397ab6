"""Time as the rest of the program sees it: aware UTC datetimes, written as RFC 3339 with a Z."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The present moment in UTC, whole microseconds."""
    return datetime.now(UTC)


def to_text(moment: datetime) -> str:
    """``2026-11-21T23:55:27Z``; refuses naive datetimes, which would silently mean local time."""
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return moment.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def from_text(text: str) -> datetime:
    """Parse :func:`to_text`'s form; raises ValueError on anything without a time zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"no time zone in {text!r}")
    return moment.astimezone(UTC)
