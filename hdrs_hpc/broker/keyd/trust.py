"""What keyd itself believes: the trust root in force, each project's newest grant, and closures.

Kept in the keystore's file, outside the broker's database: a restored back-up of the database does not bring
back an old grant or undo a revocation.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.broker.keyd.keystore import FileKeystore
from hdrs_hpc.core import clock, strict_json
from hdrs_hpc.core.errors import ConflictError, InternalError, NotAllowedError, NotFoundError
from hdrs_hpc.documents import owners, succession, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.policy.closing import FreezeNotInForceError
from hdrs_hpc.policy.opt_out import OptOutNotYoursError, OptOutOutdatedError
from hdrs_hpc.policy.refusals import (
    ConflictOfInterestError,
    OptOutChangedError,
    OptOutNotStatedError,
    RealDataUnderDemoError,
    WrongAudienceError,
)
from hdrs_hpc.policy.registration import OwnedByOthersError


class NoTrustRootError(NotFoundError):
    code = "no-trust-root"
    meaning = "This broker has no trust root yet, so it can believe nobody."
    remedy = "Install the signed one: `hdrs-hpc broker trust FILE --root-digest DIGEST`."


class GrantOutdatedError(ConflictError):
    code = "grant-outdated"
    meaning = "A newer version of this project's grant is in force, or versions were skipped."
    remedy = "Draft the next version from the one in force: `hdrs-hpc grant show`."


class GrantNotLoggedError(NotAllowedError):
    code = "grant-not-logged"
    meaning = (
        "keyd holds to a grant, with its registrations, only once the signed log says they were accepted."
    )
    remedy = "File the grant with the broker: `hdrs-hpc grant submit`."


class OptOutNotLoggedError(NotAllowedError):
    code = "opt-out-not-logged"
    meaning = "keyd holds to an opt-out list only once the signed log says that it was accepted."
    remedy = "File the statement with the broker: `hdrs-hpc opt-out`."


class ProjectUnknownError(NotFoundError):
    code = "keyd-project-unknown"
    meaning = "keyd was told of no grant for that project."
    remedy = "The controller tells it at its next tick, once the grant was accepted."


class ProjectFrozenError(NotAllowedError):
    code = "project-frozen"
    meaning = "The project is frozen, closing or closed: no key is given any more."
    remedy = "Ask the project's custodian; a freeze is lifted with `hdrs-hpc project unfreeze`."


class ProjectNotInTimeError(NotAllowedError):
    code = "project-not-in-time"
    meaning = "The project has not begun, or its time to run is over."
    remedy = "See the grant's dates with `hdrs-hpc project show`."


class DatasetNotGrantedError(NotAllowedError):
    code = "dataset-version-not-granted"
    meaning = "The grant does not give that version of that dataset."
    remedy = "Ask the custodian for a new version of the grant."


@dataclass(frozen=True)
class Limits:
    """When a project's keys die, whoever is there to ask for it."""

    copies_until: datetime
    outputs_until: datetime
    """End of the time for reviews."""
    destroy_by: datetime


class RootHolder:
    """The trust root in force, as keyd pinned it."""

    def __init__(self, keystore: FileKeystore) -> None:
        self._keys = keystore
        raw = keystore.fact("trust-root")
        self._root = trust.load_root(base64.b64decode(raw), keystore.fact("trust-digest")) if raw else None

    def current_or_none(self) -> trust.VerifiedRoot | None:
        return self._root

    def current(self) -> trust.VerifiedRoot:
        if self._root is None:
            raise NoTrustRootError()
        return self._root

    def pin(self, raw: bytes, digest: str | None, entries: int) -> dict[str, Any]:
        """Pin the first root by its digest, or follow a proper succession.  Idempotent.

        ``entries`` is the length of the log that keyd signed last.
        """
        new = trust.load_root(raw, digest)
        told = {"digest": new.digest, "version": new.document.version}
        if self._root is not None and new.digest == self._root.digest:
            return told
        if self._root is None:
            if digest is None:
                raise trust.TrustRootMismatchError("the first trust root is pinned by its digest")
        else:
            succession.check(self._root, new, entries=entries)
        with self._keys.transaction():
            self._keys.remember("trust-root", base64.b64encode(raw).decode())
            self._keys.remember("trust-digest", new.digest)
        self._root = new
        return told


