"""What keyd itself believes: the trust root in force, each project's newest grant, and closures.

Kept in the keystore's file, outside the broker's database: a restored back-up of the database does not bring
back an old grant or undo a revocation.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hdrs_hpc.broker.keys.keystore import FileKeystore
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import ConflictError, InternalError, NotAllowedError, NotFoundError
from hdrs_hpc.documents import trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.grant import Grant


class NoTrustRootError(NotFoundError):
    code = "no-trust-root"
    meaning = "This broker has no trust root yet, so it can believe nobody."
    remedy = "Install the signed one: `hdrs-hpc broker trust FILE --root-digest DIGEST`."


class GrantOutdatedError(ConflictError):
    code = "grant-outdated"
    meaning = "A newer version of this project's grant is in force, or versions were skipped."
    remedy = "Draft the next version from the one in force: `hdrs-hpc grant show`."


class ProjectFrozenError(NotAllowedError):
    code = "project-frozen"
    meaning = "The project is frozen, closing or closed: no key is given any more."
    remedy = "Ask the project's custodian; a frozen project can't be thawed, a new grant is needed."


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
    """A project's two ends, from its newest grant."""

    run_until: datetime
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

    def pin(self, raw: bytes, digest: str | None) -> dict[str, Any]:
        """Pin the first root by its digest, or follow a proper succession.  Idempotent."""
        new = trust.load_root(raw, digest)
        if self._root is None:
            if digest is None:
                raise trust.TrustRootMismatchError("the first trust root is pinned by its digest")
        elif new.digest != self._root.digest:
            trust.check_succession(self._root, new)
        with self._keys.transaction():
            self._keys.remember("trust-root", base64.b64encode(raw).decode())
            self._keys.remember("trust-digest", new.digest)
        self._root = new
        return {"digest": new.digest, "version": new.document.version}


class GrantHolder:
    """Every project's newest grant and whether it is frozen."""

    def __init__(
        self, keystore: FileKeystore, roots: RootHolder, now: Callable[[], datetime] = clock.now
    ) -> None:
        self._keys = keystore
        self._roots = roots
        self._now = now

    def admit(self, raw: bytes) -> str:
        """Verify a grant and take its limits over; gives the project.  Idempotent."""
        envelope = Envelope.parse(raw)
        found = trust.verify(envelope, "grant", self._roots.current())
        grant = found.document
        if set(found.people) & grant.everyone:
            raise NotAllowedError(
                "a custodian signed for a project that they research in", where=grant.project
            )
        with self._keys.transaction() as db:
            row = self._row(grant.project)
            if row is not None and row["grant_digest"] == found.digest:
                return grant.project
            if (row["grant_version"] + 1 if row else 1) != grant.version:
                raise GrantOutdatedError(f"version {grant.version} does not follow the one in force")
            if row is not None and grant.supersedes != row["grant_digest"]:
                raise GrantOutdatedError("it does not supersede the version in force")
            if row is not None and row["frozen"]:
                raise ProjectFrozenError()
            limits = (clock.to_text(grant.valid.run_until), clock.to_text(grant.valid.destroy_by))
            db.execute(
                "INSERT INTO projects (project, grant_digest, grant_version, run_until, destroy_by)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT (project) DO UPDATE SET"
                " grant_digest = excluded.grant_digest, grant_version = excluded.grant_version,"
                " run_until = excluded.run_until, destroy_by = excluded.destroy_by",
                (grant.project, found.digest, grant.version, *limits),
            )
            self._keys.remember(f"grant/{grant.project}", base64.b64encode(raw).decode())
            self._keys.open_project(grant.project)
        return grant.project

    def close(self, raw: bytes) -> tuple[str, str]:
        """Verify a closure and freeze the project; gives the project and the action.  Idempotent."""
        found = trust.verify(Envelope.parse(raw), "closure", self._roots.current())
        closure = found.document
        with self._keys.transaction() as db:
            if self._row(closure.project) is None:
                raise NotFoundError("keyd knows no such project")
            db.execute(
                "UPDATE projects SET frozen = ?, last_closure = ? WHERE project = ?",
                (clock.to_text(self._now()), found.digest, closure.project),
            )
        return closure.project, closure.action

    def grant(self, project: str) -> Grant:
        """The newest grant, verified again under the root in force."""
        raw = self._keys.fact(f"grant/{project}")
        if raw is None:
            raise NotFoundError("keyd knows no such project")
        envelope = Envelope.parse(base64.b64decode(raw))
        row = self._row(project)
        if row is None or envelope.digest != row["grant_digest"]:
            raise InternalError("keyd's grant is not the one it noted")
        return trust.verify(envelope, "grant", self._roots.current()).document

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
        return grant

    def require_not_destroyed(self, project: str) -> Grant:
        """The grant, while its outputs may still be looked at."""
        grant = self.grant(project)
        if self._now() >= grant.valid.destroy_by:
            raise ProjectNotInTimeError("past destroy-by")
        return grant

    def require_dataset(self, project: str, dataset: str | None, version: str | None) -> None:
        granted = self.grant(project).data.get(dataset or "")
        if granted is None or granted.version != version:
            raise DatasetNotGrantedError()

    def all_limits(self) -> dict[str, Limits]:
        with self._keys.transaction() as db:
            rows = db.execute("SELECT project, run_until, destroy_by FROM projects").fetchall()
        return {
            row["project"]: Limits(clock.from_text(row["run_until"]), clock.from_text(row["destroy_by"]))
            for row in rows
        }

    def _row(self, project: str) -> Any:
        with self._keys.transaction() as db:
            return db.execute("SELECT * FROM projects WHERE project = ?", (project,)).fetchone()
