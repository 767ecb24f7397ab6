"""May this statement of who opted out of a dataset be accepted?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hdrs_hpc.core.errors import ConflictError, NotAllowedError
from hdrs_hpc.documents import owners
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.opt_out import OptOutChange
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.policy.grant import DatasetUnregisteredError
from hdrs_hpc.policy.refusals import WrongAudienceError
from hdrs_hpc.policy.rules import Broken, RuleResult, judge


class OptOutOutdatedError(ConflictError):
    code = "opt-out-outdated"
    meaning = "Another statement about the same dataset came first; this one does not follow it."
    remedy = "Give the command again: it looks the last statement up and you sign anew."


class OptOutNotYoursError(NotAllowedError):
    code = "opt-out-not-yours"
    meaning = "The people who signed may not say who opted out of this dataset."
    remedy = (
        "Have a custodian of the organisation that owns the dataset sign; `hdrs-hpc dataset show` names it."
    )


@dataclass(frozen=True)
class OptOutFacts:
    """``version`` and ``document`` are those of the statement in force: 0 and None where there is none."""

    signers: tuple[str, ...]
    trust_root: TrustRoot
    registrations: Sequence[DatasetRegistration]
    """Every registered version of the dataset."""
    version: int
    document: str | None


def may_change(signers: Sequence[str], registrations: Sequence[DatasetRegistration], root: TrustRoot) -> bool:
    """The one place that says whose statement counts: every signer is a custodian of the organisation that owns the
    dataset, in every version of it that is registered."""
    owned = [owners.strangers_to_dataset(root, signers, registration.owner) for registration in registrations]
    return bool(signers) and bool(registrations) and not any(owned)


def decide(change: OptOutChange, facts: OptOutFacts) -> tuple[RuleResult, ...]:
    """Every rule of a statement; pure."""
    return (
        *judge("addressed-here", "made for this broker", _addressed(change, facts)),
        *judge("dataset-registered", "the dataset is registered", _registered(change, facts)),
        *judge("signers-may", "custodians of the dataset signed", _authorised(change, facts)),
        *judge("follows", "it follows the statement in force", _follows(change, facts)),
    )


def _addressed(change: OptOutChange, facts: OptOutFacts) -> Iterator[Broken]:
    if change.audience != facts.trust_root.audience:
        yield Broken(WrongAudienceError, f"the statement is for {change.audience}", "audience")


def _registered(change: OptOutChange, facts: OptOutFacts) -> Iterator[Broken]:
    if not facts.registrations:
        yield Broken(DatasetUnregisteredError, f"{change.dataset} is not registered", "dataset")


def _authorised(change: OptOutChange, facts: OptOutFacts) -> Iterator[Broken]:
    if facts.registrations and not may_change(facts.signers, facts.registrations, facts.trust_root):
        yield Broken(OptOutNotYoursError, f"{', '.join(facts.signers)} signed", "dataset")


def _follows(change: OptOutChange, facts: OptOutFacts) -> Iterator[Broken]:
    if (change.version, change.supersedes) != (facts.version + 1, facts.document):
        yield Broken(OptOutOutdatedError, f"version {facts.version} is in force", "version")
