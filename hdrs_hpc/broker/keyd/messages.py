"""What keyd can be asked, one dataclass a request; anything else is refused before it is looked at.

Envelopes travel as their exact bytes.  Replies are plain dictionaries, documented at each request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from hdrs_hpc.catalogue.isolation import GivenIsolation
from hdrs_hpc.core.wire import Between, Count, Digest, Key32, Moment, Name, PathPart, Pattern
from hdrs_hpc.protocol.handover import Hello

EnvelopeBytes = Annotated[bytes, Between(1, 4 << 20)]
MAX_DATASETS = 100
"""That one grant may name."""
MAX_LOGGED = 1 + MAX_DATASETS
"""Entries that one proof may show: a grant and the registrations that it rests on."""
Holder = Annotated[str, Pattern(r"[A-Za-z0-9-]{1,64}")]


@dataclass(frozen=True)
class Status:
    """→ ``{root, version, checkpoint: {size, root}, keystore: {class, statement}, giving}``

    ``giving`` is false until the log was shown to extend the last checkpoint (see ``logwatch``).
    """


@dataclass(frozen=True)
class SigningKeys:
    """→ ``{kind: public key line}`` of the broker's own keys, to be written into the trust root."""


@dataclass(frozen=True)
class PinRoot:
    """Pin the first trust root, or follow a succession.  → ``{digest, version}``"""

    envelope: EnvelopeBytes
    digest: Digest | None


@dataclass(frozen=True)
class LoggedEntry:
    """A log entry and its path (RFC 6962) to the root of the last checkpoint that keyd signed."""

    entry: Annotated[bytes, Between(2, 65535)]
    index: Count
    path: Annotated[tuple[Key32, ...], Between(0, 64)]


@dataclass(frozen=True)
class LogProof:
    """What keyd gives it gives only against proof that the log says so already."""

    size: Count
    """Of the checkpoint that the paths lead to; if it is not the last one any more: checkpoint-overtaken."""
    entries: Annotated[tuple[LoggedEntry, ...], Between(1, MAX_LOGGED)]


@dataclass(frozen=True)
class HeldGrant:
    """→ ``{grant, unfrozen}``: what keyd holds to, null and nothing for a project that it does not know.

    ``grant`` is its digest, ``unfrozen`` the digests of the closures that lifted a freeze.
    """

    project: Name


@dataclass(frozen=True)
class AdmitGrant:
    """Verify a grant and the registrations that it rests on, and hold to it.  → ``{project}``"""

    envelope: EnvelopeBytes
    registrations: Annotated[tuple[EnvelopeBytes, ...], Between(1, MAX_DATASETS)]
    """Of every dataset that the grant names, in the version that it names."""
    logged: LogProof
    """Its ``grant-accepted`` and the ``dataset-registered`` of each of them."""


@dataclass(frozen=True)
class HeldOptOut:
    """→ ``{version, list}`` of the opt-out list that keyd holds to; 0 and null for a dataset that it has none of."""

    dataset: Name


@dataclass(frozen=True)
class AdmitOptOut:
    """Verify an opt-out change, hold to its list, destroy the keys of copies made under the one before.

    ``logged`` is its ``opt-out-changed``, which names the list.  → ``{dataset, destroyed: [{id, role, holder}]}``
    """

    envelope: EnvelopeBytes
    logged: LogProof


@dataclass(frozen=True)
class AdmitClosure:
    """Verify a freeze, closure or revocation and act on it at once.  → ``{project, action}``"""

    envelope: EnvelopeBytes


@dataclass(frozen=True)
class AdmitUnfreeze:
    """Verify that a freeze is lifted and give keys again; ``logged`` is its ``closure-accepted``.  → ``{project}``"""

    envelope: EnvelopeBytes
    logged: LogProof


@dataclass(frozen=True)
class HeldRuntimes:
    """→ ``{runtimes: {digest: {entry, registered}}}``: what keyd holds of the node runtimes of a cluster."""

    cluster: Name


@dataclass(frozen=True)
class AdmitRuntimes:
    """Hold to what an admin said of node runtimes: ``runtime-installed``, ``runtime-withdrawn``.  → ``{}``"""

    logged: LogProof


@dataclass(frozen=True)
class CreateKey:
    """Make a key for a copy, a bundle, an attempt's outputs, or the project's de-identification.

    → ``{key}``: its id.  The same again gives the same id.
    """

    project: Name
    role: Literal["copy", "bundle", "output", "deid"]
    holder: Holder
    dataset: Name | None
    version: Digest | None
    opt_out: Digest | None = None
    """Of a copy: the opt-out list that it is made under, which must be the one that keyd holds to."""


@dataclass(frozen=True)
class NoteManifest:
    """A copy or bundle was sealed: from now on its key is for hand-over only.  → ``{}``"""

    project: Name
    role: Literal["copy", "bundle"]
    holder: Holder
    manifest_name: Annotated[str, Between(1, 200)]
    manifest_digest: Digest


