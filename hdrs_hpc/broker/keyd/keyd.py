"""What keyd does for each request.  Nothing here trusts the asker: every document is verified again.

Order of rule and effect in each method: verify → judge → change the keystore in one transaction → reply.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.keyd import kept
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.closures import ClosureHolder
from hdrs_hpc.broker.keyd.grants import GrantHolder
from hdrs_hpc.broker.keyd.handover import Handover
from hdrs_hpc.broker.keyd.keystore import MASTER_SINCE, NEVER_MADE, FileKeystore, KeyRecord, KeyUnknownError
from hdrs_hpc.broker.keyd.logwatch import CheckpointOvertakenError, LogWatch, NotLoggedError
from hdrs_hpc.broker.keyd.opt_outs import OptOutHolder
from hdrs_hpc.broker.keyd.roots import RootHolder
from hdrs_hpc.broker.keyd.runtimes import RuntimeHolder
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import ConflictError, InternalError, NotAllowedError
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.kinds import KINDS
from hdrs_hpc.documents.models.certificate import Certificate
from hdrs_hpc.documents.models.release import ReleaseRecord
from hdrs_hpc.documents.models.review import OutputDecision
from hdrs_hpc.documents.signing import sign_in_process
from hdrs_hpc.documents.sshsig import public_line
from hdrs_hpc.sealing.cipher import opens_first_segment
from hdrs_hpc.sealing.place import context

BROKER_KINDS = tuple(kind.name for kind in KINDS.values() if kind.role == kinds.BROKER)
COPY_ROLES = ("copy", "kept")
OUTPUT_ROLES = ("output", "bundle")
DEID_HOLDER = "project"
GIVING = (
    m.AdmitGrant,
    m.AdmitUnfreeze,
    m.AdmitRuntimes,
    m.CreateKey,
    m.UseKey,
    m.BindNodes,
    m.AnswerNodes,
    m.SignRelease,
    m.SignCertificate,
)
"""What waits until the log was proven; what only takes away never waits."""


class ManifestSettledError(ConflictError):
    code = "manifest-settled"
    meaning = "That copy was sealed with another manifest; a sealed copy is read-only for ever."
    remedy = "Build a new copy."


class KeysStillLiveError(ConflictError):
    code = "keys-still-live"
    meaning = "keyd still holds keys of the project, so nothing can certify their destruction."
    remedy = "Destroy the project's keys first."


class CertificateUntrueError(NotAllowedError):
    code = "certificate-untrue"
    meaning = "The certificate does not say what keyd knows of the project."
    remedy = "Nothing was signed.  If it stays, the broker's database is not the one that keyd worked with."


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
        self._closures = ClosureHolder(keystore, self._roots, self._grants, now)
        self._opt_outs = OptOutHolder(keystore, self._roots)
        self._log = LogWatch(keystore, self._roots, self._sign, now)
        self._runtimes = RuntimeHolder(keystore)
        self._handover = Handover(
            keystore, self._roots, self._grants, self._opt_outs, self._runtimes, self._sign, now
        )

    @classmethod
    def open(cls, home: BrokerHome) -> Keyd:
        return cls(FileKeystore(home.keyd_dir))

    def close(self) -> None:
        self._keys.close()

    def answer[R](self, ask: m.Ask[R]) -> R:
        """The reply to one request; raises HdrsError."""
        if isinstance(ask, GIVING):
            self._log.require_proven()
        reply = self._reply(ask)
        if not isinstance(reply, ask.reply()):
            raise InternalError(f"{type(ask).__name__} has no such reply")
        return reply

    def _reply(self, ask: m.Ask[Any]) -> object:
        match ask:
            case m.Status():
                return self._status()
            case m.SigningKeys():
                return m.PublicLines({kind: self._public(kind) for kind in BROKER_KINDS})
            case m.PinRoot():
                self._roots.pin(ask.envelope, ask.digest, self._log.checkpoint[0])
            case m.HeldGrant():
                return m.GrantHeld(self._grants.digest(ask.project), self._closures.unfrozen(ask.project))
            case m.AdmitGrant():
                self._grants.admit(ask.envelope, ask.registrations, self._log.entries(ask.logged))
            case m.AdmitUnfreeze():
                self._closures.unfreeze(ask.envelope, self._log.entries(ask.logged))
            case m.HeldOptOut():
                held = self._opt_outs.held(ask.dataset)
                return m.OptOutHeld(held["version"], held.get("list"))
            case m.AdmitOptOut():
                self._opt_outs.admit(ask.envelope, self._log.entries(ask.logged))
                self.destroy_outdated()
            case m.AdmitClosure():
                self._closures.close(ask.envelope)
                # The closure moved the ends; whoever dies in between, the next start does it.
                self.destroy_expired()
            case m.HeldRuntimes():
                return m.RuntimesHeld(self._runtimes.held(ask.cluster))
            case m.AdmitRuntimes():
                self._runtimes.admit(self._log.entries(ask.logged))
            case m.CreateKey():
                return self._create(ask)
            case m.NoteManifest():
                self._note_manifest(ask)
            case m.UseKey():
                return self._use(ask)
            case m.BindNodes():
                return self._handover.bind(ask, self._log.entries(ask.chosen))
            case m.AnswerNodes():
                return self._handover.answer(ask.attempt, self._log.entries(ask.logged))
            case m.SignCheckpoint():
                return m.Signed(self._log.sign(ask))
            case m.SignRelease():
                return self._sign_release(ask)
            case m.SignCertificate():
                return self._sign_certificate(ask)
            case m.Destroy():
                self._destroy(ask)
            case m.Inspect():
                return m.ProjectKeys(
                    live=tuple(map(_told, self._keys.live(ask.project))),
                    destroyed=self._keys.destroyed(ask.project),
                    project_key=self._keys.holds_project_key(ask.project),
                    grant=self._grants.digest(ask.project),
                    master_rotated=self._is_master_newer(ask.project),
                )
            case m.TrySample():
                return self._try_sample(ask)
            case _:
                raise InternalError(f"keyd does nothing for {type(ask).__name__}")
        return m.Done()

    def destroy_outdated(self) -> None:
        """Keys of copies made under an opt-out list that is no longer in force die at once."""
        for project in self._grants.all_limits():
            for record in self._keys.live(project):
                about = record.about
                if record.role == "copy" and about.get("opt_out") != self._opt_outs.held(
                    about["dataset"]
                ).get("list"):
                    self._keys.destroy(project, (record.role,), record.holder)

    def destroy_expired(self) -> None:
        """Keys die at their time, whether or not anybody asks: copies, then outputs, then all."""
        self.destroy_outdated()  # whoever died between an opt-out and its keys, the next start ends them
        now = self._now()
        for project, limits in self._grants.all_limits().items():
            if now >= limits.destroy_by:
                self._keys.destroy_project(project)
                continue
            if now >= limits.copies_until:
                self._keys.destroy(project, COPY_ROLES)
            if now >= limits.outputs_until:
                self._keys.destroy(project, OUTPUT_ROLES)

    def _status(self) -> m.KeydStatus:
        root = self._roots.current_or_none()
        size, head = self._log.checkpoint
        return m.KeydStatus(
            root=root.digest if root else None,
            version=root.document.version if root else None,
            log_size=size,
            log_root=head,
            keystore_class=self._keys.CLASS,
            keystore_statement=self._keys.STATEMENT,
            giving=self._log.proven,
        )

    def _create(self, ask: m.CreateKey) -> m.LiveKey:
        self._grants.require_giving(ask.project)
        about: dict[str, Any] = {}
        if ask.role == "copy":
            use = self._grants.require_dataset(ask.project, ask.dataset, ask.version)
            opt_out = self._opt_outs.require_current(str(ask.dataset), ask.opt_out)
            about = {"dataset": ask.dataset, "version": ask.version, "use": use, "opt_out": opt_out}
        elif ask.role == "deid" and ask.holder != DEID_HOLDER:
            raise KeyUnknownError("a project has one de-identification key")
        elif ask.role == "kept":
            if ask.kept is None:
                raise KeyUnknownError("a kept output is one of an attempt")
            about = kept.about(ask.kept)
            kept.remember(self._keys, ask.project, ask.holder, ask.kept)
        with self._keys.transaction():
            known = [r for r in self._keys.live(ask.project) if (r.role, r.holder) == (ask.role, ask.holder)]
            if known:
                about |= {k: v for k, v in known[0].about.items() if k.startswith("manifest_")}
            record = self._keys.create(ask.project, ask.role, ask.holder, about)
        return _told(record)

    def _note_manifest(self, ask: m.NoteManifest) -> None:
        record = self._keys.record(ask.project, ask.role, ask.holder)
        noted = {"manifest_name": ask.manifest_name, "manifest_digest": ask.manifest_digest}
        if record.about | noted != noted | record.about:
            raise ManifestSettledError()
        self._keys.amend(ask.project, ask.role, ask.holder, record.about | noted)

    def _use(self, ask: m.UseKey) -> m.GivenKey:
        role = {"stage": "copy", "select": "copy", "bundle": "bundle", "collect": "output"}[ask.purpose]
        if ask.purpose == "collect":
            self._grants.require_collectable(ask.project)
        else:
            self._grants.require_giving(ask.project)
            about = self._keys.record(ask.project, role, ask.holder).about
            if role == "copy":
                self._opt_outs.require_current(about["dataset"], about.get("opt_out"))
            sealed = "manifest_digest" in about
            if ask.purpose == "select" and not sealed:
                raise KeyUnknownError("the copy is not sealed yet")
            if ask.purpose != "select" and sealed:
                raise ManifestSettledError("its key is for hand-over only")
        key = self._keys.key(ask.project, role, ask.holder)
        deid = self._keys.key(ask.project, "deid", DEID_HOLDER) if ask.purpose == "stage" else None
        return m.GivenKey(key, deid)

    def _destroy(self, ask: m.Destroy) -> None:
        if ask.what == "all":
            self._keys.destroy_project(ask.project)
        else:
            roles = COPY_ROLES if ask.what == "copies" else OUTPUT_ROLES
            self._keys.destroy(ask.project, roles, ask.holder)

    def _is_master_newer(self, project: str) -> bool:
        """Whether the master key was replaced after the end of every key of the project, of which there was one."""
        since, ends = self._keys.fact(MASTER_SINCE), [gone.at for gone in self._keys.destroyed(project)]
        return since is not None and bool(ends) and since >= max(ends)

    def _try_sample(self, ask: m.TrySample) -> m.Tried:
        """Whether any key that is left opens a manifest: what was said to be unreadable is tried, not argued."""
        place = context(ask.role, ask.project, ask.holder, "", part="root")
        tried = opened = 0
        for key in self._keys.every_key():
            tried += 1
            opened += opens_first_segment(key, place, ask.head, ask.size)
        return m.Tried(tried, bool(opened))

    # --- signing

    def _sign(self, kind: str, payload: bytes) -> Envelope:
        return sign_in_process(KINDS[kind], payload, self._private(kind))

    def _private(self, kind: str) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._keys.signing_key(kind))

    def _public(self, kind: str) -> str:
        return public_line(self._private(kind), f"hdrs-hpc-{kind}")

    def _sign_release(self, ask: m.SignRelease) -> m.Signed:
        """Sign what enough checkers approved and the log says already; every claim in it is compared."""
        record = ReleaseRecord.from_payload(ask.payload)
        root = self._roots.current()
        grant = self._grants.require_releasable(record.project)
        approving: set[str] = set()
        digests = []
        for raw in ask.decisions:
            found = trust.verify(Envelope.parse(raw), kinds.OUTPUT_DECISION, root)
            _require_approval(found.document, record)
            approving |= set(found.people)
            digests.append(found.digest)
        if approving & grant.everyone:
            raise ReleaseNotDecidedError("somebody decided on a project that they work in")
        if len(approving) < grant.outputs.reviewers:
            raise ReleaseNotDecidedError(f"{len(approving)} of {grant.outputs.reviewers} approvals")
        claimed = (record.audience, record.grant, list(record.decisions), list(record.reviewers))
        grant_digest = self._grants.digest(record.project)
        if claimed != (root.document.audience, grant_digest, sorted(digests), sorted(approving)):
            raise ReleaseNotDecidedError("the record names another broker, grant, decision or reviewer")
        if not any(_tells_release(entry, record) for _, entry in self._log.entries(ask.logged)):
            raise NotLoggedError("the release is not in the log")
        return m.Signed(self._sign("release-record", ask.payload).to_bytes())

    def _sign_certificate(self, ask: m.SignCertificate) -> m.Signed:
        """Sign a certificate that names every key keyd destroyed, with its end, and the log as keyd signed it."""
        certificate = Certificate.from_payload(ask.payload)
        root = self._roots.current()
        project = certificate.project
        if self._keys.live(project) or self._keys.holds_project_key(project):
            raise KeysStillLiveError()
        claimed = (certificate.audience, certificate.trust_root, certificate.grant)
        if claimed != (root.document.audience, root.digest, self._grants.digest(project)):
            raise CertificateUntrueError("it names another broker, trust root or grant")
        size, head = self._log.checkpoint
        if (certificate.log.size, certificate.log.root) != (size, head.hex()):
            raise CheckpointOvertakenError()
        self._require_runtimes(certificate)
        ends = {(copy.key_id, clock.to_text(copy.key_destroyed_at)) for copy in certificate.copies}
        ends |= {(kept.key_id, clock.to_text(kept.key_destroyed_at)) for kept in certificate.kept}
        for attempt in certificate.attempts:
            ends |= {(key.key_id, clock.to_text(key.destroyed_at)) for key in attempt.keys}
        buried = {(gone.id, gone.at) for gone in self._keys.destroyed(project) if _held_data(gone)}
        if ends != buried:
            raise CertificateUntrueError(f"{len(ends ^ buried)} keys are missing, added, or ended otherwise")
        if certificate.keystore.master_rotated != self._is_master_newer(project):
            raise CertificateUntrueError("whether the master key was replaced since is told otherwise")
        return m.Signed(self._sign("certificate", ask.payload).to_bytes())

    def _require_runtimes(self, certificate: Certificate) -> None:
        """No runtime is named beside an attempt but those that were bound for it.

        That none is missing is seen from the log: a binding that its asker died before logging got no keys.
        """
        for attempt in certificate.attempts:
            if not set(attempt.runtimes) <= self._handover.runtimes_of(attempt.attempt):
                raise CertificateUntrueError(f"the runtimes of {attempt.attempt} were others")


def _require_approval(decision: OutputDecision, record: ReleaseRecord) -> None:
    if (decision.project, decision.job) != (record.project, record.job):
        raise ReleaseNotDecidedError("a decision is about another job")
    for item in decision.decisions:
        if item.artefact == record.artefact:
            if (item.verdict, item.rebuilt, item.report) == ("approve", record.content, record.report):
                return
            raise ReleaseNotDecidedError("a checker did not approve this content")
    raise ReleaseNotDecidedError("a decision does not name the artefact")


def _tells_release(entry: Entry, record: ReleaseRecord) -> bool:
    subject = {"project": record.project, "job": record.job, "artefact": record.artefact}
    detail = {
        "content": record.content,
        "size": record.bytes,
        "class": record.class_,
        "decisions": list(record.decisions),
    }
    return (entry.event, dict(entry.subject), dict(entry.detail)) == ("artefact-released", subject, detail)


def _held_data(gone: m.DestroyedKey) -> bool:
    """Whether a tombstone is that of a key a certificate lists: not of one that was never made."""
    return gone.role in (*COPY_ROLES, *OUTPUT_ROLES) and not gone.id.startswith(NEVER_MADE)


def _told(record: KeyRecord) -> m.LiveKey:
    return m.LiveKey(record.id, record.role, record.holder)
