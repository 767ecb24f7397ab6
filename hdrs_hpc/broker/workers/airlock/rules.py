"""The grant's ``outputs`` section as the output check reads it: a class that is not named there may not leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hdrs_hpc.catalogue.outputs import BUILT
from hdrs_hpc.catalogue.outputs.checking.contract import Rule


@dataclass(frozen=True)
class OutputRules:
    """A rule for each class that is granted and can be checked."""

    rules: Mapping[str, Rule] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, granted: Mapping[str, Any]) -> OutputRules:
        """From the grant's ``outputs``: ``{reviewers, table: {...}, image: {}, metrics: {}, ...}``."""
        return cls({row.name: row.checking().rule(granted) for row in BUILT if row.name in granted})

    def as_dict(self) -> dict[str, Any]:
        return {name: rule.as_dict() for name, rule in self.rules.items()}
