"""What the broker knows of the inputs of a job, as plain data: no count is larger than what it counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hdrs_hpc.catalogue.outputs.checking.declared import OutputRulesError, whole


@dataclass(frozen=True)
class InputFacts:
    """What the broker knows by itself of the copies that a job read: no count is larger than what it counts.

    ``people``: patients; ``items``: volumes, slides, rows of tables; ``instances``: the archive's items that
    they were made of, at least one each.  ``real``: whether any of them is, or may be, of real patients.
    """

    people: int
    items: int
    instances: int
    real: bool

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> InputFacts:
        """From ``{people, items, instances, real}``; nothing may be absent."""
        if not isinstance(value.get("real"), bool):
            raise OutputRulesError("whether the inputs are real is not told")
        most = 1 << 62
        people, items, instances = (
            whole(value, name, -1, 0, most) for name in ("people", "items", "instances")
        )
        if min(people, items, instances) < 0:
            raise OutputRulesError("what the inputs hold is not told")
        return cls(people, items, instances, value["real"])

    def as_dict(self) -> dict[str, Any]:
        return {
            "people": self.people,
            "items": self.items,
            "instances": self.instances,
            "real": self.real,
        }
