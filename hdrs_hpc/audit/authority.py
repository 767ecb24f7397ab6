"""Replays who had a say: that owners registered and granted their data, and who ended or unfroze each project.

By the rules of ``documents/owners.py``, under the trust root that was in force at each entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.audit.history import HistoryImpossibleError
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents import owners
from hdrs_hpc.documents.models.closure import Closure
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.opt_out import OptOutChange
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.documents.trust import ThresholdNotMetError, Verified


@dataclass(slots=True)
class _Granted:
    people: tuple[str, ...]
    owners: dict[str, str]
    freezes: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Authority:
    """What was registered and granted, as far as the replay has come."""

    registered: dict[tuple[str, str], DatasetRegistration] = field(default_factory=dict)
    projects: dict[str, _Granted] = field(default_factory=dict)

    def check(self, entry: Entry, verified: Verified[Any], root: TrustRoot) -> None:
        """Raise an :class:`HdrsError` where those who signed had no say; other documents pass."""
        rule = _RULES.get(type(verified.document))
        if rule is None:
            return
        try:
            rule(self, verified, root)
        except HdrsError as error:
            error.where = f"entry {entry.seq}, {entry.event}"
            raise


def _registration(known: Authority, verified: Verified[Any], root: TrustRoot) -> None:
    registration: DatasetRegistration = verified.document
    owners.require_own(root, verified.people, registration.owner, registration.name)
    if registration.sensitivity == "real":
        owners.require_two_decide(root, registration.name)
    known.registered[registration.name, registration.version] = registration


def _opt_out(known: Authority, verified: Verified[Any], root: TrustRoot) -> None:
    change: OptOutChange = verified.document
    of_dataset = [item for (name, _), item in known.registered.items() if name == change.dataset]
    if not of_dataset:
        raise HistoryImpossibleError(f"{change.dataset} was not registered")
    for registration in of_dataset:
        owners.require_own(root, verified.people, registration.owner, change.dataset)


def _grant(known: Authority, verified: Verified[Any], root: TrustRoot) -> None:
    grant: Grant = verified.document
    owned = {}
    for name, granted in grant.data.items():
        registration = known.registered.get((name, granted.version))
        if registration is None:
            raise HistoryImpossibleError(f"{name} was not registered in the version granted")
        if registration.sensitivity == "real":
            owners.require_two_decide(root, name)
        owned[name] = registration.owner
    before = known.projects.get(grant.project)
    asked = owners.asked(owned, before.owners if before is not None else {})
    owners.require_consents(root, verified.people, asked)
    freezes = before.freezes if before is not None else set()
    known.projects[grant.project] = _Granted(verified.people, owned, freezes)


def _closure(known: Authority, verified: Verified[Any], root: TrustRoot) -> None:
    closure: Closure = verified.document
    project = known.projects.get(closure.project)
    if project is None:
        raise HistoryImpossibleError("no grant was accepted for this project")
    owners.require_concerned(root, verified.people, project.people, project.owners)
    if closure.action == "freeze":
        project.freezes.add(verified.digest)
    elif closure.action == "unfreeze":
        if closure.freeze not in project.freezes:
            raise HistoryImpossibleError("a freeze was lifted that was not in force")
        if len(verified.people) < root.thresholds.grant:
            raise ThresholdNotMetError("a freeze is lifted by as many as sign a grant")
        owners.require_consents(root, verified.people, project.owners)
        project.freezes.discard(closure.freeze)


_RULES: dict[type, Callable[[Authority, Verified[Any], TrustRoot], None]] = {
    DatasetRegistration: _registration,
    OptOutChange: _opt_out,
    Grant: _grant,
    Closure: _closure,
}
