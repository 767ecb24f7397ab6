"""May this grant, dataset registration or code approval be accepted?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hdrs_hpc.catalogue import isolation
from hdrs_hpc.catalogue.data_kinds import DATA_KINDS
from hdrs_hpc.core.errors import ConflictError, NotAllowedError
from hdrs_hpc.documents import owners, unfilled
from hdrs_hpc.documents.models.approval import CodeApproval
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.policy import not_built
from hdrs_hpc.policy.granted import apart, fit_for_real_data
from hdrs_hpc.policy.refusals import (
    ConflictOfInterestError,
    DatasetVersionError,
    NotEnoughCheckersError,
    SelectionKeywordError,
    WrongAudienceError,
)
from hdrs_hpc.policy.rules import Broken, RuleResult, judge
from hdrs_hpc.policy.selection import refused_keywords

MAX_ERA_DAYS = 366 * 10


class GrantVersionError(ConflictError):
    code = "grant-version"
    meaning = "The grant does not follow the version that is in force."
    remedy = (
        "Make a new draft from the grant in force: `hdrs-hpc grant draft` counts up and names its digest."
    )


class GrantPersonError(NotAllowedError):
    code = "grant-person-unknown"
    meaning = "A person of the grant is not in the trust root, or not as a researcher."
    remedy = "Have the trust root list the person with the role `researcher` first."


class DatasetUnregisteredError(NotAllowedError):
    code = "dataset-not-registered"
    meaning = "The grant names a dataset that is not registered."
    remedy = "Register it first: `hdrs-hpc dataset scan`, then `hdrs-hpc dataset register`."


class GrantIsolationError(NotAllowedError):
    code = "grant-isolation-too-low"
    meaning = f"A grant for real data must ask for `{isolation.LEAST_FOR_REAL_DATA}` or above."
    remedy = f"Set `limits.isolation: {isolation.LEAST_FOR_REAL_DATA}`."


class GrantOverError(NotAllowedError):
    code = "grant-already-over"
    meaning = "The grant's `run-until` has passed already."
    remedy = "Set dates that lie ahead."


class ColumnsMisplacedError(NotAllowedError):
    code = "columns-misplaced"
    meaning = "Columns are granted of something that is no table, or a table without its columns."
    remedy = "Give `columns` for every dataset of kind `table`, and `select` for the others only."


class ProjectClosedError(ConflictError):
    code = "project-closed"
    meaning = "The project is closing or closed; its keys are gone."
    remedy = "Make a new project under another name."


@dataclass(frozen=True)
class GrantFacts:
    """What the acceptance of a grant rests on."""

    now: datetime
    signers: tuple[str, ...]
    trust_root: TrustRoot
    registrations: Mapping[str, DatasetRegistration]
    in_force: Grant | None = None
    in_force_digest: str | None = None
    in_force_owners: Mapping[str, str] = field(default_factory=dict)
    """Dataset of the grant in force → the organisation that owns it."""
    project_state: str | None = None
    """None while there is no such project."""


def decide(grant: Grant, facts: GrantFacts) -> tuple[RuleResult, ...]:
    """Every rule on accepting a grant."""
    results: list[RuleResult] = []
    for name, kept, rule in _RULES:
        results.extend(judge(name, kept, rule(grant, facts)))
    return tuple(results)


def owners_of(registrations: Mapping[str, DatasetRegistration]) -> dict[str, str]:
    """Dataset → the organisation that owns it."""
    return {name: registration.owner for name, registration in registrations.items()}


def check_code_approval(approval: CodeApproval, signer: str, grant: Grant) -> tuple[RuleResult, ...]:
    """A named reviewer signs in person, and does not work in the project."""

    def named() -> Iterator[Broken]:
        if approval.reviewer != signer:
            yield Broken(ConflictOfInterestError, f"{signer} signed for {approval.reviewer}", "reviewer")

    def apart() -> Iterator[Broken]:
        if signer in grant.everyone:
            yield Broken(ConflictOfInterestError, f"{signer} works in {grant.project}", "reviewer")

    return (
        *judge("reviewer-signs-in-person", "the reviewer named is the one who signed", named()),
        *judge("no-conflict-of-interest", "the reviewer does not work in the project", apart()),
    )


def _version(grant: Grant, facts: GrantFacts) -> Iterator[Broken]:
    if facts.in_force is None:
        if grant.version != 1:
            yield Broken(GrantVersionError, f"version {grant.version} without a version 1", "version")
    elif grant.version != facts.in_force.version + 1:
        message = f"version {grant.version} after version {facts.in_force.version}"
        yield Broken(GrantVersionError, message, "version")
    elif grant.supersedes != facts.in_force_digest:
        yield Broken(GrantVersionError, "it supersedes another document than the one in force", "supersedes")


def _open(grant: Grant, facts: GrantFacts) -> Iterator[Broken]:
    if facts.project_state in ("CLOSING", "CLOSED"):
        yield Broken(ProjectClosedError, f"the project is {facts.project_state}", "project")


def _audience(grant: Grant, facts: GrantFacts) -> Iterator[Broken]:
    if grant.audience not in (None, facts.trust_root.audience):
        yield Broken(WrongAudienceError, f"the grant is for {grant.audience}", "audience")


def _dates(grant: Grant, facts: GrantFacts) -> Iterator[Broken]:
    if grant.valid.run_until <= facts.now:
        yield Broken(GrantOverError, "run-until has passed", "valid.run-until")
    if (grant.valid.destroy_by - grant.valid.from_).days > MAX_ERA_DAYS:
        yield Broken(GrantOverError, "a project lasts at most ten years", "valid.destroy-by")


def _people(grant: Grant, facts: GrantFacts) -> Iterator[Broken]:
    researchers = facts.trust_root.having("researcher")
    for index, person in enumerate(grant.people.researchers):
        if person not in researchers:
            where = f"people.researchers[{index}]"
            yield Broken(GrantPersonError, f"{person} is not a researcher in the trust root", where)
    if grant.people.lead not in facts.trust_root.people:
        yield Broken(GrantPersonError, f"{grant.people.lead} is not in the trust root", "people.lead")


def _conflict(grant: Grant, facts: GrantFacts) -> Iterator[Broken]:
    yield from apart(facts.signers, grant, "signs the grant", "people")
    checkers = set(facts.trust_root.having("checker")) - grant.everyone
    if len(checkers) < grant.outputs.reviewers:
        message = f"{grant.outputs.reviewers} reviewers are asked for, {len(checkers)} could review"
        yield Broken(NotEnoughCheckersError, message, "outputs.reviewers")


def _datasets(grant: Grant, facts: GrantFacts) -> Iterator[Broken]:
    for name, granted in grant.data.items():
        registered = facts.registrations.get(name)
        where = f"data.{name}"
        if registered is None:
            yield Broken(DatasetUnregisteredError, f"{name} is not registered", where)
        elif registered.version != granted.version:
            yield Broken(DatasetVersionError, f"{name} is registered in another version", f"{where}.version")


def _owners_agree(grant: Grant, facts: GrantFacts) -> Iterator[Broken]:
    asked = owners.asked(owners_of(facts.registrations), facts.in_force_owners)
    for consent in owners.consents(facts.trust_root, facts.signers, asked):
        if not consent.met:
            where = f"data.{consent.datasets[0]}"
            yield Broken(owners.OwnerNotAskedError, consent.sentence(), where)


def _selections(grant: Grant, facts: GrantFacts) -> Iterator[Broken]:
    for name, granted in grant.data.items():
        for word in refused_keywords(granted.select):
            where = f"data.{name}.select.{word}"
            yield Broken(SelectionKeywordError, f"staging can not select by {word}", where)


def _columns(grant: Grant, facts: GrantFacts) -> Iterator[Broken]:
    for name, granted in grant.data.items():
        registered = facts.registrations.get(name)
        if registered is None:
            continue
        table = DATA_KINDS[registered.kind].by_columns
        if table != bool(granted.columns):
            message = f"{name} is a table" if table else f"{name} is no table"
            yield Broken(ColumnsMisplacedError, message, f"data.{name}.columns")
        if table and granted.select:
            yield Broken(ColumnsMisplacedError, f"{name} selects its rows by columns", f"data.{name}.select")


def _sensitivity(grant: Grant, facts: GrantFacts) -> Iterator[Broken]:
    for name in grant.data:
        registered = facts.registrations.get(name)
        if registered is None or registered.sensitivity != "real":
            continue
        yield from fit_for_real_data(facts.trust_root, name, f"data.{name}")
        if not isolation.at_least(grant.limits.isolation, isolation.LEAST_FOR_REAL_DATA):
            yield Broken(GrantIsolationError, f"{name} holds real data", "limits.isolation")


def _filled_in(grant: Grant, _facts: GrantFacts) -> Iterator[Broken]:
    for where in unfilled.places(grant.model_dump(mode="json")):
        yield Broken(unfilled.DraftUnfilledError, "it still says what a new draft says", where)


def _only_built(grant: Grant, _facts: GrantFacts) -> Iterator[Broken]:
    yield from not_built.in_grant(grant)


_Rule = Callable[[Grant, GrantFacts], Iterator[Broken]]
_RULES: tuple[tuple[str, str, _Rule], ...] = (
    ("filled-in", "nothing of a new draft is left in it", _filled_in),
    ("only-what-is-built", "nothing that this version does not do yet", _only_built),
    ("version-follows", "the version follows the one in force", _version),
    ("project-open", "the project is not closed", _open),
    ("addressed-here", "made for this broker", _audience),
    ("dates-ahead", "its time is not over", _dates),
    ("people-known", "its people are in the trust root", _people),
    ("no-conflict-of-interest", "who approves and checks does not work in the project", _conflict),
    ("datasets-registered", "its datasets are registered in these versions", _datasets),
    ("owners-agree", "custodians of each dataset's owner signed, of the version before too", _owners_agree),
    ("selections-known", "staging knows what it selects by", _selections),
    ("columns-of-tables", "tables have columns, and nothing else does", _columns),
    ("isolation-fits-sensitivity", "real data is isolated and under a real trust root", _sensitivity),
)
