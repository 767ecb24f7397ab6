"""May these people freeze, close or revoke this project, or lift its freeze?

Taking away needs one custodian whom the project concerns (or as many as the threshold on closures says).  Lifting a
freeze gives back, so it needs what a grant of the same data needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from hdrs_hpc.core.errors import ConflictError
from hdrs_hpc.documents import owners
from hdrs_hpc.documents.models.closure import Closure
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.documents.trust import ThresholdNotMetError
from hdrs_hpc.policy.grant import ProjectClosedError
from hdrs_hpc.policy.rules import Broken, RuleResult, judge


class FreezeNotInForceError(ConflictError):
    code = "freeze-not-in-force"
    meaning = "The freeze that is to be lifted was lifted already, or never was."
    remedy = "`hdrs-hpc project show` tells whether the project is frozen."


@dataclass(frozen=True)
class ClosingFacts:
    """What the acceptance of a closure rests on."""

    signers: tuple[str, ...]
    trust_root: TrustRoot
    granted_by: tuple[str, ...]
    """Who signed the grant in force."""
    owners: Mapping[str, str]
    """Dataset of the grant → organisation that owns it."""
    state: str
    freezes: tuple[str, ...]
    """Digests of the freezes in force."""


def decide(closure: Closure, facts: ClosingFacts) -> tuple[RuleResult, ...]:
    """Every rule on accepting a closure."""
    results: list[RuleResult] = []
    for name, kept, rule in _RULES:
        results.extend(judge(name, kept, rule(closure, facts)))
    return tuple(results)


def _concerned(closure: Closure, facts: ClosingFacts) -> Iterator[Broken]:
    for person in owners.strangers_to_project(
        facts.trust_root, facts.signers, facts.granted_by, facts.owners
    ):
        yield Broken(owners.NotTheirProjectError, f"the project does not concern {person}")


def _gives_back(closure: Closure, facts: ClosingFacts) -> Iterator[Broken]:
    if closure.action != "unfreeze":
        return
    needed = facts.trust_root.thresholds.grant
    if len(facts.signers) < needed:
        yield Broken(ThresholdNotMetError, f"{len(facts.signers)} of {needed} custodians have signed")
    for consent in owners.consents(facts.trust_root, facts.signers, facts.owners):
        if not consent.met:
            yield Broken(owners.OwnerNotAskedError, consent.sentence())


def _frozen(closure: Closure, facts: ClosingFacts) -> Iterator[Broken]:
    if closure.action != "unfreeze":
        return
    if facts.state not in ("APPROVED", "ACTIVE"):
        yield Broken(ProjectClosedError, f"the project is {facts.state}", "project")
    elif closure.freeze not in facts.freezes:
        yield Broken(FreezeNotInForceError, "there is no such freeze in force", "freeze")


_Rule = Callable[[Closure, ClosingFacts], Iterator[Broken]]
_RULES: tuple[tuple[str, str, _Rule], ...] = (
    ("project-concerns-them", "the project concerns everybody who signed", _concerned),
    ("lifted-as-granted", "as many lift a freeze as grant the data", _gives_back),
    ("freeze-in-force", "the freeze to be lifted is in force", _frozen),
)
