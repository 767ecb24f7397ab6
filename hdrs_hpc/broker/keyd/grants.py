"""Each project's newest grant, as keyd holds to it: in the keystore's file, outside the broker's database.

A restored back-up of the database does not bring back an old grant or undo a revocation.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.broker.keyd.keystore import FileKeystore
from hdrs_hpc.broker.keyd.roots import RootHolder
from hdrs_hpc.core import clock, strict_json
from hdrs_hpc.core.errors import ConflictError, InternalError, NotAllowedError, NotFoundError
from hdrs_hpc.documents import kinds, owners, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.policy import granted as policy
from hdrs_hpc.policy import not_built
from hdrs_hpc.policy.refusals import WrongAudienceError
from hdrs_hpc.policy.registration import OwnedByOthersError
from hdrs_hpc.policy.rules import require


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
    meaning = "The project's time for reviews or releases is over."
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


class GrantHolder:
    """Every project's newest grant, what it rests on, and what may be given under it now."""

    def __init__(
        self, keystore: FileKeystore, roots: RootHolder, now: Callable[[], datetime] = clock.now
    ) -> None:
        self._keys = keystore
        self._roots = roots
        self._now = now

    def admit(self, raw: bytes, registrations: Sequence[bytes], logged: list[tuple[int, Entry]]) -> None:
        """Verify a grant that the log says was accepted, and hold to it.  Idempotent.

        A frozen project stays frozen under a new version.
        """
        envelope = Envelope.parse(raw)
        accepted_at = entry_of(logged, "grant-accepted", envelope.digest)
        root = self._roots.current()
        found = trust.verify(envelope, kinds.GRANT, root, accepted_at=accepted_at)
        grant = found.document
        if grant.audience not in (None, root.document.audience):
            raise WrongAudienceError(f"the grant is for {grant.audience}")
        require(policy.apart(found.people, grant, "signed the grant"))
        not_built.require_built(grant)
        about = self._check_registrations(root, found, registrations, logged)
        with self._keys.transaction() as db:
            row = self.row(grant.project)
            if row is not None and row["grant_digest"] == found.digest:
                return
            _check_follows(grant, row)
            if row is not None:
                before = self.rests_on(grant.project)["owners"]
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
            entry = entry_of(logged, "dataset-registered", envelope.digest)
            found = trust.verify(envelope, kinds.DATASET_REGISTRATION, root, accepted_at=entry)
            registration = found.document
            owners.require_own(root.document, found.people, registration.owner, registration.name)
            named = granted.document.data.get(registration.name)
            if named is None or named.version != registration.version:
                raise DatasetNotGrantedError("a registration of something else")
            owned[registration.name] = registration.owner
            if registration.sensitivity == "real":
                name = registration.name
                require(policy.fit_for_real_data(root.document, name, name))
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

    def rests_on(self, project: str) -> dict[str, Any]:
        """What :meth:`_check_registrations` found when the grant was admitted."""
        told = self._keys.fact(f"rests-on/{project}")
        if told is None:
            raise InternalError("keyd holds a grant without what it rests on")
        found: dict[str, Any] = strict_json.loads(told.encode())
        return found

    def grant(self, project: str) -> Grant:
        """The newest grant, verified again under the root in force."""
        raw, row = self._keys.fact(f"grant/{project}"), self.row(project)
        if raw is None or row is None:
            raise ProjectUnknownError()
        envelope = Envelope.parse(base64.b64decode(raw))
        if envelope.digest != row["grant_digest"]:
            raise InternalError("keyd's grant is not the one it noted")
        # Judged where the log accepted it: a custodian who retires a key does not take old grants along.
        return trust.verify(
            envelope, kinds.GRANT, self._roots.current(), accepted_at=row["grant_entry"]
        ).document

    def digest(self, project: str) -> str | None:
        """Digest of the grant that keyd holds to."""
        row = self.row(project)
        return row["grant_digest"] if row else None

    def require_giving(self, project: str) -> Grant:
        """The grant, if keys of the project may be given now."""
        grant = self.grant(project)
        row = self.row(project)
        if row is None or row["frozen"]:
            raise ProjectFrozenError()
        require(policy.in_project_time(grant, self._now()))
        for dataset in self.rests_on(project)["real"]:  # the trust root may have changed since
            require(policy.fit_for_real_data(self._roots.current().document, dataset, dataset))
        return grant

    def require_collectable(self, project: str) -> Grant:
        """The grant, while sealed outputs may still be opened for review."""
        grant = self.grant(project)
        if self._now() >= limits_of(self.row(project)).outputs_until:
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
        return {row["project"]: limits_of(row) for row in rows}

    def row(self, project: str) -> Any:
        with self._keys.transaction() as db:
            return db.execute("SELECT * FROM projects WHERE project = ?", (project,)).fetchone()


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


def limits_of(row: Any) -> Limits:
    return Limits(*(clock.from_text(row[end]) for end in ("copies_until", "outputs_until", "destroy_by")))


def entry_of(logged: list[tuple[int, Entry]], event: str, digest: str) -> int:
    """Number of the entry that says a document was accepted; raises GrantNotLoggedError."""
    for index, entry in logged:
        if entry.event == event and entry.subject["document"] == digest:
            return index
    raise GrantNotLoggedError()
