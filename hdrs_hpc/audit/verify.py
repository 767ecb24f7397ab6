"""Verifies an exported log offline: nothing is believed but the trust root, and that only if it is pinned."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hdrs_hpc.audit.authority import Authority
from hdrs_hpc.audit.contradictions import check_no_contradiction
from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.audit.export import Export, read_export
from hdrs_hpc.audit.history import CLOCK_TOLERANCE, History
from hdrs_hpc.audit.merkle import Frontier
from hdrs_hpc.audit.report import Line, Mark, Report, anchor_line
from hdrs_hpc.audit.rules import replay
from hdrs_hpc.audit.trust_roots import RootChain, exact_envelope, load_exact_root
from hdrs_hpc.audit.vocabulary import EntryMalformedError
from hdrs_hpc.core.errors import BadDocumentError, HdrsError, NotAllowedError
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.kinds import KINDS
from hdrs_hpc.documents.models.checkpoint import Checkpoint
from hdrs_hpc.documents.models.review import OutputDecision
from hdrs_hpc.documents.trust import Verified, VerifiedRoot
from hdrs_hpc.forms.document import Document


class DocumentMissingError(BadDocumentError):
    code = "audit-document-missing"
    meaning = "The log names a signed document that the export does not hold."
    remedy = "Fetch the export again; an export holds every document that its entries accepted."


class DocumentAlteredError(BadDocumentError):
    code = "audit-document-altered"
    meaning = "A document in the export is not the one that the log accepted."
    remedy = "Fetch the export again."


class RootMismatchError(BadDocumentError):
    code = "audit-root-mismatch"
    meaning = "The entries do not have the root hash that the broker signed: they were changed, or it forked."
    remedy = "Keep this copy and the checkpoint; they are evidence.  Fetch the export again and compare."


class TailUncoveredError(BadDocumentError):
    code = "audit-tail-uncovered"
    meaning = "The last entries are not covered by any signed checkpoint."
    remedy = "Fetch the export again; an export ends with a checkpoint over all of it."


class LogCutBackError(NotAllowedError):
    code = "audit-log-cut-back"
    meaning = (
        "The log is shorter than, or differs from, what the broker had signed when you got a checkpoint."
    )
    remedy = "Keep both: the broker signed two histories.  Tell the custodian."


class WrongAudienceError(NotAllowedError):
    code = "audit-wrong-broker"
    meaning = "The document was signed for or by another broker."
    remedy = "Give the files of one broker."


class ReleaseUnsupportedError(NotAllowedError):
    code = "audit-release-unsupported"
    meaning = "An artefact was released without the signed approvals that the grant asks for."
    remedy = "Treat the artefact as wrongly released and tell the custodian."


@dataclass(slots=True)
class VerifiedLog:
    """A log of which everything holds."""

    export: Export
    given: VerifiedRoot
    chain: RootChain
    entries: tuple[Entry, ...]
    history: History
    roots: dict[int, bytes]
    """Root hash at every size that a checkpoint names, and at the end."""
    documents: dict[str, Verified[Document]] = field(default_factory=dict)
    doubted: list[str] = field(default_factory=list)

    def root_at(self, size: int) -> bytes:
        """Root hash over the first ``size`` entries."""
        found = self.roots.get(size)
        return found if found is not None else _roots(self.entries, {size})[size]


def verify_dir(
    path: Path, root_envelope: bytes, root_digest: str | None, *, held: Sequence[bytes] = ()
) -> Report:
    """Verify an export.  ``root_digest`` is the trust root's digest learnt by another way; ``held`` are
    checkpoints that were received earlier, which the log must extend.

    Raises an :class:`HdrsError` at the first thing that does not hold.
    """
    log = verify_log(path, root_envelope, root_digest)
    for number, raw in enumerate(held):
        _check_held(log, raw, f"held checkpoint {number + 1}")
    return _report(log, anchored=root_digest is not None, held=len(held))


def verify_log(path: Path, root_envelope: bytes, root_digest: str | None) -> VerifiedLog:
    """The same, and hands on the log, for the certificate's check."""
    given = load_exact_root(root_envelope, root_digest)
    export = read_export(path)
    entries = tuple(_entry(number, line) for number, line in enumerate(export.lines))
    history = replay(entries)
    envelopes = _envelopes(export, entries)
    accepted = [
        (entry.seq, export.documents[entry.subject["document"]])
        for entry in entries
        if entry.event == "trust-root-accepted"
    ]
    chain = RootChain.build(accepted, given)
    log = VerifiedLog(export, given, chain, entries, history, {})
    _verify_documents(log, envelopes)
    _verify_checkpoints(log)
    _verify_releases(log)
    return log


