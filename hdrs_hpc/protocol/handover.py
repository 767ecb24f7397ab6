"""The hand-over of keys to a running attempt: messages, what binds them, and their sealing.

Story.  Each agent makes an X25519 key pair in RAM.  A courier, a Slurm step that the broker starts inside the
attempt's own job, carries one :class:`Request` to every agent and one :class:`Reply` back:

1. ``hello``: the reply holds a :class:`Hello`: the public key, and what the isolation probe found.
2. ``answers``: one signed :class:`Answer` for every node.  An agent takes its own, checks that every node of
   the attempt has one, opens it, and closes the hand-over.
3. ``stop``: the agent stops the workload and forgets its keys.

An answer is an envelope of kind ``handover-answer``, signed by the broker, around :class:`Answer`; inside it
the :class:`LaunchOrder` is sealed by HPKE (RFC 9180, base mode: DHKEM X25519 HKDF-SHA256, HKDF-SHA256,
AES-256-GCM) to the one public key, with the digest of everything it was decided for as ``info``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from hdrs_hpc.catalogue.isolation import GivenIsolation, at_least, is_contained
from hdrs_hpc.core import curve25519, strict_json
from hdrs_hpc.core.errors import NotAllowedError
from hdrs_hpc.protocol import PROTOCOL, wire
from hdrs_hpc.protocol.ranks import NodeRanks
from hdrs_hpc.protocol.wire import (
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
MAX_NODES = 64
MAX_ANSWER_BYTES = 256 << 10
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)

AttemptName = Annotated[str, Pattern(r"hdrs-[0-9a-hjkmnp-tv-z]{26}")]


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


@dataclass(frozen=True)
class Hello:
    attempt: AttemptName
    node: NodeName
    public_key: Key32
    probe: Probe
    address: Annotated[str, Pattern(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")]
    """Of this node, as other nodes of the job reach it; 127.0.0.1 where there are no others."""
    port: Annotated[int, Between(1, 65535)]
    """Kept free on this node for a Dask scheduler."""
    runtime: Digest
    schema: Literal["hdrs-hpc/protocol/1"] = PROTOCOL


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
    """A sealed copy with the one object ``bundle.tar``."""
    digest: Digest
    """Of the tar file, as the researcher signed it."""
    size_bytes: Annotated[int, Between(1, 64 << 20)]


@dataclass(frozen=True)
class WorkloadOrder:
    kind: Literal["dask"]
    builtin: Annotated[str, Pattern(r"[a-z][a-z0-9-]{0,39}@[0-9]{1,4}")] | None
    bundle: BundleOrder | None
    entry: Annotated[str, Pattern(r"[A-Za-z_][A-Za-z0-9_.]{0,119}:[A-Za-z_][A-Za-z0-9_]{0,79}")] | None
    """``module:function`` inside the bundle; None for a built-in workload."""
    parameters: dict[Annotated[str, Between(1, 80)], Any]


@dataclass(frozen=True)
class OutputOrder:
    name: Name
    output_class: Name
    path: Annotated[str, Pattern(r"(?!.*(^|/)\.\.?(/|$))[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")]
    """Where the workload writes it, below the folder of outputs."""
    max_size_bytes: Count


@dataclass(frozen=True)
class TlsOrder:
    ca: Annotated[str, Between(1, 16384)]
    cert: Annotated[str, Between(1, 16384)]
    key: Annotated[str, Between(1, 16384)]

    def __repr__(self) -> str:
        return "TlsOrder(…)"


@dataclass(frozen=True)
class LaunchOrder:
    """All that a node needs for one attempt.  Exists in clear only in keyd's and the agent's memory."""

    project: Name
    attempt: AttemptName
    job: Annotated[str, Pattern(r"[0-9A-Z]{6,26}")]
    workload: WorkloadOrder
    inputs: dict[Name, SealedInput]
    output_key: Key32
    outputs: tuple[OutputOrder, ...]
    isolation: GivenIsolation
    ranks: Annotated[tuple[NodeRanks, ...], Between(1, MAX_NODES)]
    scheduler: Annotated[str, Pattern(r"tls://[0-9.]{7,15}:[0-9]{1,5}")]
    tls: TlsOrder
    not_after: Moment
    time_s: Annotated[int, Between(1, 30 * 86400)]
    """How long the workload may run, counted from its start."""
    mem_mb: Annotated[int, Between(64, 1 << 26)]
    cpus: Annotated[int, Between(1, 4096)]
    schema: Literal["hdrs-hpc/protocol/1"] = PROTOCOL

    def __repr__(self) -> str:
        return f"LaunchOrder({self.attempt})"


@dataclass(frozen=True)
class Binding:
    """Everything an answer was decided for.  Its digest is HPKE's ``info``: any other value opens nothing."""

    audience: Name
    project: Name
    attempt: AttemptName
    node: NodeName
    public_key: Key32
    nodes: Annotated[tuple[NodeName, ...], Between(1, MAX_NODES)]
    """All nodes of the attempt, the first one first."""
    manifests: tuple[Digest, ...]
    """Manifest digests of inputs and bundle, sorted."""
    not_after: Moment
    schema: Literal["hdrs-hpc/protocol/1"] = PROTOCOL

    def info(self) -> bytes:
        return hashlib.sha256(wire.to_bytes(self)).digest()