class GrantHolder:
    """Every project's newest grant and whether it is frozen."""

    def __init__(
        self, keystore: FileKeystore, roots: RootHolder, now: Callable[[], datetime] = clock.now
    ) -> None:
        self._keys = keystore
        self._roots = roots
        self._now = now

    def admit(self, raw: bytes, registrations: Sequence[bytes], logged: list[tuple[int, Entry]]) -> str:
        """Verify a grant that the log says was accepted, and hold to it; gives the project.  Idempotent.

        A frozen project stays frozen under a new version.
        """
        envelope = Envelope.parse(raw)
        accepted_at = _entry_of(logged, "grant-accepted", envelope.digest)
        root = self._roots.current()
        found = trust.verify(envelope, "grant", root, accepted_at=accepted_at)
        grant = found.document
        if grant.audience not in (None, root.document.audience):
            raise WrongAudienceError(f"the grant is for {grant.audience}")
        if set(found.people) & grant.everyone:
            raise ConflictOfInterestError("a custodian signed for a project that they work in")
        about = self._check_registrations(root, found, registrations, logged)
        with self._keys.transaction() as db:
            row = self._row(grant.project)
            if row is not None and row["grant_digest"] == found.digest:
                return grant.project
            _check_follows(grant, row)
            if row is not None:
                before = self._rests_on(grant.project)["owners"]
                asked = owners.asked(about["owners"], before)
                owners.require_consents(root.document, found.people, asked)
            db.execute(
                "INSERT INTO projects (project, grant_digest, grant_version, grant_entry, copies_until,"
                " outputs_until, destroy_by, grace_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (project) DO UPDATE SET"
                " grant_digest = excluded.grant_digest, grant_version = excluded.grant_version,"
                " grant_entry = excluded.grant_entry, copies_until = excluded.copies_until,"
                " outputs_until = excluded.outputs_until, destroy_by = excluded.destroy_by,"
                " grace_s = excluded.grace_s",
                (grant.project, found.digest, grant.version, accepted_at, *_ends(grant, row)),
            )
            self._keys.remember(f"grant/{grant.project}", base64.b64encode(raw).decode())
            self._keys.remember(f"rests-on/{grant.project}", strict_json.dumps(about).decode())
            self._own(about["owners"], {name: granted.version for name, granted in grant.data.items()})
            if row is None:
                self._keys.open_project(grant.project)
        return grant.project

    def _check_registrations(
        self,
        root: trust.VerifiedRoot,
        granted: trust.Verified[Grant],
        registrations: Sequence[bytes],
        logged: list[tuple[int, Entry]],
    ) -> dict[str, Any]:
        """Whose the granted data are, by documents that keyd verified itself; every owner must have signed.

        Gives ``{owners: {dataset: organisation}, people, real: [dataset]}``.
        """
        owned, real = {}, []
        for raw in registrations:
            envelope = Envelope.parse(raw)
            entry = _entry_of(logged, "dataset-registered", envelope.digest)
            found = trust.verify(envelope, "dataset-registration", root, accepted_at=entry)
            registration = found.document
            owners.require_own(root.document, found.people, registration.owner, registration.name)
            named = granted.document.data.get(registration.name)
            if named is None or named.version != registration.version:
                raise DatasetNotGrantedError("a registration of something else")
            owned[registration.name] = registration.owner
            if registration.sensitivity == "real":
                _require_fit_for_real(root.document, registration.name)
                real.append(registration.name)
        if set(owned) != set(granted.document.data):
            raise DatasetNotGrantedError("not every dataset came with its registration")
        owners.require_consents(root.document, granted.people, owned)
        return {"owners": owned, "people": list(granted.people), "real": sorted(real)}

    def _own(self, owned: dict[str, str], versions: dict[str, str]) -> None:
        """Note whose each dataset is; neither its name nor an inventory changes hands."""
        for dataset, owner in owned.items():
            for fact in (f"owner/{dataset}", f"owner/{versions[dataset]}"):
                if self._keys.fact(fact) not in (None, owner):
                    raise OwnedByOthersError(where=dataset)
                self._keys.remember(fact, owner)

    def close(self, raw: bytes) -> tuple[str, str]:
        """Verify a closure, freeze the project and move its ends; gives project and action.  Idempotent.

        The ends are moved in the same transaction: if this process dies before it destroys, the next one does.
        """
        root = self._roots.current()
        found = trust.verify(Envelope.parse(raw), "closure", root)
        closure = found.document
        if closure.action == "unfreeze":
            raise GrantNotLoggedError("a freeze is lifted only against proof that the log says so")
        now = self._now()
        with self._keys.transaction() as db:
            row = self._row(closure.project)
            if row is None:
                raise ProjectUnknownError()
            about = self._rests_on(closure.project)
            owners.require_concerned(root.document, found.people, about["people"], about["owners"])
            db.execute(
                "INSERT OR IGNORE INTO freezes VALUES (?, ?, ?, NULL)",
                (found.digest, closure.project, closure.action),
            )
            self._settle_frozen(closure.project, now)
            if closure.action != "freeze":
                revoked = closure.action == "revoke"
                grace = timedelta(seconds=0 if revoked else row["grace_s"])
                limits = _limits(row)
                db.execute(
                    "UPDATE projects SET copies_until = ?, outputs_until = ? WHERE project = ?",
                    (
                        clock.to_text(min(limits.copies_until, now)),
                        clock.to_text(min(limits.outputs_until, now + grace)),
                        closure.project,
                    ),
                )
        return closure.project, closure.action

    def unfreeze(self, raw: bytes, logged: list[tuple[int, Entry]]) -> str:
        """Verify that as many as grant the data lift one freeze; gives the project.  Idempotent.

        A project goes on once none of its freezes is left; a closure or revocation is never lifted.
        """
        envelope = Envelope.parse(raw)
        accepted_at = _entry_of(logged, "closure-accepted", envelope.digest)
        root = self._roots.current()
        found = trust.verify(envelope, "closure", root, accepted_at=accepted_at)
        closure = found.document
        if closure.action != "unfreeze" or len(found.people) < root.document.thresholds.grant:
            raise trust.ThresholdNotMetError("a freeze is lifted by as many as sign a grant")
        with self._keys.transaction() as db:
            if self._row(closure.project) is None:
                raise ProjectUnknownError()
            about = self._rests_on(closure.project)
            owners.require_concerned(root.document, found.people, about["people"], about["owners"])
            owners.require_consents(root.document, found.people, about["owners"])
            freeze = db.execute(
                "SELECT * FROM freezes WHERE document = ? AND project = ? AND action = 'freeze'",
                (closure.freeze, closure.project),
            ).fetchone()
            if freeze is None or freeze["lifted_by"] not in (None, found.digest):
                raise FreezeNotInForceError()
            db.execute("UPDATE freezes SET lifted_by = ? WHERE document = ?", (found.digest, closure.freeze))
            self._settle_frozen(closure.project, self._now())
        return closure.project

    def unfrozen(self, project: str) -> list[str]:
        """Digests of the closures that lifted a freeze of the project."""
        with self._keys.transaction() as db:
            rows = db.execute(
                "SELECT lifted_by FROM freezes WHERE project = ? AND lifted_by IS NOT NULL", (project,)
            ).fetchall()
        return sorted(row["lifted_by"] for row in rows)

    def _settle_frozen(self, project: str, now: datetime) -> None:
        """Frozen exactly while something that froze it was not lifted."""
        with self._keys.transaction() as db:
            left = db.execute(
                "SELECT 1 FROM freezes WHERE project = ? AND lifted_by IS NULL", (project,)
            ).fetchone()
            db.execute(
                "UPDATE projects SET frozen = CASE WHEN ? THEN coalesce(frozen, ?) END WHERE project = ?",
                (left is not None, clock.to_text(now), project),
            )

    def _rests_on(self, project: str) -> dict[str, Any]:
        """What :meth:`_check_registrations` found when the grant was admitted."""
        told = self._keys.fact(f"rests-on/{project}")
        if told is None:
            raise InternalError("keyd holds a grant without what it rests on")
        found: dict[str, Any] = strict_json.loads(told.encode())
        return found

    def grant(self, project: str) -> Grant:
        """The newest grant, verified again under the root in force."""
        raw, row = self._keys.fact(f"grant/{project}"), self._row(project)
        if raw is None or row is None:
            raise ProjectUnknownError()
        envelope = Envelope.parse(base64.b64decode(raw))
        if envelope.digest != row["grant_digest"]:
            raise InternalError("keyd's grant is not the one it noted")
        # Judged where the log accepted it: a custodian who retires a key does not take old grants along.
        return trust.verify(envelope, "grant", self._roots.current(), accepted_at=row["grant_entry"]).document

    def digest(self, project: str) -> str | None:
        """Digest of the grant that keyd holds to."""
        row = self._row(project)
        return row["grant_digest"] if row else None

    def require_giving(self, project: str) -> Grant:
        """The grant, if keys of the project may be given now."""
        grant = self.grant(project)
        row = self._row(project)
        if row is None or row["frozen"]:
            raise ProjectFrozenError()
        if not grant.valid.from_ <= self._now() < grant.valid.run_until:
            raise ProjectNotInTimeError()
        for dataset in self._rests_on(project)["real"]:  # the trust root may have changed since
            _require_fit_for_real(self._roots.current().document, dataset)
        return grant

    def require_collectable(self, project: str) -> Grant:
        """The grant, while sealed outputs may still be opened for review."""
        grant = self.grant(project)
        if self._now() >= _limits(self._row(project)).outputs_until:
            raise ProjectNotInTimeError("the time for reviews is over")
        return grant

    def require_releasable(self, project: str) -> Grant:
        """The grant, while what was reviewed in time may still be let out."""
        grant = self.grant(project)
        if self._now() >= grant.valid.destroy_by:
            raise ProjectNotInTimeError("past destroy-by")
        return grant

    def require_dataset(self, project: str, dataset: str | None, version: str | None) -> str:
        """What the grant says of the dataset (version, selection, profile), as one digest."""
        granted = self.grant(project).data.get(dataset or "")
        if granted is None or granted.version != version:
            raise DatasetNotGrantedError()
        told = strict_json.dumps(granted.model_dump(mode="json", by_alias=True))
        return f"sha256:{hashlib.sha256(told).hexdigest()}"

    def all_limits(self) -> dict[str, Limits]:
        with self._keys.transaction() as db:
            rows = db.execute("SELECT * FROM projects").fetchall()
        return {row["project"]: _limits(row) for row in rows}

    def _row(self, project: str) -> Any:
        with self._keys.transaction() as db:
            return db.execute("SELECT * FROM projects WHERE project = ?", (project,)).fetchone()


