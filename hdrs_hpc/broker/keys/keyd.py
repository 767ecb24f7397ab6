"""What keyd does for each request.  Nothing here trusts the asker: every document is verified again.

Order of rule and effect in each method: verify → judge → change the keystore in one transaction → reply.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hdrs_hpc.audit import merkle
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.keys import messages as m
from hdrs_hpc.broker.keys.handover import Handover
from hdrs_hpc.broker.keys.keystore import FileKeystore
from hdrs_hpc.broker.keys.trust import GrantHolder, RootHolder
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import ConflictError, InternalError, NotAllowedError
from hdrs_hpc.documents import trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.kinds import KINDS
from hdrs_hpc.documents.models.certificate import Certificate
from hdrs_hpc.documents.models.checkpoint import Checkpoint
from hdrs_hpc.documents.models.release import ReleaseRecord
from hdrs_hpc.documents.signing import sign_in_process
from hdrs_hpc.documents.sshsig import public_line

BROKER_KINDS = ("checkpoint", "release-record", "certificate", "handover-answer")
COPY_ROLES = ("copy",)
OUTPUT_ROLES = ("output", "bundle")
DEID_ROLE = "deid"


class LogRolledBackError(ConflictError):
    code = "log-rolled-back"
    meaning = "The log does not extend the last checkpoint that keyd signed: an older database was put back."
    remedy = "The broker stays frozen; restore the newest database, or have custodians decide what is lost."


class ManifestSettledError(ConflictError):
    code = "manifest-settled"
    meaning = "That copy was sealed with another manifest; a sealed copy is read-only for ever."
    remedy = "Build a new copy."


class KeysStillLiveError(ConflictError):
    code = "keys-still-live"
    meaning = "keyd still holds keys of the project, so nothing can certify their destruction."
    remedy = "Destroy the project's keys first."


class ReleaseNotDecidedError(NotAllowedError):
    code = "release-not-decided"
    meaning = "The release record is not covered by approving decisions of enough distinct checkers."
    remedy = "Every reviewer that the grant asks for must approve exactly this artefact."


class Keyd:
    """keyd's rules around one keystore; callers hold a lock."""

    def __init__(self, keystore: FileKeystore, now: Callable[[], datetime] = clock.now) -> None:
        self._keys = keystore
        self._now = now
        self._roots = RootHolder(keystore)
        self._grants = GrantHolder(keystore, self._roots, now)
        self._handover = Handover(keystore, self._roots, self._grants, self._sign, now)

    @classmethod
    def open(cls, home: BrokerHome) -> Keyd:
        return cls(FileKeystore(home.keyd_dir))

    def answer(self, ask: m.Ask) -> dict[str, Any]:
        """The reply to one request; raises HdrsError."""
        match ask:
            case m.Status():
                return self._status()
            case m.SigningKeys():
                return {kind: self._public(kind) for kind in BROKER_KINDS}
            case m.PinRoot():
                return self._roots.pin(ask.envelope, ask.digest)
            case m.AdmitGrant():
                return {"project": self._grants.admit(ask.envelope)}
            case m.AdmitClosure():
                return self._close(ask)
            case m.CreateKey():
                return self._create(ask)
            case m.NoteManifest():
                return self._note_manifest(ask)
            case m.UseKey():
                return self._use(ask)
            case m.BindNodes():
                return self._handover.bind(ask)
            case m.AnswerNodes():
                return self._handover.answer(ask, self._checkpoint())
            case m.SignCheckpoint():
                return self._sign_checkpoint(ask)
            case m.SignRelease():
                return self._sign_release(ask)
            case m.SignCertificate():
                return self._sign_certificate(ask)
            case m.Destroy():
                return self._destroy(ask)
            case m.Inspect():
                return {
                    "live": [_told(record) for record in self._keys.live(ask.project)],
                    "destroyed": self._keys.destroyed(ask.project),
                    "project_key": self._keys.holds_project_key(ask.project),
                    "grant": self._grants.digest(ask.project),
                }

    def destroy_expired(self) -> None:
        """Copies die at run-until, everything at destroy-by, whether or not anybody asks."""
        for project, limits in self._grants.all_limits().items():
            if self._now() >= limits.destroy_by:
                self._keys.destroy_project(project)
            elif self._now() >= limits.run_until:
                self._keys.destroy(project, COPY_ROLES)

    def _status(self) -> dict[str, Any]:
        root = self._roots.current_or_none()
        size, head = self._checkpoint()
        return {
            "root": root.digest if root else None,
            "version": root.document.version if root else None,
            "checkpoint": {"size": size, "root": head.hex()},
            "keystore": {"class": self._keys.CLASS, "statement": self._keys.STATEMENT},
        }

    def _close(self, ask: m.AdmitClosure) -> dict[str, Any]:
        project, action = self._grants.close(ask.envelope)
        if action in ("close", "revoke"):
            self._keys.destroy(project, COPY_ROLES)
        if action == "revoke":
            self._keys.destroy(project, OUTPUT_ROLES)
        return {"project": project, "action": action}

    def _create(self, ask: m.CreateKey) -> dict[str, Any]:
        self._grants.require_giving(ask.project)
        about: dict[str, Any] = {}
        if ask.role == "copy":
            self._grants.require_dataset(ask.project, ask.dataset, ask.version)
            about = {"dataset": ask.dataset, "version": ask.version}
        with self._keys.transaction():
            known = [r for r in self._keys.live(ask.project) if (r.role, r.holder) == (ask.role, ask.holder)]
            if known:
                about |= {k: v for k, v in known[0].about.items() if k.startswith("manifest_")}
            record = self._keys.create(ask.project, ask.role, ask.holder, about)
        return {"key": record.id}

    def _note_manifest(self, ask: m.NoteManifest) -> dict[str, Any]:
        record = self._keys.record(ask.project, ask.role, ask.holder)
        noted = {"manifest_name": ask.manifest_name, "manifest_digest": ask.manifest_digest}
        if record.about.get("manifest_digest", ask.manifest_digest) != ask.manifest_digest:
            raise ManifestSettledError()
        self._keys.amend(ask.project, ask.role, ask.holder, record.about | noted)
        return {}

    def _use(self, ask: m.UseKey) -> dict[str, Any]:
        role = {"stage": "copy", "bundle": "bundle", "collect": "output"}[ask.purpose]
        if ask.purpose == "collect":
            self._grants.require_not_destroyed(ask.project)
        else:
            self._grants.require_giving(ask.project)
            if "manifest_digest" in self._keys.record(ask.project, role, ask.holder).about:
                raise ManifestSettledError("its key is for hand-over only")
        reply = {"key": base64.b64encode(self._keys.key(ask.project, role, ask.holder)).decode()}
        if ask.purpose == "stage":
            reply["deid"] = base64.b64encode(self._keys.key(ask.project, DEID_ROLE, "project")).decode()
        return reply

    def _destroy(self, ask: m.Destroy) -> dict[str, Any]:
        if ask.what == "all":
            gone = self._keys.destroy_project(ask.project)
        else:
            roles = COPY_ROLES if ask.what == "copies" else OUTPUT_ROLES
            gone = self._keys.destroy(ask.project, roles, ask.holder)
        return {"destroyed": [_told(record) for record in gone]}

    # --- signing

    def _sign(self, kind: str, payload: bytes) -> Envelope:
        return sign_in_process(KINDS[kind], payload, self._private(kind))

    def _private(self, kind: str) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._keys.signing_key(kind))

    def _public(self, kind: str) -> str:
        return public_line(self._private(kind), f"hdrs-hpc-{kind}")

    def _checkpoint(self) -> tuple[int, bytes]:
        return int(self._keys.fact("log-size") or 0), bytes.fromhex(
            self._keys.fact("log-root") or merkle.EMPTY_ROOT.hex()
        )

    def _sign_checkpoint(self, ask: m.SignCheckpoint) -> dict[str, Any]:
        size, head = self._checkpoint()
        if ask.size < size or (ask.size == size and ask.root != head):
            raise LogRolledBackError(f"keyd signed a log of {size} entries, this one has {ask.size}")
        known = self._keys.fact("log-envelope")
        if ask.size == size and known is not None:
            return {"envelope": known}
        if size:
            try:
                merkle.verify_consistency(size, head, ask.size, ask.root, ask.consistency)
            except merkle.ProofInvalidError:
                raise LogRolledBackError("the log forked from the one keyd knows") from None
        root = self._roots.current()
        payload = Checkpoint.from_value(
            {
                "schema": Checkpoint.SCHEMA,
                "audience": root.document.audience,
                "size": ask.size,
                "root": ask.root.hex(),
                "at": clock.to_text(self._now()),
            }
        ).to_payload()
        envelope = base64.b64encode(self._sign("checkpoint", payload).to_bytes()).decode()
        with self._keys.transaction():
            self._keys.remember("log-size", str(ask.size))
            self._keys.remember("log-root", ask.root.hex())
            self._keys.remember("log-envelope", envelope)
        return {"envelope": envelope}

    def _sign_release(self, ask: m.SignRelease) -> dict[str, Any]:
        record = ReleaseRecord.from_payload(ask.payload)
        root = self._roots.current()
        grant = self._grants.require_not_destroyed(record.project)
        approving: set[str] = set()
        for raw in ask.decisions:
            found = trust.verify(Envelope.parse(raw), "output-decision", root)
            decision = found.document
            if (decision.project, decision.job) != (record.project, record.job):
                raise ReleaseNotDecidedError("a decision is about another job")
            for verdict in decision.decisions:
                if verdict.artefact != record.artefact:
                    continue
                if (verdict.verdict, verdict.rebuilt, verdict.report) != (
                    "approve",
                    record.content,
                    record.report,
                ):
                    raise ReleaseNotDecidedError("a checker did not approve this content")
                approving |= set(found.people)
        approving -= grant.everyone
        if len(approving) < grant.outputs.reviewers:
            raise ReleaseNotDecidedError(f"{len(approving)} of {grant.outputs.reviewers} approvals")
        return {"envelope": _b64(self._sign("release-record", ask.payload))}

    def _sign_certificate(self, ask: m.SignCertificate) -> dict[str, Any]:
        certificate = Certificate.from_payload(ask.payload)
        if self._keys.live(certificate.project) or self._keys.holds_project_key(certificate.project):
            raise KeysStillLiveError()
        if certificate.audience != self._roots.current().document.audience:
            raise InternalError("a certificate of another broker")
        return {"envelope": _b64(self._sign("certificate", ask.payload))}


def _told(record: Any) -> dict[str, str]:
    return {"id": record.id, "role": record.role, "holder": record.holder}


def _b64(envelope: Envelope) -> str:
    return base64.b64encode(envelope.to_bytes()).decode()