def _entry(number: int, line: bytes) -> Entry:
    try:
        entry = Entry.from_bytes(line)
    except HdrsError as error:
        error.where = f"entries.jsonl, line {number + 1}"
        raise
    if entry.seq != number:
        raise EntryMalformedError(f"it says {entry.seq}", where=f"entries.jsonl, line {number + 1}")
    return entry


def _envelopes(export: Export, entries: Sequence[Entry]) -> dict[int, Envelope]:
    """The envelope that each entry accepted, byte for byte; and none that no entry accepted."""
    found: dict[int, Envelope] = {}
    used: set[str] = set()
    opened = {
        digest
        for entry in entries
        if entry.event == "decisions-opened"
        for digest in entry.detail["documents"]
    }
    for entry in entries:
        if entry.row.document_kind is None:
            continue
        where = f"entry {entry.seq}, {entry.event}"
        digest = entry.subject["document"]
        raw = export.documents.get(digest)
        wanted = entry.row.document_exported or digest in opened
        if raw is None and not wanted:
            continue
        if raw is None:
            raise DocumentMissingError(f"{digest} is not in the export", where=where)
        if not wanted:
            raise DocumentAlteredError("a decision that is not open yet", where=where)
        if f"sha256:{hashlib.sha256(raw).hexdigest()}" != entry.detail["envelope"]:
            raise DocumentAlteredError("its bytes are not those that were accepted", where=where)
        envelope = exact_envelope(raw, where)
        if envelope.digest != digest:
            raise DocumentAlteredError("its payload has another digest", where=where)
        used.add(digest)
        found[entry.seq] = envelope
    surplus = export.documents.keys() - used
    if surplus:
        raise DocumentAlteredError(f"{min(surplus)} was never accepted")
    return found


def _verify_documents(log: VerifiedLog, envelopes: dict[int, Envelope]) -> None:
    authority = Authority()
    for seq, envelope in sorted(envelopes.items()):
        entry = log.entries[seq]
        kind = entry.row.document_kind
        if kind is None:
            continue
        if kind == "trust-root":
            root = log.chain.in_force(seq)
            verified: Verified[Document] = Verified(root.document, root.digest, root.people, envelope.payload)
        else:
            try:
                verified = trust.verify(envelope, KINDS[kind], log.chain.in_force(seq), accepted_at=seq)
            except HdrsError as error:
                error.where = f"entry {seq}, {entry.event}"
                raise
        audience = getattr(verified.document, "audience", None)
        if audience not in (None, log.given.document.audience):
            raise WrongAudienceError("a document for another broker", where=f"entry {seq}, {entry.event}")
        check_no_contradiction(entry, verified)
        authority.check(entry, verified, log.chain.in_force(seq).document)
        log.documents[verified.digest] = verified
        for person in log.chain.compromised_signers(envelope, seq):
            log.doubted.append(f"entry {seq}, {entry.event}, by {person}")


def _verify_checkpoints(log: VerifiedLog) -> None:
    """Every checkpoint's signature and root hash.

    Each root is computed from the same entries, one after the other, so that successive checkpoints are
    consistent in the sense of RFC 6962 §2.1.2 whenever both match: no proof could say more.
    """
    checkpoints = [
        _checkpoint(log, raw, f"checkpoints.jsonl, line {number + 1}")
        for number, raw in enumerate(log.export.checkpoints)
    ]
    log.roots.update(_roots(log.entries, {item.size for item in checkpoints} | {len(log.entries)}))
    previous: Checkpoint | None = None
    for number, checkpoint in enumerate(checkpoints):
        where = f"checkpoints.jsonl, line {number + 1}"
        if previous is not None and checkpoint.size <= previous.size:
            raise RootMismatchError("checkpoints are not in order of size", where=where)
        if previous is not None and checkpoint.at < previous.at - CLOCK_TOLERANCE:
            raise RootMismatchError("checkpoints are not in order of time", where=where)
        if log.roots.get(checkpoint.size, b"").hex() != checkpoint.root:
            raise RootMismatchError(f"at {checkpoint.size} entries", where=where)
        previous = checkpoint
    covered = previous.size if previous is not None else 0
    if covered != len(log.entries):
        raise TailUncoveredError(f"{covered} of {len(log.entries)} entries are covered")


def _checkpoint(log: VerifiedLog, raw: bytes, where: str) -> Checkpoint:
    envelope = exact_envelope(raw, where)
    size = Checkpoint.from_payload(envelope.payload).size
    root = log.chain.in_force(min(size, len(log.entries)) - 1)
    try:
        checkpoint = trust.verify(envelope, kinds.CHECKPOINT, root).document
    except HdrsError as error:
        error.where = where
        raise
    if checkpoint.audience != root.document.audience:
        raise WrongAudienceError("a checkpoint of another broker", where=where)
    if len(envelope.signatures) != 1:
        raise RootMismatchError("a checkpoint has one signature", where=where)
    return checkpoint