class OptOutHolder:
    """Every dataset's opt-out list in force, by its keyed digest: keyd knows no patient.

    A copy made under another list is given to nobody, whatever the broker's database says, and neither is one whose
    list was ever changed by somebody who is no custodian of the organisation that owns the dataset.
    """

    def __init__(self, keystore: FileKeystore, roots: RootHolder) -> None:
        self._keys, self._roots = keystore, roots

    def admit(self, raw: bytes, logged: list[tuple[int, Entry]]) -> str:
        """Verify a change that the log says was accepted, and hold to the list it led to; gives the dataset."""
        envelope = Envelope.parse(raw)
        told = next(
            (
                (index, entry)
                for index, entry in logged
                if entry.event == "opt-out-changed" and entry.subject["document"] == envelope.digest
            ),
            None,
        )
        if told is None:
            raise OptOutNotLoggedError()
        index, entry = told
        root = self._roots.current()
        found = trust.verify(envelope, "opt-out-change", root, accepted_at=index)
        change = found.document
        if change.audience != root.document.audience:
            raise WrongAudienceError(f"the statement is for {change.audience}")
        with self._keys.transaction():
            held = self.held(change.dataset)
            if held.get("document") == envelope.digest:
                return change.dataset
            if (change.version, change.supersedes) != (held["version"] + 1, held.get("document")):
                raise OptOutOutdatedError(f"version {change.version} does not follow the one in force")
            # Kept, since the owner is known only once a grant came with the registration.
            organisations = {root.document.people[person].organisation for person in found.people}
            organisations |= set(held.get("organisations", ()))
            self._require_owners(change.dataset, organisations)
            value = {
                "version": change.version,
                "document": envelope.digest,
                "list": entry.detail["list"],
                "organisations": sorted(organisations),
            }
            self._keys.remember(f"opt-out/{change.dataset}", strict_json.dumps(value).decode())
        return change.dataset

    def held(self, dataset: str) -> dict[str, Any]:
        """``{version, document, list}``; version 0 alone where nobody said anything."""
        raw = self._keys.fact(f"opt-out/{dataset}")
        found: dict[str, Any] = strict_json.loads(raw.encode()) if raw else {"version": 0}
        return found

    def require_current(self, dataset: str, listed: str | None) -> str:
        """The list in force, which must be the one that a copy is or was made under."""
        held = self.held(dataset)
        if held.get("list") is None:
            raise OptOutNotStatedError(where=dataset)
        self._require_owners(dataset, held["organisations"])
        if listed != held["list"]:
            raise OptOutChangedError(where=dataset)
        return str(held["list"])

    def _require_owners(self, dataset: str, organisations: Iterable[str]) -> None:
        owner = self._keys.fact(f"owner/{dataset}")
        if owner is not None and set(organisations) != {owner}:
            raise OptOutNotYoursError(f"not only custodians of {owner} signed", where=dataset)


