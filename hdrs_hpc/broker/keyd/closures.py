"""Freezes, closures and revocations, as keyd holds to them: they stop giving, and move the ends of a project's keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.broker.keyd.grants import (
    GrantHolder,
    GrantNotLoggedError,
    ProjectUnknownError,
    entry_of,
    limits_of,
)
from hdrs_hpc.broker.keyd.keystore import FileKeystore
from hdrs_hpc.broker.keyd.roots import RootHolder
from hdrs_hpc.core import clock
from hdrs_hpc.documents import kinds, owners, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.policy.closing import FreezeNotInForceError


class ClosureHolder:
    """Which closures every project has, and whether it is frozen."""

    def __init__(
        self,
        keystore: FileKeystore,
        roots: RootHolder,
        grants: GrantHolder,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._keys = keystore
        self._roots = roots
        self._grants = grants
        self._now = now

    def close(self, raw: bytes) -> None:
        """Verify a closure, freeze the project and move its ends.  Idempotent.

        The ends are moved in the same transaction: if this process dies before it destroys, the next one does.
        """
        root = self._roots.current()
        found = trust.verify(Envelope.parse(raw), kinds.CLOSURE, root)
        closure = found.document
        if closure.action == "unfreeze":
            raise GrantNotLoggedError("a freeze is lifted only against proof that the log says so")
        now = self._now()
        with self._keys.transaction() as db:
            row = self._grants.row(closure.project)
            if row is None:
                raise ProjectUnknownError()
            about = self._grants.rests_on(closure.project)
            owners.require_concerned(root.document, found.people, about["people"], about["owners"])
            db.execute(
                "INSERT OR IGNORE INTO freezes VALUES (?, ?, ?, NULL)",
                (found.digest, closure.project, closure.action),
            )
            self._settle_frozen(closure.project, now)
            if closure.action != "freeze":
                revoked = closure.action == "revoke"
                grace = timedelta(seconds=0 if revoked else row["grace_s"])
                limits = limits_of(row)
                db.execute(
                    "UPDATE projects SET copies_until = ?, outputs_until = ? WHERE project = ?",
                    (
                        clock.to_text(min(limits.copies_until, now)),
                        clock.to_text(min(limits.outputs_until, now + grace)),
                        closure.project,
                    ),
                )

    def unfreeze(self, raw: bytes, logged: list[tuple[int, Entry]]) -> None:
        """Verify that as many as grant the data lift one freeze.  Idempotent.

        A project goes on once none of its freezes is left; a closure or revocation is never lifted.
        """
        envelope = Envelope.parse(raw)
        accepted_at = entry_of(logged, "closure-accepted", envelope.digest)
        root = self._roots.current()
        found = trust.verify(envelope, kinds.CLOSURE, root, accepted_at=accepted_at)
        closure = found.document
        if closure.action != "unfreeze" or len(found.people) < root.document.thresholds.grant:
            raise trust.ThresholdNotMetError("a freeze is lifted by as many as sign a grant")
        with self._keys.transaction() as db:
            if self._grants.row(closure.project) is None:
                raise ProjectUnknownError()
            about = self._grants.rests_on(closure.project)
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

    def unfrozen(self, project: str) -> tuple[str, ...]:
        """Digests of the closures that lifted a freeze of the project."""
        with self._keys.transaction() as db:
            rows = db.execute(
                "SELECT lifted_by FROM freezes WHERE project = ? AND lifted_by IS NOT NULL", (project,)
            ).fetchall()
        return tuple(sorted(row["lifted_by"] for row in rows))

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
