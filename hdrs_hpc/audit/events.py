"""The closed table of what may be written into the log: events, their subjects and their details."""

from __future__ import annotations

from collections.abc import Mapping

from hdrs_hpc.audit.vocabulary import Event, Value
from hdrs_hpc.documents.kinds import KINDS


def _event(
    name: str,
    meaning: str,
    subject: str = "",
    detail: Mapping[str, Value] | None = None,
    optional: Mapping[str, Value] | None = None,
) -> Event:
    return Event(name, meaning, frozenset(subject.split()), detail or {}, optional or {})


def _document(
    name: str,
    kind: str,
    meaning: str,
    subject: str,
    detail: Mapping[str, Value] | None = None,
    optional: Mapping[str, Value] | None = None,
    *,
    exported: bool = True,
) -> Event:
    """A row whose entry accepts a signed document.

    ``envelope`` is the digest of the accepted envelope's exact bytes: it commits to the signatures too, which
    the payload's digest does not.
    """
    details = {"envelope": Value.DIGEST, **(detail or {})}
    return Event(
        name, meaning, frozenset([*subject.split(), "document"]), details, optional or {}, kind, exported
    )


V = Value
_MOVED = {"from": V.STATE, "to": V.STATE}
_REMOVED = {"objects": V.COUNT, "bytes": V.COUNT}
_TRIED = {**_REMOVED, "samples": V.COUNT, "keys": V.COUNT}
_KEY = {"role": V.CODE}

_TRUST = (
    _document(
        "trust-root-accepted",
        "trust-root",
        "A trust root came into force; the first entry of every log, later ones by succession.",
        "",
        {"version": V.COUNT},
        {"supersedes": V.DIGEST, "pinned": V.FLAG},
    ),
    _document(
        "dataset-registered",
        "dataset-registration",
        "Custodians of its owner registered one version of a dataset.",
        "dataset",
        {"version": V.DIGEST, "items": V.COUNT, "sensitivity": V.CODE, "owner": V.NAME},
        {"kind": V.CODE},
    ),
    _document(
        "grant-accepted",
        "grant",
        "A grant came into force, superseding the version before it, if any.",
        "project",
        {
            "version": V.COUNT,
            "signers": V.NAMES,
            "reviewers": V.COUNT,
            "run-until": V.TIME,
            "destroy-by": V.TIME,
        },
        {"supersedes": V.DIGEST},
    ),
    _document(
        "code-approved",
        "code-approval",
        "A reviewer approved one bundle of code for a project.",
        "project",
        {"bundle": V.DIGEST, "reviewer": V.NAME},
    ),
    _document(
        "closure-accepted",
        "closure",
        "Custodians froze, unfroze, closed or revoked a project.",
        "project",
        {"action": V.CODE},
    ),
    _document(
        "opt-out-changed",
        "opt-out-change",
        "A custodian stated who opted out of a dataset; `list` is the keyed digest of the whole list from here on, "
        "`about` its rounded length.",
        "dataset",
        {"version": V.COUNT, "action": V.CODE, "list": V.DIGEST, "about": V.COUNT},
        {"supersedes": V.DIGEST},
    ),
    _event(
        "document-refused",
        "A document that was sent in was refused; nothing of it was accepted.",
        "",
        {"code": V.CODE},
        {"kind": V.CODE, "digest": V.DIGEST, "project": V.NAME},
    ),
    _event("login-accepted", "A person proved who they are and got a short-lived reading token.", "person"),
    _event("login-refused", "A login was refused.", "", {"code": V.CODE}, {"person": V.NAME}),
)

_STATES = (
    _event("project-moved", "A project changed state.", "project", _MOVED, {"reason": V.CODE}),
    _event("copy-moved", "A staged copy changed state.", "project copy", _MOVED, {"reason": V.CODE}),
    _event(
        "job-moved", "A job changed state.", "project job", _MOVED, {"outcome": V.STATE, "reason": V.CODE}
    ),
    _event(
        "project-frozen",
        "A project was frozen: no new hand-overs, no new jobs.",
        "project",
        {"reason": V.CODE},
    ),
    _event("project-unfrozen", "The last freeze of a project was lifted: it goes on.", "project"),
)

