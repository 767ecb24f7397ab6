"""What a rule answers, and what a set of rules decides: every rule is evaluated and named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hdrs_hpc.core.errors import HdrsError, NotAllowedError


class PolicyRefusedError(NotAllowedError):
    """A decision that refuses; ``results`` holds every rule, kept or broken."""

    code = "policy-refused"
    meaning = "The request breaks rules of the project; each one is named."
    remedy = "Mend what each broken rule names, or ask the custodian for a grant that allows it."

    def __init__(self, results: tuple[RuleResult, ...]) -> None:
        broken = [item for item in results if not item.ok]
        super().__init__("; ".join(f"{item.code}: {item.message}" for item in broken))
        self.results = results

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "rules": [item.as_dict() for item in self.results]}

    def __reduce__(self) -> tuple[Any, ...]:
        return (PolicyRefusedError, (self.results,))


@dataclass(frozen=True)
class RuleResult:
    """One rule's answer; ``code`` is None where it is kept, ``where`` is a place in the document."""

    rule: str
    ok: bool
    code: str | None
    message: str
    where: str = ""
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "ok": self.ok,
            "code": self.code,
            "message": self.message,
            "where": self.where,
            "remedy": self.remedy,
        }


@dataclass(frozen=True)
class Broken:
    """A breach that a rule found: which error it is, said about what."""

    error: type[HdrsError]
    message: str
    where: str = ""
    remedy: str = ""
    """What would do, where that is known better than for every such error."""


def require(breaches: Iterable[Broken]) -> None:
    """Raise the first of them as the error that it is."""
    for item in breaches:
        raise item.error(item.message, where=item.where or None, remedy=item.remedy or None)


def judge(rule: str, kept: str, breaches: Iterable[Broken]) -> tuple[RuleResult, ...]:
    """One result for a kept rule, one for each breach of a broken one."""
    found = tuple(
        RuleResult(rule, False, item.error.code, item.message, item.where, item.remedy or item.error.remedy)
        for item in breaches
    )
    return found or (RuleResult(rule, True, None, kept),)
