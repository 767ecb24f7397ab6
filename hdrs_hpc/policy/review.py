"""Who may decide on outputs, whether a decision is about what was shown, and what the decisions amount to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from hdrs_hpc.core.errors import ConflictError, NotAllowedError
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.review import OutputDecision
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.policy.refusals import ConflictOfInterestError
from hdrs_hpc.policy.rules import Broken, RuleResult, judge

Outcome = Literal["pending", "release", "withhold"]


class NotACheckerError(NotAllowedError):
    code = "not-a-checker"
    meaning = "Only output checkers decide what leaves."
    remedy = "Have a checker decide; `hdrs-hpc trust show` lists them."


class DecisionElsewhereError(NotAllowedError):
    code = "decision-for-another-job"
    meaning = "The decision names another project, job or review than this one."
    remedy = "Open the review again and decide from there: `hdrs-hpc review show`."


class DecisionContentError(NotAllowedError):
    code = "decision-for-other-content"
    meaning = "The decision is about other bytes or another report than those under review."
    remedy = "Open the artefact again and decide on what is there now."


class DecisionIncompleteError(NotAllowedError):
    code = "decision-incomplete"
    meaning = "A decision must name every artefact under review, once."
    remedy = "Decide on each artefact: approve, refuse or return."


class AlreadyDecidedError(ConflictError):
    code = "already-decided"
    meaning = "This checker has decided on this job before; a decision is final."
    remedy = "Nothing more is needed from you; another checker decides too."


@dataclass(frozen=True)
class UnderReview:
    """One artefact as the airlock holds it."""

    rebuilt: str
    """Digest of the rebuilt bytes."""
    report: str
    """Digest of the check's report."""


@dataclass(frozen=True)
class ReviewFacts:
    """What a decision is judged by."""

    grant: Grant
    trust_root: TrustRoot
    job: str
    artefacts: Mapping[str, UnderReview]
    nonce: str | None = None
    """The one given to this checker for this review; None where checkers choose their own."""
    decided_by: frozenset[str] = frozenset()


def decide(decision: OutputDecision, checker: str, facts: ReviewFacts) -> tuple[RuleResult, ...]:
    """Every rule on accepting one checker's decision."""
    results: list[RuleResult] = []
    for name, kept, rule in _RULES:
        results.extend(judge(name, kept, rule(decision, checker, facts)))
    return tuple(results)


def combine(decisions: Mapping[str, OutputDecision], artefact: str, reviewers: int) -> Outcome:
    """What the decisions of different people amount to for one artefact.

    It leaves only if ``reviewers`` people approve and nobody does otherwise; disagreement withholds.  Nothing
    is settled before all have decided, so that the second checker learns nothing of the first one's mind.
    """
    verdicts = [
        item.verdict
        for decision in decisions.values()
        for item in decision.decisions
        if item.artefact == artefact
    ]
    if len(decisions) < reviewers:
        return "pending"
    approved = len(verdicts) >= reviewers and all(verdict == "approve" for verdict in verdicts)
    return "release" if approved else "withhold"


def _role(decision: OutputDecision, checker: str, facts: ReviewFacts) -> Iterator[Broken]:
    if checker not in facts.trust_root.having("checker"):
        yield Broken(NotACheckerError, f"{checker} is not an output checker")


def _apart(decision: OutputDecision, checker: str, facts: ReviewFacts) -> Iterator[Broken]:
    if checker in facts.grant.everyone:
        yield Broken(ConflictOfInterestError, f"{checker} works in {facts.grant.project}")


def _once(decision: OutputDecision, checker: str, facts: ReviewFacts) -> Iterator[Broken]:
    if checker in facts.decided_by:
        yield Broken(AlreadyDecidedError, f"{checker} has decided on {facts.job}")


def _this_job(decision: OutputDecision, checker: str, facts: ReviewFacts) -> Iterator[Broken]:
    if (decision.project, decision.job) != (facts.grant.project, facts.job):
        yield Broken(DecisionElsewhereError, f"it is about {decision.project}, job {decision.job}", "job")
    if facts.nonce is not None and decision.nonce != facts.nonce:
        yield Broken(DecisionElsewhereError, "its nonce is not the one of this review", "nonce")


def _this_content(decision: OutputDecision, checker: str, facts: ReviewFacts) -> Iterator[Broken]:
    for index, item in enumerate(decision.decisions):
        shown = facts.artefacts.get(item.artefact)
        where = f"decisions[{index}]"
        if shown is None:
            yield Broken(DecisionContentError, f"there is no artefact {item.artefact}", f"{where}.artefact")
        elif item.rebuilt != shown.rebuilt:
            yield Broken(DecisionContentError, f"{item.artefact} has other bytes", f"{where}.rebuilt")
        elif item.report != shown.report:
            yield Broken(DecisionContentError, f"{item.artefact} has another report", f"{where}.report")


def _complete(decision: OutputDecision, checker: str, facts: ReviewFacts) -> Iterator[Broken]:
    missing = sorted(set(facts.artefacts) - {item.artefact for item in decision.decisions})
    if missing:
        yield Broken(DecisionIncompleteError, f"no decision on {', '.join(missing)}", "decisions")


_Rule = Callable[[OutputDecision, str, ReviewFacts], Iterator[Broken]]
_RULES: tuple[tuple[str, str, _Rule], ...] = (
    ("decider-is-checker", "the person is an output checker", _role),
    ("no-conflict-of-interest", "the checker does not work in the project", _apart),
    ("decides-once", "the checker has not decided before", _once),
    ("decision-for-this-job", "it is about this job's review", _this_job),
    ("decision-for-this-content", "it is about what is under review", _this_content),
    ("decision-complete", "it names every artefact", _complete),
)