@dataclass(frozen=True)
class UseKey:
    """A process of the data zone needs a key.  → ``{key}``; for ``stage`` also ``{deid}``.

    ``select`` is for a sealed copy: to choose what one attempt is served of it.
    """

    purpose: Literal["stage", "select", "bundle", "collect"]
    project: Name
    holder: Holder


@dataclass(frozen=True)
class CopyFacts:
    """Which copy stands for which input of the spec, and what of it the attempt is served."""

    input: Name
    copy: Holder
    parts: Annotated[tuple[PathPart, ...], Between(1, 12)]
    served: Digest
    """Of the manifest that names all that the attempt is served of the copy."""
    added: Annotated[tuple[PathPart, ...], Between(1, 12)] | None
    """Where that manifest lies, if it is not the copy's own."""


@dataclass(frozen=True)
class BindNodes:
    """First half of the hand-over: judge the attempt, bind each node's first public key.

    → ``{nodes: {node: digest of its public key}, runtimes: {node: digest of its runtime}, not_after}``.  The same
    request again gives the same.
    """

    project: Name
    job: Annotated[str, Pattern(r"[0-9A-Z]{6,26}")]
    attempt: Holder
    spec: EnvelopeBytes
    code_approvals: Annotated[tuple[EnvelopeBytes, ...], Between(0, 16)]
    hellos: Annotated[tuple[Hello, ...], Between(0, 4096)]
    """More than a hand-over reaches, so that too many are refused in a sentence."""
    copies: Annotated[tuple[CopyFacts, ...], Between(0, 64)]
    chosen: LogProof
    """The ``served-chosen`` of every input."""
    bundle_parts: Annotated[tuple[PathPart, ...], Between(1, 12)] | None
    cluster: Name
    """Where the attempt runs: one that the grant names, and the spec if it names any."""
    isolation: GivenIsolation
    """The level the attempt is to run at: the cluster's, never below what the documents require."""
    started_at: Moment


@dataclass(frozen=True)
class AnswerNodes:
    """Second half: sealed answers, given only against proof that every binding is in the log.

    → ``{nodes: base64 of the list of nodes, answers: {node: its NodeAnswer}, digests: {node: digest}, not_after,
    keys}``.  Again gives the same bytes.
    """

    attempt: Holder
    logged: LogProof
    """The ``handover-bound`` of every node."""


@dataclass(frozen=True)
class SignCheckpoint:
    """→ ``{envelope}``.  Only a log that extends the last one signed gets a signature.

    The asker learns ``known`` first and reads the log afterwards; another one shows that the log is not the same.
    """

    known: Count
    """Size of the last checkpoint, as Status told: what ``consistency`` (RFC 6962) begins with."""
    size: Count
    root: Key32
    consistency: Annotated[tuple[Key32, ...], Between(0, 128)]


@dataclass(frozen=True)
class SignRelease:
    """→ ``{envelope}``.  keyd reads the decisions by itself before it signs."""

    payload: EnvelopeBytes
    decisions: Annotated[tuple[EnvelopeBytes, ...], Between(1, 16)]
    logged: LogProof
    """The ``artefact-released`` of this artefact."""


@dataclass(frozen=True)
class SignCertificate:
    """→ ``{envelope}``.  Only for a project of which keyd holds no key any more, naming each that it destroyed."""

    payload: EnvelopeBytes


@dataclass(frozen=True)
class Destroy:
    """Destroy keys: ``copies``, ``outputs`` (bundles too) or ``all`` of a project, or those of one holder.

    → ``{destroyed: [{id, role, holder}]}``: those that were alive until now.
    """

    project: Name
    what: Literal["copies", "outputs", "all"]
    holder: Holder | None


@dataclass(frozen=True)
class Inspect:
    """→ ``{live: [{id, role, holder}], destroyed: [{id, role, holder, at}], project_key, grant, master_rotated}``

    ``master_rotated``: whether the master key was replaced since the end of every key of the project.
    """

    project: Name


@dataclass(frozen=True)
class TrySample:
    """Try to open the manifest of a sealed copy, or of an attempt's outputs or bundle, with every key there is.

    ``head``: the object's first segment with its header, ``size`` the whole object's sealed bytes.
    → ``{tried, opened}``: how many keys, of whatever project, and whether one of them opened it.
    """

    role: Literal["copy", "output"]
    project: Name
    holder: Holder
    head: Annotated[bytes, Between(1, 64 << 10)]
    size: Count


Ask = (
    Status
    | SigningKeys
    | PinRoot
    | HeldGrant
    | AdmitGrant
    | HeldOptOut
    | AdmitOptOut
    | AdmitClosure
    | AdmitUnfreeze
    | HeldRuntimes
    | AdmitRuntimes
    | CreateKey
    | NoteManifest
    | UseKey
    | BindNodes
    | AnswerNodes
    | SignCheckpoint
    | SignRelease
    | SignCertificate
    | Destroy
    | Inspect
    | TrySample
)
"""Every request there is."""