@dataclass(frozen=True)
class Answer:
    """Payload of the signed envelope: the binding in clear, the order sealed."""

    binding: Binding
    sealed: Annotated[bytes, Between(48, MAX_ANSWER_BYTES)]
    """HPKE: the 32-byte encapsulated key, then the ciphertext of a LaunchOrder."""
    schema: Literal["hdrs-hpc/handover-answer/1"] = "hdrs-hpc/handover-answer/1"


@dataclass(frozen=True)
class Request:
    """What a courier carries to an agent."""

    ask: Literal["hello", "answers", "stop"]
    answers: dict[NodeName, Annotated[bytes, Between(1, MAX_ANSWER_BYTES)]] | None
    """By node: the bytes of signed envelopes.  Only with ``answers``."""


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


def manifests_of(order: LaunchOrder) -> tuple[str, ...]:
    """Sorted digests of every manifest that ``order`` opens."""
    sealed = list(order.inputs.values())
    if order.workload.bundle is not None:
        sealed.append(order.workload.bundle.sealed)
    return tuple(sorted(item.manifest_digest for item in sealed))


def bind(audience: str, order: LaunchOrder, hello: Hello) -> Binding:
    """The binding of ``order`` for the node that said ``hello``."""
    return Binding(
        audience=audience,
        project=order.project,
        attempt=order.attempt,
        node=hello.node,
        public_key=hello.public_key,
        nodes=tuple(rank.node for rank in order.ranks),
        manifests=manifests_of(order),
        not_after=order.not_after,
    )


def check_node_key(hello: Hello) -> None:
    """Raise NodeKeyError for a public key of small order, or in an encoding that is not the only one."""
    wrong = curve25519.exchange_key_fault(hello.public_key)
    if wrong is not None:
        raise NodeKeyError(f"node {hello.node}: {wrong}")


def seal_order(audience: str, order: LaunchOrder, hello: Hello) -> Answer:
    """Seal ``order`` to the key in ``hello``.  Deciding whether it may have it is the caller's duty.

    Raises NodeKeyError.
    """
    check_node_key(hello)
    binding = bind(audience, order, hello)
    public = X25519PublicKey.from_public_bytes(hello.public_key)
    return Answer(binding, SUITE.encrypt(wire.to_bytes(order), public, binding.info()))


def open_order(answer: Answer, private: X25519PrivateKey) -> LaunchOrder:
    """Open an answer whose signature and binding the caller has checked.

    Raises AnswerUnreadableError where it was sealed for anything else than ``answer.binding``, or where the
    order inside contradicts the binding outside.
    """
    try:
        plain = SUITE.decrypt(answer.sealed, private, answer.binding.info())
    except InvalidTag:
        raise AnswerUnreadableError() from None
    order = wire.from_bytes(LaunchOrder, plain, MAX_ANSWER_BYTES)
    binding = answer.binding
    inside = (
        order.project,
        order.attempt,
        tuple(r.node for r in order.ranks),
        manifests_of(order),
        order.not_after,
    )
    outside = (binding.project, binding.attempt, binding.nodes, binding.manifests, binding.not_after)
    if inside != outside:
        raise AnswerUnreadableError("the sealed order contradicts the binding it came with")
    return order


def parse_answer(payload: bytes) -> Answer:
    """Raises BadDocumentError."""
    return wire.from_bytes(Answer, payload, 2 * MAX_ANSWER_BYTES)


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


def digest_of(answer: Answer) -> str:
    """``sha256:…`` of an answer's payload bytes, for the log."""
    return f"sha256:{hashlib.sha256(strict_json.dumps(wire.to_value(answer))).hexdigest()}"
