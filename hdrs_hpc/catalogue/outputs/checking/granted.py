"""What the grant allows a class that holds counts, as plain data: the smallest count, rounding, digits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hdrs_hpc.catalogue.outputs.checking.declared import OutputRulesError, whole

DEFAULT_MIN_COUNT = 10
DEFAULT_ROUND = 5


@dataclass(frozen=True)
class CountRules:
    """Counts below ``min_count`` are suppressed, the others rounded to the nearest ``round_to``.

    ``digits``: significant digits that other numbers keep.
    """

    min_count: int = DEFAULT_MIN_COUNT
    round_to: int = DEFAULT_ROUND
    digits: int = 4

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], fallback: CountRules | None = None) -> CountRules:
        """From ``{min-count, round, significant-digits}``; what is absent comes from ``fallback``."""
        like = fallback or cls()
        made = cls(
            min_count=whole(value, "min-count", like.min_count, 1, 1_000_000),
            round_to=whole(value, "round", like.round_to, 1, 1_000_000),
            digits=whole(value, "significant-digits", like.digits, 1, 6),
        )
        return made

    def as_dict(self) -> dict[str, Any]:
        return {"min-count": self.min_count, "round": self.round_to, "significant-digits": self.digits}

    def rounded(self, count: int) -> int:
        """The nearest multiple, halves up: the interval a reader can conclude is known exactly."""
        return (count + self.round_to // 2) // self.round_to * self.round_to


def mapping_of(granted: Mapping[str, Any], cls: str) -> Mapping[str, Any]:
    """The grant's rule for ``cls``; raises OutputRulesError where it is no mapping."""
    value = granted[cls]
    if not isinstance(value, Mapping):
        raise OutputRulesError(f"the rule for {cls} must be a mapping")
    return value


def count_rules(granted: Mapping[str, Any], cls: str, like: str | None = None) -> CountRules:
    """The rule of a class that holds counts; what it leaves out is as for ``like``, where that is granted."""
    fallback = (
        CountRules.from_dict(mapping_of(granted, like)) if like is not None and like in granted else None
    )
    return CountRules.from_dict(mapping_of(granted, cls), fallback)
