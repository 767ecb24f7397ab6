"""Verifies a certificate of destruction offline: what it proves, and what it can't."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hdrs_hpc.audit.places import INVENTORY, PLACES
from hdrs_hpc.audit.report import Line, Mark, Report, anchor_line
from hdrs_hpc.audit.trust_roots import exact_envelope, load_exact_root
from hdrs_hpc.audit.verify import VerifiedLog, WrongAudienceError, verify_log
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import BadDocumentError, NotAllowedError
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.models.certificate import Certificate, DestroyedAttempt, DestroyedCopy, DestroyedKept

REQUIRED_CHECKS = ("keys-gone", "samples-do-not-open", "listings-empty")
"""Checks that every certificate must tell of: keyd has no key, sampled objects do not open, nothing is left."""


class CertificateIncompleteError(BadDocumentError):
    code = "certificate-incomplete"
    meaning = "The certificate leaves something open that had to be destroyed or looked after."
    remedy = "Do not accept it; ask the broker's operator for one that is complete."


class CertificateRootError(NotAllowedError):
    code = "certificate-other-root"
    meaning = "The certificate was made under another trust root, or claims more than this one allows."
    remedy = "Give the trust root that the certificate names."


class CertificateLogMismatchError(NotAllowedError):
    code = "certificate-log-mismatch"
    meaning = "The certificate and the audit log tell different things."
    remedy = "Do not accept it; keep both files and tell the custodian."


def verify_certificate(
    envelope_bytes: bytes, root_bytes: bytes, root_digest: str | None, *, audit: Path | None = None
) -> Report:
    """Verify a certificate.  With ``audit``, an export of the log, also that nothing in the log was left out.

    Raises an :class:`~hdrs_hpc.core.errors.HdrsError` at the first thing that does not hold.
    """
    root = load_exact_root(root_bytes, root_digest)
    envelope = exact_envelope(envelope_bytes, "certificate")
    verified = trust.verify(envelope, kinds.CERTIFICATE, root)
    certificate = verified.document
    if len(envelope.signatures) != 1:
        raise CertificateIncompleteError("a certificate has one signature")
    if certificate.audience != root.document.audience:
        raise WrongAudienceError("a certificate of another broker")
    if certificate.trust_root != root.digest:
        raise CertificateRootError(f"it names {certificate.trust_root}")
    if root.document.demo != (certificate.assurance == "DEMO"):
        raise CertificateRootError("a demo root stamps its certificates DEMO, and no other root does")
    _check_places(certificate)
    _check_destroyed(certificate)
    _check_checks(certificate)
    lines = [*_proven(certificate), anchor_line(root.digest, anchored=root_digest is not None)]
    if audit is not None:
        log = verify_log(audit, root_bytes, root_digest)
        _check_log(certificate, verified.digest, log)
        known = "the audit log knows no copy, kept output, attempt or key that is not listed"
        lines.insert(-1, Line(Mark.PROVEN, known))
    else:
        lines.append(Line(Mark.NOT_PROVEN, "that nothing was left out: give the audit log (--audit DIR)"))
    lines.extend(_limits(certificate))
    return Report(
        f"certificate of {certificate.project}", tuple(lines), root_digest is not None, _facts(certificate)
    )


def _check_places(certificate: Certificate) -> None:
    if certificate.inventory != INVENTORY:
        raise CertificateIncompleteError(
            f"made by {certificate.inventory}, and this program knows {INVENTORY}", where="inventory"
        )
    seen: set[str] = set()
    for row in certificate.places:
        if row.place in seen:
            raise CertificateIncompleteError(f"{row.place} is listed twice", where="places")
        seen.add(row.place)
        place = PLACES.get(row.place)
        if place is None:
            raise CertificateIncompleteError(f"{row.place} is no place of the inventory", where="places")
        if not row.how.strip() or not place.accepts(row.method, row.result, verified=row.verified):
            state = "verified" if row.verified else "not verified"
            raise CertificateIncompleteError(
                f"{row.place}: {row.method}, {row.result}, {state}", where="places"
            )
    missing = PLACES.keys() - seen
    if missing:
        raise CertificateIncompleteError(f"{', '.join(sorted(missing))} not listed", where="places")


def _check_destroyed(certificate: Certificate) -> None:
    _check_once((copy.copy_ for copy in certificate.copies), "copies")
    _check_once((attempt.attempt for attempt in certificate.attempts), "attempts")
    _check_once((f"{kept.attempt}/{kept.output}" for kept in certificate.kept), "kept")
    _check_once((kept.key_id for kept in certificate.kept), "kept")
    _check_once((key.key_id for attempt in certificate.attempts for key in attempt.keys), "attempts")
    sealed: list[DestroyedCopy | DestroyedKept] = [*certificate.copies, *certificate.kept]
    ends = [item.key_destroyed_at for item in sealed]
    ends.extend(key.destroyed_at for attempt in certificate.attempts for key in attempt.keys)
    if any(end > certificate.issued_at for end in [*ends, certificate.closed_at]):
        raise CertificateIncompleteError("something is to end after the certificate was issued")
    if not certificate.deidentification_key_destroyed:
        raise CertificateIncompleteError("the de-identification key was not destroyed")
    if ends and not certificate.keystore.master_rotated:
        raise CertificateIncompleteError("the master key that wrapped the project's keys is still in use")


def _check_once(ids: Iterable[str], where: str) -> None:
    listed = list(ids)
    if len(set(listed)) != len(listed):
        raise CertificateIncompleteError("something is listed twice", where=where)


def _check_checks(certificate: Certificate) -> None:
    results = {item.check: item.result for item in certificate.checks}
    for name in REQUIRED_CHECKS:
        if results.get(name) not in ("passed", "not-possible"):
            raise CertificateIncompleteError(f"it tells of no passed check {name}", where="checks")
    for name in ("keys-gone", "listings-empty"):
        if results[name] != "passed":
            raise CertificateIncompleteError(f"nobody looked: {name}", where="checks")
    had: list[DestroyedCopy | DestroyedKept] = [*certificate.copies, *certificate.kept]
    sealed = any(item.objects and item.manifest_digest is not None for item in had)
    if sealed and results["samples-do-not-open"] != "passed":
        raise CertificateIncompleteError(
            "objects were unlinked and no sample of them was tried", where="checks"
        )


def _check_log(certificate: Certificate, digest: str, log: VerifiedLog) -> None:
    """The certificate's lists against everything that the log knows of the project."""
    project, history = certificate.project, log.history
    if certificate.log.size > len(log.entries) or (
        log.root_at(certificate.log.size).hex() != certificate.log.root
    ):
        raise CertificateLogMismatchError("it was made over another log", where="log")
    issued = [
        entry.seq
        for entry in log.entries
        if entry.event == "certificate-issued" and entry.subject["document"] == digest
    ]
    if not issued or project not in history.projects:
        raise CertificateLogMismatchError("the log does not know this certificate")
    copies = history.of_project(history.copies, project)
    attempts = history.of_project(history.attempts, project)
    keys = history.of_project(history.keys, project)
    listed = {copy.copy_: copy for copy in certificate.copies}
    if listed.keys() != {name for name, copy in copies.items() if copy.key is not None}:
        raise CertificateLogMismatchError("its copies are not those of the log", where="copies")
    if {item.attempt for item in certificate.attempts} != attempts.keys():
        raise CertificateLogMismatchError("its attempts are not those of the log", where="attempts")
    for name, row in listed.items():
        known_copy = copies[name]
        if row.key_id != known_copy.key or row.manifest_digest != known_copy.manifest:
            raise CertificateLogMismatchError("a copy's key or manifest differs", where=f"copies, {name}")
        _check_tried(
            (row.objects, row.bytes), known_copy.tried, row.manifest_digest is not None, f"copies, {name}"
        )
        if row.opt_out_list != known_copy.opt_out:
            raise CertificateLogMismatchError("a copy's opt-out list differs", where=f"copies, {name}")
    _check_kept(certificate, log)
    for attempt in certificate.attempts:
        known = attempts[attempt.attempt].keys
        if known != {key.key_id for key in attempt.keys}:
            raise CertificateLogMismatchError(
                "an attempt's keys differ", where=f"attempts, {attempt.attempt}"
            )
        tried = attempts[attempt.attempt].tried
        _check_tried((attempt.objects, attempt.bytes), tried, False, f"attempts, {attempt.attempt}")
        if attempts[attempt.attempt].runtimes != set(attempt.runtimes):
            raise CertificateLogMismatchError(
                "an attempt's runtimes differ", where=f"attempts, {attempt.attempt}"
            )
    if any(key.destroyed is None for key in keys.values()):
        raise CertificateLogMismatchError("the log knows a key that still lives", where="keys")
    if history.projects[project].grant != certificate.grant:
        raise CertificateLogMismatchError("the grant in force was another", where="grant")
    stated = {row.place: row.result for row in certificate.places}
    if history.projects[project].places != stated:
        raise CertificateLogMismatchError("the places verified differ", where="places")


