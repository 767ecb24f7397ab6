"""What keyd can be asked and what it replies, one dataclass each; anything else is refused before it is looked at.

Each request names the type of its reply, so that ``ask(SigningKeys()).lines`` is checked before it runs.  Envelopes
travel as their exact bytes.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

from hdrs_hpc.catalogue.isolation import GivenIsolation
from hdrs_hpc.core.wire import Between, Count, Digest, Key32, Moment, Name, NodeName, PathPart, Pattern
from hdrs_hpc.protocol.handover import Hello, NodeAnswer

VERSION = "hdrs-hpc/keyd/2"
"""Of all requests and replies together: the broker's processes run one version, or do not talk."""
EnvelopeBytes = Annotated[bytes, Between(1, 4 << 20)]
MAX_DATASETS = 100
"""That one grant may name."""
MAX_LOGGED = 1 + MAX_DATASETS
"""Entries that one proof may show: a grant and the registrations that it rests on."""
Holder = Annotated[str, Pattern(r"[A-Za-z0-9-]{1,64}")]
KeyId = Annotated[str, Pattern(r"K-[a-z0-9-]{1,40}")]


class Ask[R]:
    """A request, and in brackets what keyd replies to it."""

    @classmethod
    def reply(cls) -> type[R]:
        found: type[R] = typing.get_args(types.get_original_bases(cls)[0])[0]
        return found


class AskKeyd(Protocol):
    """The way to keyd that a process was given: through its socket, or in the same process."""

    def __call__[R](self, request: Ask[R], /) -> R: ...


@dataclass(frozen=True)
class Done:
    """What was asked is so now, or was before."""


@dataclass(frozen=True)
class KeydStatus:
    root: Digest | None
    """Of the trust root in force, as is ``version``."""
    version: Count | None
    log_size: Count
    """Of the log that was signed last, as is ``log_root``."""
    log_root: Key32
    keystore_class: Name
    keystore_statement: str
    """What is known of a destroyed key, for certificates."""
    giving: bool
    """False until the log was shown to extend the last checkpoint (see ``logwatch``)."""


@dataclass(frozen=True)
class Status(Ask[KeydStatus]):
    """How keyd stands."""


@dataclass(frozen=True)
class PublicLines:
    lines: dict[Name, str]
    """Kind of document → public key line."""


@dataclass(frozen=True)
class SigningKeys(Ask[PublicLines]):
    """The broker's own keys, to be written into the trust root."""


@dataclass(frozen=True)
class PinRoot(Ask[Done]):
    """Pin the first trust root, or follow a succession."""

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
class GrantHeld:
    grant: Digest | None
    """None for a project that keyd does not know."""
    unfrozen: tuple[Digest, ...]
    """The closures that lifted a freeze."""


@dataclass(frozen=True)
class HeldGrant(Ask[GrantHeld]):
    """What keyd holds to of a project."""

    project: Name


@dataclass(frozen=True)
class AdmitGrant(Ask[Done]):
    """Verify a grant and the registrations that it rests on, and hold to it."""

    envelope: EnvelopeBytes
    registrations: Annotated[tuple[EnvelopeBytes, ...], Between(1, MAX_DATASETS)]
    """Of every dataset that the grant names, in the version that it names."""
    logged: LogProof
    """Its ``grant-accepted`` and the ``dataset-registered`` of each of them."""


@dataclass(frozen=True)
class OptOutHeld:
    version: Count
    list: Digest | None
    """None, in version 0, for a dataset of which nobody said anything."""


@dataclass(frozen=True)
class HeldOptOut(Ask[OptOutHeld]):
    """The opt-out list that keyd holds to."""

    dataset: Name


@dataclass(frozen=True)
class AdmitOptOut(Ask[Done]):
    """Verify an opt-out change, hold to its list, destroy the keys of copies made under the one before.

    ``logged`` is its ``opt-out-changed``, which names the list.
    """

    envelope: EnvelopeBytes
    logged: LogProof


@dataclass(frozen=True)
class AdmitClosure(Ask[Done]):
    """Verify a freeze, closure or revocation and act on it at once."""

    envelope: EnvelopeBytes


@dataclass(frozen=True)
class AdmitUnfreeze(Ask[Done]):
    """Verify that a freeze is lifted and give keys again; ``logged`` is its ``closure-accepted``."""

    envelope: EnvelopeBytes
    logged: LogProof


@dataclass(frozen=True)
class RuntimeHeld:
    entry: Count
    """Number of the entry of the log that counts."""
    registered: bool
    flavour: Name | None = None
    """Of which flavour it is the file; None: it is what agents run on."""
    size_bytes: Count = 0


@dataclass(frozen=True)
class RuntimesHeld:
    runtimes: dict[Digest, RuntimeHeld]


@dataclass(frozen=True)
class HeldRuntimes(Ask[RuntimesHeld]):
    """What keyd holds of the node runtimes of a cluster."""

    cluster: Name


@dataclass(frozen=True)
class AdmitRuntimes(Ask[Done]):
    """Hold to what an admin said of node runtimes: ``runtime-installed``, ``runtime-withdrawn``."""

    logged: LogProof