def _check_follows(grant: Grant, row: Any) -> None:
    """Whether ``grant`` comes next after the one of ``row``, or is a project's first."""
    if (row["grant_version"] + 1 if row else 1) != grant.version:
        raise GrantOutdatedError(f"version {grant.version} does not follow the one in force")
    if row is not None and grant.supersedes != row["grant_digest"]:
        raise GrantOutdatedError("it does not supersede the version in force")


def _ends(grant: Grant, row: Any) -> tuple[str, str, str, int]:
    """copies_until, outputs_until, destroy_by, grace_s; of a frozen project they only come nearer."""
    valid = grant.valid
    ends = (valid.run_until, valid.run_until + valid.review_grace, valid.destroy_by)
    copies, outputs, all_ = (clock.to_text(min(end, valid.destroy_by)) for end in ends)
    if row is not None and row["frozen"]:  # texts of one form: they sort as the moments do
        copies, outputs = min(copies, row["copies_until"]), min(outputs, row["outputs_until"])
        all_ = min(all_, row["destroy_by"])
    return copies, outputs, all_, int(valid.review_grace.total_seconds())


def _limits(row: Any) -> Limits:
    return Limits(*(clock.from_text(row[end]) for end in ("copies_until", "outputs_until", "destroy_by")))


def _entry_of(logged: list[tuple[int, Entry]], event: str, digest: str) -> int:
    """Number of the entry that says a document was accepted; raises GrantNotLoggedError."""
    for index, entry in logged:
        if entry.event == event and entry.subject["document"] == digest:
            return index
    raise GrantNotLoggedError()


def _require_fit_for_real(root: TrustRoot, dataset: str) -> None:
    if root.demo:
        raise RealDataUnderDemoError(where=dataset)
    owners.require_two_decide(root, dataset)