def _check_kept(certificate: Certificate, log: VerifiedLog) -> None:
    """Kept outputs against the log."""
    known = log.history.of_project(log.history.kept, certificate.project)
    listed = {f"{row.attempt}/{row.output}": row for row in certificate.kept}
    if listed.keys() != {name for name, kept in known.items() if kept.key is not None}:
        raise CertificateLogMismatchError("its kept outputs are not those of the log", where="kept")
    for name, row in listed.items():
        kept, where = known[name], f"kept, {name}"
        if (row.job, row.key_id, row.manifest_digest) != (kept.job, kept.key, kept.manifest):
            raise CertificateLogMismatchError("a kept output's job, key or manifest differs", where=where)
        _check_tried((row.objects, row.bytes), kept.tried, row.manifest_digest is not None, where)


def _check_tried(
    told: tuple[int, int], tried: tuple[int, int, int] | None, has_manifest: bool, where: str
) -> None:
    """What was unlinked is what the log says was measured, and a copy that had a manifest had it tried."""
    if tried is None or tried[:2] != told:
        raise CertificateLogMismatchError("the objects unlinked differ from those measured", where=where)
    if has_manifest and tried[0] and not tried[2]:
        raise CertificateLogMismatchError("no sample was tried before the objects went", where=where)


def _proven(certificate: Certificate) -> list[Line]:
    copies, kept, attempts = certificate.copies, certificate.kept, certificate.attempts
    all_of_it: list[DestroyedCopy | DestroyedKept | DestroyedAttempt] = [*copies, *kept, *attempts]
    objects, sealed = sum(item.objects for item in all_of_it), sum(item.bytes for item in all_of_it)
    looked_after = sum(row.verified for row in certificate.places)
    texts = [
        f"signed by the broker {certificate.audience} on {clock.to_text(certificate.issued_at)}",
        f"project {certificate.project}, {certificate.reason}: the copies' keys destroyed "
        f"by {clock.to_text(certificate.closed_at)}",
        f"{len(copies)} staged copies, {len(kept)} kept outputs and the outputs of {len(attempts)} attempts "
        "without a key; "
        f"{objects} objects, {sealed} bytes unlinked",
        f"{len(certificate.places)} places of the inventory, {looked_after} verified by looking",
    ]
    lines = [Line(Mark.PROVEN, text) for text in texts]
    for row in certificate.places:
        mark = Mark.PROVEN if row.verified else Mark.NOT_PROVEN
        amount = (
            ""
            if row.count is None
            else f" ({row.count} things" + (")" if row.bytes is None else f", {row.bytes} bytes)")
        )
        lines.append(Line(mark, f"{row.place}: {row.result}{amount}; {row.how}"))
    lines.extend(
        Line(
            Mark.PROVEN if item.result == "passed" else Mark.NOTE,
            f"{item.check}: {item.result}, {item.detail}",
        )
        for item in certificate.checks
    )
    return lines


def _limits(certificate: Certificate) -> list[Line]:
    keystore = certificate.keystore
    lines = [Line(Mark.NOTE, f"keystore {keystore.class_}, keys {keystore.claim}: {keystore.statement}")]
    if certificate.assurance == "DEMO":
        lines.insert(0, Line(Mark.NOTE, "DEMO: made under a demo root; nothing real may rest on it"))
    lines.extend(Line(Mark.NOT_PROVEN, text) for text in certificate.cannot_prove)
    return lines


def _facts(certificate: Certificate) -> dict[str, object]:
    return {
        "project": certificate.project,
        "assurance": certificate.assurance,
        "reason": certificate.reason,
        "closed-at": clock.to_text(certificate.closed_at),
        "issued-at": clock.to_text(certificate.issued_at),
        "copies": len(certificate.copies),
        "kept": len(certificate.kept),
        "attempts": len(certificate.attempts),
        "places": len(certificate.places),
        "grant": certificate.grant,
        "trust-root": certificate.trust_root,
        "log-size": certificate.log.size,
        "log-root": certificate.log.root,
    }
