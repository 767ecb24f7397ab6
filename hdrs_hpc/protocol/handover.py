"""The hand-over of keys to a running attempt: messages, what binds them, and their sealing.

Story.  Each agent makes an X25519 key pair in RAM.  A courier, a Slurm step that the broker starts inside the
attempt's own job, carries one :class:`Request` to an agent and one :class:`Reply` back:

1. ``hello``: the reply holds a :class:`Hello`: the public key, what the isolation probe found, and what the node
   has to tell its peers.
2. ``answer``: this node's own :class:`NodeAnswer`, and the one :class:`NodeList` of the attempt, which is the same
   bytes for all.  The agent checks both, opens its answer, and closes the hand-over.
3. ``stop``: the agent stops the workload and forgets its keys.

An answer is an envelope of kind ``handover-answer``, signed by the broker, around :class:`Answer`; beside it
travels the :class:`LaunchOrder`, sealed by HPKE (RFC 9180, base mode: DHKEM X25519 HKDF-SHA256, HKDF-SHA256,
AES-256-GCM) to the one public key, with the digest of everything it was decided for as ``info``.  What is decided
for names the digest of the list of nodes, so the signature of each answer vouches for the list too.

Nothing here knows what runs: the order holds the job spec as the researcher signed it, and the node's own
catalogue of workloads reads it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from hdrs_hpc.catalogue.isolation import GivenIsolation, at_least, is_contained
from hdrs_hpc.core import curve25519, strict_json, wire
from hdrs_hpc.core.errors import NotAllowedError
from hdrs_hpc.core.limits import MAX_NODES, MAX_SPEC_BYTES
from hdrs_hpc.core.wire import (
    Between,
    Count,
    Digest,
    Key32,
    Moment,
    Name,
    NodeName,
    PathPart,
    Pattern,
    ReasonCode,
)

ENVELOPE_TYPE = "application/vnd.hdrs-hpc.handover-answer+json"
NAMESPACE = "hdrs-hpc/handover-answer@1"
MAX_TOLD_BYTES = 64 << 10
"""That a node may tell its peers."""
MAX_ORDER_BYTES = 576 << 10
"""Of a launch order.  With the longest list of nodes it is still one line of a courier."""
MAX_SEALED_BYTES = MAX_ORDER_BYTES + 48
MAX_LIST_BYTES = 128 << 10
MAX_ENVELOPE_BYTES = 32 << 10
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)

AttemptName = Annotated[str, Pattern(r"hdrs-[0-9a-hjkmnp-tv-z]{26}")]
Address = Annotated[str, Pattern(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")]


class AnswerUnreadableError(NotAllowedError):
    code = "handover-answer-unreadable"
    meaning = "The sealed part of a hand-over answer does not open for this key, node and attempt."
    remedy = "Nothing was released; the attempt stops and a new one needs a new job."


class NodeKeyError(NotAllowedError):
    code = "handover-node-key-refused"
    meaning = (
        "A node's public key is one with which every secret is known beforehand, or is written unusually."
    )
    remedy = "No agent of ours sends such a key: look at the node and at whoever carries messages to it."


class HandoverTooLargeError(NotAllowedError):
    code = "handover-too-large"
    meaning = "The attempt has more nodes, or its job spec says more, than one hand-over of keys can carry."
    remedy = (
        f"Ask for at most {MAX_NODES} nodes, and keep the signed spec below {MAX_SPEC_BYTES >> 10} KiB: "
        "large content belongs in the bundle."
    )


@dataclass(frozen=True)
class Probe:
    """What an agent found out about its own node before it asked for keys."""

    level: GivenIsolation
    """The level whose sandbox really started and held on this node."""
    reached: tuple[ReasonCode, ...]
    """What a process in that sandbox could still reach and must not: empty where it held."""
    private_memory: bool
    """Whether temporary files and outputs lie in memory that only this agent's processes see."""
    not_dumpable: bool
    gpus: Annotated[int, Between(0, 64)]
    memory_wall: Literal["cgroup", "watched"] = "watched"
    """Who holds the workload to its memory: the kernel, by the job's cgroup, or the agent's watch, by looking."""
    gpu_models: Annotated[
        tuple[Annotated[str, Pattern(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}")], ...], Between(0, 8)
    ] = ()
    """As the driver names them; empty where none tells."""


@dataclass(frozen=True)
class Hello:
    """What an agent says of itself and its node before it has any key."""

    attempt: AttemptName
    node: NodeName
    public_key: Key32
    probe: Probe
    address: Address
    """Of this node, as other nodes of the job reach it; 127.0.0.1 where there are no others."""
    told: Annotated[bytes, Between(0, MAX_TOLD_BYTES)]
    """What this node tells its peers; only the catalogue of workloads, on the nodes, understands it."""
    runtime: Digest
    schema: Literal["hdrs-hpc/hello/1"] = "hdrs-hpc/hello/1"

    def digest(self) -> str:
        return _digest(wire.to_bytes(self))


@dataclass(frozen=True)
class ListedNode:
    node: NodeName
    address: Address
    hello: Digest
    """Of all that it said: a peer that shows its hello can be held to it."""


@dataclass(frozen=True)
class NodeList:
    """The nodes of one attempt, the same bytes for each of them."""

    attempt: AttemptName
    nodes: Annotated[tuple[ListedNode, ...], Between(1, MAX_NODES)]
    """Sorted by name; the first one collects the outputs, and what it told is here for all."""
    first_told: Annotated[bytes, Between(0, MAX_TOLD_BYTES)]
    schema: Literal["hdrs-hpc/node-list/1"] = "hdrs-hpc/node-list/1"

    def to_bytes(self) -> bytes:
        return wire.to_bytes(self)

    def digest(self) -> str:
        return _digest(self.to_bytes())


@dataclass(frozen=True)
class SealedInput:
    """Something sealed on scratch and what opens it."""

    parts: Annotated[tuple[PathPart, ...], Between(1, 12)]
    """Folder of the sealed objects, below the project's scratch."""
    role: Literal["copy", "output"]
    holder: Annotated[str, Pattern(r"[A-Za-z0-9-]{1,64}")]
    """Id of the copy, or name of the attempt that sealed it: part of what every object is bound to."""
    manifest_name: Annotated[str, Between(1, 200)]
    manifest_digest: Digest
    key: Key32
    added: Annotated[tuple[PathPart, ...], Between(1, 12)] | None = None
    """Folder of further objects, which this attempt alone has; only of an input with a narrower selection."""

    def __repr__(self) -> str:  # a key must not reach a log through a traceback
        return f"SealedInput({'/'.join(self.parts)}, {self.manifest_digest})"


@dataclass(frozen=True)
class BundleOrder:
    sealed: SealedInput
    """A sealed copy with the object ``bundle.tar``, and one for each wheel of its lock."""
    digest: Digest
    """Of the tar file, as the researcher signed it."""
    size_bytes: Annotated[int, Between(1, 64 << 20)]
    lock: Digest | None = None
    """Of the ``requirements.lock`` in it, as signed; None where it brings no wheels."""


@dataclass(frozen=True)
class FlavourOrder:
    """What the sandbox runs on: the one file that keyd holds to for this cluster (``layout.flavour_parts``)."""

    name: Name
    digest: Digest
    size_bytes: Annotated[int, Between(1, 1 << 40)]


@dataclass(frozen=True)
class FileOrder:
    """A file that the workload finds under ``/inputs``: an output that an earlier job of the project kept."""

    sealed: SealedInput
    """A sealed copy that holds the one object ``path``."""
    path: Annotated[str, Between(1, 100)]
    safetensors: bool
    """Whether it holds weights, and is built anew before the workload sees it."""


@dataclass(frozen=True)
class KeptOrder:
    """Where an output is sealed that stays in the project, and under which key: never the attempt's own."""

    parts: Annotated[tuple[PathPart, ...], Between(1, 12)]
    holder: Annotated[str, Pattern(r"[A-Za-z0-9-]{1,64}")]
    key: Key32

    def __repr__(self) -> str:
        return f"KeptOrder({'/'.join(self.parts)})"


@dataclass(frozen=True)
class OutputOrder:
    name: Name
    output_class: Name
    path: Annotated[str, Pattern(r"(?!.*(^|/)\.\.?(/|$))[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")]
    """Where the workload writes it, below the folder of outputs."""
    max_size_bytes: Count
    kept: KeptOrder | None = None
    """Only of one that stays in the project."""


@dataclass(frozen=True)
class LaunchOrder:
    """All that a node needs for one attempt.  Exists in clear only in keyd's and the agent's memory."""

    project: Name
    attempt: AttemptName
    job: Annotated[str, Pattern(r"[0-9A-Z]{6,26}")]
    spec: Annotated[bytes, Between(2, MAX_SPEC_BYTES)]
    """The job spec: exactly the bytes that the researcher signed, whose signature keyd verified."""
    inputs: dict[Name, SealedInput]
    files: dict[Name, FileOrder]
    bundle: BundleOrder | None
    flavour: FlavourOrder
    output_key: Key32
    shared_secret: Key32
    """Known to the nodes of this attempt and to nobody else: what they trust each other by."""
    outputs: tuple[OutputOrder, ...]
    isolation: GivenIsolation
    not_after: Moment
    time_s: Annotated[int, Between(1, 30 * 86400)]
    """How long the workload may run, counted from its start."""
    mem_mb: Annotated[int, Between(64, 1 << 26)]
    cpus: Annotated[int, Between(1, 4096)]
    schema: Literal["hdrs-hpc/launch-order/2"] = "hdrs-hpc/launch-order/2"

    def __repr__(self) -> str:
        return f"LaunchOrder({self.attempt})"

    @property
    def workload(self) -> dict[str, Any]:
        """``workload:`` of the signed spec; raises BadDocumentError."""
        spec = strict_json.loads(self.spec, max_bytes=MAX_SPEC_BYTES)
        found = spec.get("workload") if isinstance(spec, dict) else None
        if not isinstance(found, dict):
            raise wire.MessageError("the spec names no workload", where="LaunchOrder.spec")
        return found


@dataclass(frozen=True)
class Binding:
    """Everything an answer was decided for.  Its digest is HPKE's ``info``: any other value opens nothing."""

    audience: Name
    project: Name
    attempt: AttemptName
    node: NodeName
    public_key: Key32
    nodes: Digest
    """Of the list of all nodes (:class:`NodeList`)."""
    manifests: tuple[Digest, ...]
    """Manifest digests of inputs, files and bundle, sorted."""
    not_after: Moment

    def info(self) -> bytes:
        return hashlib.sha256(wire.to_bytes(self)).digest()


@dataclass(frozen=True)
class Answer:
    """Payload of the signed envelope: what was decided, and the digest of the sealed order that goes with it."""

    binding: Binding
    sealed: Digest
    schema: Literal["hdrs-hpc/handover-answer/2"] = "hdrs-hpc/handover-answer/2"


@dataclass(frozen=True)
class NodeAnswer:
    """All that one node is brought, beside the list of nodes."""

    envelope: Annotated[bytes, Between(1, MAX_ENVELOPE_BYTES)]
    """The signed :class:`Answer`."""
    sealed: Annotated[bytes, Between(48, MAX_SEALED_BYTES)]
    """HPKE: the 32-byte encapsulated key, then the ciphertext of a LaunchOrder."""

    def digest(self) -> str:
        """Of the envelope, as the log names it."""
        return _digest(self.envelope)


@dataclass(frozen=True)
class Request:
    """What a courier carries to an agent."""

    ask: Literal["hello", "answer", "stop"]
    answer: NodeAnswer | None = None
    """Only with ``answer``, as is ``nodes``."""
    nodes: Annotated[bytes, Between(1, MAX_LIST_BYTES)] | None = None
    """The bytes of the :class:`NodeList`, as their digest stands in the answer."""
    schema: Literal["hdrs-hpc/courier/1"] = "hdrs-hpc/courier/1"


class HandoverState(StrEnum):
    WAITING = "waiting"
    ACCEPTED = "accepted"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Reply:
    """What a courier brings back from one node."""

    node: NodeName
    state: HandoverState
    hello: Hello | None
    """Always the same Hello of this agent, whatever was asked."""
    refused: ReasonCode | None
    """Why this request was refused; the agent goes on waiting (or running) as ``state`` says."""
    schema: Literal["hdrs-hpc/courier/1"] = "hdrs-hpc/courier/1"


def list_nodes(hellos: Sequence[Hello]) -> NodeList:
    """The list of the nodes that said ``hellos``, all of one attempt; raises HandoverTooLargeError."""
    if not 1 <= len(hellos) <= MAX_NODES:
        raise HandoverTooLargeError(f"{len(hellos)} nodes, where a hand-over reaches 1 to {MAX_NODES}")
    in_order = sorted(hellos, key=lambda hello: hello.node)
    return NodeList(
        attempt=in_order[0].attempt,
        nodes=tuple(ListedNode(hello.node, hello.address, hello.digest()) for hello in in_order),
        first_told=in_order[0].told,
    )


def manifests_of(order: LaunchOrder) -> tuple[str, ...]:
    """Sorted digests of every manifest that ``order`` opens."""
    sealed = [*order.inputs.values(), *(file.sealed for file in order.files.values())]
    if order.bundle is not None:
        sealed.append(order.bundle.sealed)
    return tuple(sorted(item.manifest_digest for item in sealed))


def bind(audience: str, order: LaunchOrder, hello: Hello, nodes: NodeList) -> Binding:
    """The binding of ``order`` for the node that said ``hello``, among ``nodes``."""
    return Binding(
        audience=audience,
        project=order.project,
        attempt=order.attempt,
        node=hello.node,
        public_key=hello.public_key,
        nodes=nodes.digest(),
        manifests=manifests_of(order),
        not_after=order.not_after,
    )


def check_node_key(hello: Hello) -> None:
    """Raise NodeKeyError for a public key of small order, or in an encoding that is not the only one."""
    wrong = curve25519.exchange_key_fault(hello.public_key)
    if wrong is not None:
        raise NodeKeyError(f"node {hello.node}: {wrong}")


def seal_order(audience: str, order: LaunchOrder, hello: Hello, nodes: NodeList) -> tuple[Answer, bytes]:
    """Seal ``order`` to the key in ``hello``: the answer to be signed, and the sealed order that it names.

    Deciding whether the node may have it is the caller's duty.  Raises NodeKeyError, HandoverTooLargeError.
    """
    check_node_key(hello)
    binding = bind(audience, order, hello, nodes)
    plain = wire.to_bytes(order)
    if len(order.spec) > MAX_SPEC_BYTES or len(plain) > MAX_ORDER_BYTES:
        raise HandoverTooLargeError(
            f"a signed spec of {len(order.spec)} bytes where {MAX_SPEC_BYTES} are carried, in an order of"
            f" {len(plain)} bytes where {MAX_ORDER_BYTES} are"
        )
    sealed = SUITE.encrypt(plain, X25519PublicKey.from_public_bytes(hello.public_key), binding.info())
    return Answer(binding, _digest(sealed)), sealed


def open_order(answer: Answer, sealed: bytes, private: X25519PrivateKey) -> LaunchOrder:
    """Open what came with an answer whose signature and binding the caller has checked.

    Raises AnswerUnreadableError where it was sealed for anything else than ``answer.binding``, where it is not
    what the answer names, or where the order inside contradicts the binding outside.
    """
    if _digest(sealed) != answer.sealed:
        raise AnswerUnreadableError("the sealed order is another than the answer names")
    try:
        plain = SUITE.decrypt(sealed, private, answer.binding.info())
    except InvalidTag:
        raise AnswerUnreadableError() from None
    order = wire.from_bytes(LaunchOrder, plain, MAX_ORDER_BYTES)
    binding = answer.binding
    inside = (order.project, order.attempt, manifests_of(order), order.not_after)
    if inside != (binding.project, binding.attempt, binding.manifests, binding.not_after):
        raise AnswerUnreadableError("the sealed order contradicts the binding it came with")
    return order


def parse_answer(payload: bytes) -> Answer:
    """Raises BadDocumentError."""
    return wire.from_bytes(Answer, payload, MAX_ENVELOPE_BYTES)


def parse_nodes(raw: bytes) -> NodeList:
    """Raises BadDocumentError."""
    return wire.from_bytes(NodeList, raw, MAX_LIST_BYTES)


def parse_reply(line: bytes) -> Reply:
    """One courier's line of output; raises BadDocumentError."""
    return wire.from_bytes(Reply, line)


def parse_request(line: bytes) -> Request:
    """Raises BadDocumentError."""
    return wire.from_bytes(Request, line)


def satisfies(probe: Probe, required: GivenIsolation) -> bool:
    """Whether a node that reported ``probe`` may run what requires ``required``."""
    if not at_least(probe.level, required):
        return False
    return not is_contained(required) or (not probe.reached and probe.private_memory and probe.not_dumpable)


def is_of_type(asked: str, models: tuple[str, ...]) -> bool:
    """Whether one of the GPUs' ``models`` is of the type that a spec's ``gpu:TYPE:4`` asks for.

    Sites choose these words.  One that names a model (``a100``, ``gh200``) must stand in the driver's name; another
    (``ampere``) can't be compared, nor can one be with a driver that tells none: Slurm's word counts then.
    """
    named = re.match(r"[a-z]{1,3}[0-9]{2,4}", asked.lower())
    known = [re.sub(r"[^a-z0-9]", "", model.lower()) for model in models]
    return named is None or not known or any(named[0] in model for model in known)


def _digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"