@dataclass(frozen=True)
class LiveKey:
    """What may be told of a key.  ``id`` is public, the key itself stays inside."""

    id: KeyId
    role: Name
    holder: Annotated[str, Pattern(r"[A-Za-z0-9-]{0,64}")]


@dataclass(frozen=True)
class KeptFor:
    """Which output of which attempt a key is for that outlives it."""

    job: Annotated[str, Pattern(r"[0-9A-Z]{6,26}")]
    attempt: Holder
    output: Name
    output_class: Name


@dataclass(frozen=True)
class CreateKey(Ask[LiveKey]):
    """Make a key for a copy, a bundle, an attempt's outputs, one kept output, or the project's de-identification.

    The same again gives the same id.
    """

    project: Name
    role: Literal["copy", "bundle", "output", "kept", "deid"]
    holder: Holder
    dataset: Name | None
    version: Digest | None
    opt_out: Digest | None = None
    """Of a copy: the opt-out list that it is made under, which must be the one that keyd holds to."""
    kept: KeptFor | None = None
    """Of a kept output, and of nothing else."""


@dataclass(frozen=True)
class NoteManifest(Ask[Done]):
    """A copy, a bundle or a kept output was sealed: from now on its key is for hand-over only."""

    project: Name
    role: Literal["copy", "bundle", "kept"]
    holder: Holder
    manifest_name: Annotated[str, Between(1, 200)]
    manifest_digest: Digest


@dataclass(frozen=True)
class GivenKey:
    key: Key32 = field(repr=False)
    deid: Key32 | None = field(repr=False)
    """Of the project, only for ``stage``."""


@dataclass(frozen=True)
class UseKey(Ask[GivenKey]):
    """A process of the data zone needs a key.

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
class BoundNode:
    public_key: Digest
    runtime: Digest


@dataclass(frozen=True)
class BoundNodes:
    nodes: dict[NodeName, BoundNode]
    not_after: Moment


@dataclass(frozen=True)
class BindNodes(Ask[BoundNodes]):
    """First half of the hand-over: judge the attempt, bind each node's first public key.

    The same request again gives the same.
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
class AnsweredNodes:
    nodes: bytes
    """The list of nodes, exactly as every node is brought it."""
    answers: dict[NodeName, NodeAnswer]
    not_after: Moment
    keys: tuple[KeyId, ...]
    """That the answers hold."""


@dataclass(frozen=True)
class AnswerNodes(Ask[AnsweredNodes]):
    """Second half: sealed answers, given only against proof that every binding is in the log.

    Again gives the same bytes.
    """

    attempt: Holder
    logged: LogProof
    """The ``handover-bound`` of every node."""


@dataclass(frozen=True)
class Signed:
    envelope: EnvelopeBytes


@dataclass(frozen=True)
class SignCheckpoint(Ask[Signed]):
    """Only a log that extends the last one signed gets a signature.

    The asker learns ``known`` first and reads the log afterwards; another one shows that the log is not the same.
    """

    known: Count
    """Size of the last checkpoint, as Status told: what ``consistency`` (RFC 6962) begins with."""
    size: Count
    root: Key32
    consistency: Annotated[tuple[Key32, ...], Between(0, 128)]


@dataclass(frozen=True)
class SignRelease(Ask[Signed]):
    """keyd reads the decisions by itself before it signs."""

    payload: EnvelopeBytes
    decisions: Annotated[tuple[EnvelopeBytes, ...], Between(1, 16)]
    logged: LogProof
    """The ``artefact-released`` of this artefact."""


@dataclass(frozen=True)
class SignCertificate(Ask[Signed]):
    """Only for a project of which keyd holds no key any more, naming each that it destroyed."""

    payload: EnvelopeBytes


@dataclass(frozen=True)
class Destroy(Ask[Done]):
    """Destroy keys: ``copies`` (what jobs kept too), ``outputs`` (bundles too) or ``all`` of a project, or those of
    one holder.
    """

    project: Name
    what: Literal["copies", "outputs", "all"]
    holder: Holder | None


@dataclass(frozen=True)
class DestroyedKey(LiveKey):
    at: Moment


@dataclass(frozen=True)
class ProjectKeys:
    live: tuple[LiveKey, ...]
    destroyed: tuple[DestroyedKey, ...]
    project_key: bool
    """Whether keyd has the key that the project's others are wrapped with."""
    grant: Digest | None
    master_rotated: bool
    """Whether the master key was replaced since the end of every key of the project."""


@dataclass(frozen=True)
class Inspect(Ask[ProjectKeys]):
    """Which keys a project has and had."""

    project: Name


@dataclass(frozen=True)
class Tried:
    tried: Count
    """How many keys, of whatever project."""
    opened: bool
    """Whether one of them opened it."""


@dataclass(frozen=True)
class TrySample(Ask[Tried]):
    """Try to open the manifest of a sealed copy, or of an attempt's outputs or bundle, with every key there is.

    ``head``: the object's first segment with its header, ``size`` the whole object's sealed bytes.
    """

    role: Literal["copy", "output"]
    project: Name
    holder: Holder
    head: Annotated[bytes, Between(1, 64 << 10)]
    size: Count


ASKS: dict[str, type[Ask[object]]] = {cls.__name__: cls for cls in Ask.__subclasses__()}
"""Every request there is, by its name."""