def _check_held(log: VerifiedLog, raw: bytes, where: str) -> None:
    checkpoint = _checkpoint(log, raw, where)
    if checkpoint.size > len(log.entries):
        raise LogCutBackError(f"{len(log.entries)} of {checkpoint.size} entries are left", where=where)
    if log.root_at(checkpoint.size).hex() != checkpoint.root:
        raise LogCutBackError("it signs another history", where=where)


def _roots(entries: Sequence[Entry], sizes: set[int]) -> dict[int, bytes]:
    frontier = Frontier()
    found = {0: frontier.root()} if 0 in sizes else {}
    for entry in entries:
        frontier.append(entry.leaf_hash())
        if frontier.size in sizes:
            found[frontier.size] = frontier.root()
    return found


def _verify_releases(log: VerifiedLog) -> None:
    """Every release rests on signed approvals of exactly these bytes, by as many people as the grant asks."""
    for entry in log.entries:
        if entry.event != "artefact-released":
            continue
        where = f"entry {entry.seq}, {entry.event}"
        artefact, content = entry.subject["artefact"], entry.detail["content"]
        people: set[str] = set()
        for digest in entry.detail["decisions"]:
            verified = log.documents.get(digest)
            if verified is None:
                raise DocumentMissingError(f"the decision {digest} is not in the export", where=where)
            decision = verified.document
            if not isinstance(decision, OutputDecision) or decision.job != entry.subject["job"]:
                raise ReleaseUnsupportedError("it names a decision on another job", where=where)
            verdicts = [item for item in decision.decisions if item.artefact == artefact]
            if not verdicts or verdicts[0].verdict != "approve" or verdicts[0].rebuilt != content:
                raise ReleaseUnsupportedError("a decision named does not approve these bytes", where=where)
            people.update(verified.people)
        if len(people) < log.history.projects[entry.subject["project"]].reviewers:
            raise ReleaseUnsupportedError(f"approved by {len(people)} people", where=where)


def _report(log: VerifiedLog, *, anchored: bool, held: int) -> Report:
    history, entries = log.history, log.entries
    released = sum(len(job.released) for job in history.jobs.values())
    destroyed = sum(key.destroyed is not None for key in history.keys.values())
    lines = [
        Line(Mark.PROVEN, f"{len(entries)} entries without a gap, {entries[0].at} to {entries[-1].at}"),
        Line(Mark.PROVEN, f"a signed checkpoint covers every entry ({len(log.export.checkpoints)} in all)"),
        Line(Mark.PROVEN, f"{len(log.documents)} signed documents as accepted; signatures and people hold"),
        Line(Mark.PROVEN, f"{released} artefacts released, each approved by the people the grant asks for"),
        Line(Mark.PROVEN, f"a possible history: {len(history.jobs)} jobs, {destroyed} of {len(history.keys)} "
             "keys destroyed"),
        anchor_line(log.given.digest, anchored=anchored),
    ]  # fmt: skip
    if held:
        lines.append(Line(Mark.PROVEN, f"the log extends the {held} checkpoints you held"))
    else:
        lines.append(
            Line(Mark.NOT_PROVEN, "whether it was cut back to an earlier checkpoint: give one you hold")
        )
    lines.append(Line(Mark.NOT_PROVEN, "whether the broker did what it never logged"))
    lines.extend(Line(Mark.NOTE, f"signed with a key compromised later: {text}") for text in log.doubted)
    lines.extend(
        Line(Mark.NOTE, f"key {name} was destroyed after its grant's destroy-by") for name in history.late
    )
    sealed = sum(
        entry.event == "decision-filed" and entry.subject["document"] not in log.documents
        for entry in entries
    )
    if sealed:
        lines.append(Line(Mark.NOTE, f"{sealed} decisions are logged by digest only"))
    facts = {
        "entries": len(entries),
        "root": log.roots[len(entries)].hex(),
        "checkpoints": len(log.export.checkpoints),
        "documents": len(log.documents),
        "trust-root": log.chain.latest.digest,
        "trust-root-versions": len(log.chain.roots),
        "documents-by-kind": {
            kind: sum(entry.row.document_kind == kind for entry in entries)
            for kind in KINDS
            if any(entry.row.document_kind == kind for entry in entries)
        },
        "projects": {
            name: {"state": project.state, "certified": project.certified}
            for name, project in history.projects.items()
        },
    }
    return Report("audit log", tuple(lines), anchored, facts)