_KEYS = (
    _event(
        "copy-key-created",
        "keyd made the key of a staged copy.",
        "project copy key",
        _KEY,
        {"not-after": V.TIME},
    ),
    _event(
        "output-key-created",
        "keyd made the key that one attempt seals its outputs with.",
        "project job attempt key",
        _KEY,
        {"not-after": V.TIME},
    ),
    _event(
        "kept-key-created",
        "keyd made the key of one output that is to stay in the project.",
        "project job attempt artefact key",
        _KEY,
        {"not-after": V.TIME},
    ),
    _event(
        "project-key-created",
        "keyd made a key of the whole project (de-identification, key-encryption).",
        "project key",
        _KEY,
        {"not-after": V.TIME},
    ),
    _event(
        "key-used",
        "keyd gave a key to one of the broker's own processes.",
        "project key",
        {"purpose": V.CODE},
    ),
    _event(
        "key-destroyed",
        "keyd destroyed a key; what that proves depends on the keystore's class.",
        "project key",
        {"role": V.CODE, "keystore": V.CODE},
    ),
)

_COPIES = (
    _event(
        "copy-sealed",
        "A staged copy was completed and sealed; it is read-only from here on.",
        "project copy dataset",
        {
            "manifest": V.DIGEST,
            "version": V.DIGEST,
            "objects": V.COUNT,
            "plaintext-bytes": V.COUNT,
            "sealed-bytes": V.COUNT,
            "items": V.COUNT,
            "refused": V.COUNT,
            "opted-out": V.COUNT,
            "opt-out-list": V.DIGEST,
            "opt-out-about": V.COUNT,
            "report": V.DIGEST,
        },
        {"cluster": V.NAME, "manifest-object": V.WORD},
    ),
    _event(
        "copy-failed",
        "Staging ended without a usable copy.",
        "project copy",
        {"code": V.CODE},
        {"refused": V.COUNT},
    ),
    _event(
        "copy-tried",
        "After its key's end: what lay of a copy was measured and its manifest tried with all keys left.",
        "project copy",
        _TRIED,
    ),
    _event(
        "copy-removed",
        "The sealed objects of a copy were unlinked and listed empty.",
        "project copy",
        _REMOVED,
    ),
)

_JOBS = (
    _document(
        "job-received",
        "job-spec",
        "A researcher's signed spec was accepted as a job.",
        "project job",
        {"submitter": V.NAME},
    ),
    _event("cancel-requested", "A person asked for a job's end.", "project job"),
    _event(
        "job-decided",
        "The policy was applied to a job.",
        "project job",
        {"allowed": V.FLAG, "grant": V.DIGEST},
        {"codes": V.CODES},
    ),
    _event(
        "attempt-created",
        "The job's next attempt got its name, before anything was submitted.",
        "project job attempt",
        {"number": V.COUNT, "cluster": V.NAME},
        {"not-after": V.TIME, "isolation": V.CODE},
    ),
    _event(
        "attempt-submitted",
        "The cluster has the attempt, newly submitted or found there and adopted.",
        "project job attempt",
        {"cluster-job": V.WORD},
        {"adopted": V.FLAG},
    ),
    _event(
        "served-chosen",
        "What of one input the attempt is served was chosen by its spec's selection, before anything was submitted.",
        "project job attempt",
        {"input": V.NAME, "copy": V.ID, "spec": V.DIGEST, "manifest": V.DIGEST, "narrowed": V.FLAG},
    ),
    _event("attempt-started", "The attempt runs.", "project job attempt", {"nodes": V.WORDS}),
    _event(
        "attempt-ended",
        "The attempt ended.",
        "project job attempt",
        {"result": V.CODE},
        {"exit-code": V.NUMBER, "node-seconds": V.COUNT, "exception": V.WORD, "line": V.COUNT},
    ),
    _event(
        "attempt-cancelled", "The broker cancelled the attempt.", "project job attempt", {"reason": V.CODE}
    ),
    _event(
        "attempt-tried",
        "After its keys' end: what lay of an attempt was measured and its manifests tried with all keys left.",
        "project job attempt",
        _TRIED,
    ),
    _event(
        "attempt-removed",
        "The sealed outputs of an attempt were unlinked and listed empty.",
        "project job attempt",
        _REMOVED,
    ),
    _event(
        "alarm",
        "Something that honest parts never do; the attempt is stopped.",
        "project",
        {"code": V.CODE},
        {"attempt": V.WORD, "node": V.WORD, "job": V.ID},
    ),
)

_HANDOVER = (
    _event(
        "handover-bound",
        "The first public key of a node of an attempt was bound, with the runtime that the node says it runs.",
        "project job attempt node",
        {"public-key": V.DIGEST},
        {"runtime": V.DIGEST},
    ),
    _event(
        "handover-answered",
        "Keys were wrapped for a bound node; logged before they leave.",
        "project job attempt node",
        {"public-key": V.DIGEST, "answer": V.DIGEST, "keys": V.WORDS, "not-after": V.TIME},
    ),
    _event(
        "handover-refused",
        "A hand-over was refused.",
        "project job attempt",
        {"code": V.CODE},
        {"node": V.WORD},
    ),
    _event("handover-closed", "All nodes have their keys; no more are handed out.", "project job attempt"),
)

_OUTPUTS = (
    _event(
        "outputs-collected",
        "The sealed outputs of an attempt reached the quarantine.",
        "project job attempt",
        {"closing-list": V.DIGEST, "artefacts": V.COUNT, "bytes": V.COUNT},
    ),
    _event(
        "artefact-checked",
        "The airlock checked one artefact and, if it may be reviewed, rebuilt it.",
        "project job artefact",
        {"verdict": V.CODE},
        {"code": V.CODE, "content": V.DIGEST, "report": V.DIGEST, "class": V.CODE},
    ),
    _document(
        "decision-filed",
        "output-decision",
        "A checker filed a decision; only its digest is shown until all have decided.",
        "project job",
        exported=False,
    ),
    _event(
        "decisions-opened",
        "All checkers have decided; their decisions are open.",
        "project job",
        {"documents": V.DIGESTS, "checkers": V.NAMES},
    ),
    _event(
        "artefact-released",
        "An artefact left through the airlock; logged before it did.",
        "project job artefact",
        {"content": V.DIGEST, "size": V.COUNT, "class": V.CODE, "decisions": V.DIGESTS},
        {"record": V.DIGEST},
    ),
    _event(
        "artefact-kept",
        "An output stays in the project, sealed, for its later jobs; from here on it may be named by them.",
        "project job attempt artefact",
        {"class": V.CODE, "manifest": V.DIGEST, "size": V.COUNT},
    ),
    _event(
        "kept-tried",
        "After its key's end: what lay of a kept output was measured and its manifests tried with all keys left.",
        "project job attempt artefact",
        _TRIED,
    ),
    _event(
        "kept-removed",
        "The sealed objects of a kept output were unlinked and listed empty.",
        "project job attempt artefact",
        _REMOVED,
    ),
    _event("artefact-withheld", "An artefact stays in.", "project job artefact", {"code": V.CODE}),
    _event("artefact-fetched", "A person fetched a released artefact.", "project job artefact person"),
    _event(
        "quarantine-removed",
        "All quarantined and rebuilt content of a job was removed.",
        "project job",
        _REMOVED,
    ),
)

_ENDS = (
    _event(
        "place-verified",
        "One row of the inventory of places was verified for a project.",
        "project",
        {
            "place": V.CODE,
            "method": V.CODE,
            "result": V.CODE,
            "verified": V.FLAG,
        },
        {"count": V.COUNT, "bytes": V.COUNT},
    ),
    _document(
        "certificate-issued",
        "certificate",
        "The certificate of destruction of a project was signed.",
        "project",
        {"size": V.COUNT, "root": V.DIGEST},
    ),
)

_SITE = (
    _event(
        "cluster-added", "An admin made a cluster known.", "cluster", {"type": V.CODE, "isolation": V.CODE}
    ),
    _event("cluster-drained", "An admin stopped new work for a cluster.", "cluster", {"drained": V.FLAG}),
    _event(
        "runtime-installed",
        "An admin put a node runtime on a cluster; from here on nodes there that run it may be given keys. With"
        " `flavour`: packages for sandboxes, which jobs of that flavour get from here on.",
        "cluster",
        {"digest": V.DIGEST},
        {"flavour": V.NAME, "size": V.COUNT},
    ),
    _event(
        "runtime-withdrawn",
        "An admin withdrew a node runtime, or a flavour: no keys are given any more to nodes that run it, or to jobs"
        " of it.",
        "cluster",
        {"digest": V.DIGEST},
    ),
)

_ROWS = (*_TRUST, *_STATES, *_KEYS, *_COPIES, *_JOBS, *_HANDOVER, *_OUTPUTS, *_ENDS, *_SITE)
_ACCEPTED = tuple(
    _document(f"{kind.name}-accepted", kind.name, f"A signed {kind.name} was accepted.", kind.about)
    for kind in KINDS.values()
    if kind.filed and kind.name not in {row.document_kind for row in _ROWS}
)
"""Of kinds of documents whose entry repeats nothing of the document."""

EVENTS: dict[str, Event] = {event.name: event for event in (*_ROWS, *_ACCEPTED)}
"""Every event by name, in the order of a life; the docs' table is generated from it."""
