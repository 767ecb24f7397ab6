"""keyd without its socket, with people, a clock and a log: what tests of its rules ask and show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hdrs_hpc.audit import merkle
from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.keyd import Keyd
from hdrs_hpc.broker.keyd.keystore import FileKeystore
from hdrs_hpc.core import clock
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.protocol import handover
from hdrs_hpc.protocol.handover import Hello, NodeAnswer, Probe
from tests.support.party import FLAVOUR, GRANT, NINES, ONES, OTHERS, REGISTRATION, SPEC, TWOS, Party, changed

ATTEMPT = "hdrs-0123456789abcdefghjkmnpqrs"
OTHER_ATTEMPT = "hdrs-zzzzzzzzzzzzzzzzzzzzzzzzzz"
COPY = "C0PYC0PY00"
CLUSTER = "local"
CHOSEN = "sha256:" + "3" * 64
"""Digest of the manifest that names what the spec's selection chose of the copy."""
LIST = "sha256:" + "5" * 64
"""Digest of the opt-out list that a key room begins with."""
STRONG = Probe("sandboxed", (), True, True, 2)


def facts(
    name: str = "ct", copy: str = COPY, served: str = CHOSEN, added: tuple[str, ...] | None = ("served", "ct")
) -> m.CopyFacts:
    """An input, of which a narrower manifest was chosen."""
    return m.CopyFacts(name, copy, ("copies", copy), served, added)


@dataclass
class Node:
    """An agent's half, in so far as keyd sees it."""

    name: str = "n1"
    attempt: str = ATTEMPT
    probe: Probe = STRONG
    told: bytes = b"{}"

    def __post_init__(self) -> None:
        self.private = X25519PrivateKey.generate()

    def hello(self) -> Hello:
        return Hello(
            self.attempt,
            self.name,
            self.private.public_key().public_bytes_raw(),
            self.probe,
            "127.0.0.1",
            self.told,
            ONES,
        )

    def open(self, brought: NodeAnswer) -> handover.LaunchOrder:
        return handover.open_order(signed(brought), brought.sealed, self.private)


def signed(brought: NodeAnswer) -> handover.Answer:
    return handover.parse_answer(Envelope.parse(brought.envelope).payload)


class KeyRoom:
    def __init__(self, folder: Path, now: str = "2027-01-15T12:00:00Z") -> None:
        self.folder = folder
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.now = clock.from_text(now)
        self.party = Party()
        self.grant_value, self.spec_value = GRANT, SPEC
        self.log: list[bytes] = []
        self.statements: list[str] = []
        self.nodes = b""
        """The list of nodes that came with the last answer."""
        self.keyd = self._open()

    def dated(self, days: int) -> KeyRoom:
        """Begun ``days`` ago by the real clock: a month to run, then 14 days of reviews, then destroyed by day 60."""
        self.now = clock.now() - timedelta(days=days)
        valid = {
            "from": clock.to_text(self.now - timedelta(days=1)),
            "run-until": clock.to_text(self.now + timedelta(days=30)),
            "review-grace": "14d",
            "destroy-by": clock.to_text(self.now + timedelta(days=60)),
        }
        self.grant_value = changed(GRANT, "valid", valid)
        self.spec_value = SPEC | {
            "not-before": clock.to_text(self.now - timedelta(hours=1)),
            "expires": clock.to_text(self.now + timedelta(days=1)),
        }
        return self

    def _open(self) -> Keyd:
        return Keyd(FileKeystore(self.folder), lambda: self.now)

    def ask[R](self, request: m.Ask[R]) -> R:
        return self.keyd.answer(request)

    def restart(self, *, prove: bool = True) -> None:
        """A new keyd on the same files; ``prove`` shows it the log as the controller does."""
        self.keyd.close()
        self.keyd = self._open()
        if prove:
            self.sign_log()

    def later(self, **delta: float) -> datetime:
        self.now += timedelta(**delta)
        return self.now

    # --- the log

    def tell(
        self, event: str, subject: dict[str, str], actor: str = "broker/controller", **detail: Any
    ) -> int:
        told = {key.replace("_", "-"): value for key, value in detail.items()}
        entry = Entry(len(self.log), clock.to_text(self.now), event, subject, actor, told)
        self.log.append(entry.to_bytes())
        return entry.seq

    def sign_log(self, entries: Sequence[bytes] | None = None, known: int | None = None) -> m.Signed:
        leaves = [merkle.leaf_hash(raw) for raw in (self.log if entries is None else entries)]
        before = self.ask(m.Status()).log_size if known is None else known
        size = len(leaves)
        path = merkle.consistency_proof(merkle.Leaves(leaves), before, size) if before <= size else []
        return self.ask(m.SignCheckpoint(before, size, merkle.root_hash(leaves), tuple(path)))

    def proof(self, *seqs: int) -> m.LogProof:
        self.sign_log()
        size = len(self.log)
        tree = merkle.Leaves([merkle.leaf_hash(raw) for raw in self.log])
        return m.LogProof(
            size,
            tuple(
                m.LoggedEntry(self.log[seq], seq, tuple(merkle.inclusion_proof(tree, seq, size)))
                for seq in seqs
            ),
        )

    # --- documents

    def root(self, **changes: Any) -> bytes:
        value = self.party.root_value(**changes)
        lines = self.ask(m.SigningKeys()).lines
        return self.party.sign(
            "trust-root", value | {"broker-keys": {k: [v] for k, v in lines.items()}}, "ada", "bob"
        ).to_bytes()

    def begin(self) -> KeyRoom:
        """Trust root pinned, grant in force, one sealed copy and the attempt's key: ready to hand over."""
        raw = self.root()
        self.ask(m.PinRoot(raw, Envelope.parse(raw).digest))
        self.admit(self.grant_value)
        self.register_runtime(ONES)
        self.register_flavour(FLAVOUR)
        self.opt_out()
        self.seal_copy()
        self.ask(m.CreateKey("lung-fm", "output", ATTEMPT, None, None))
        return self

    def admit(self, value: dict[str, Any], *people: str) -> bytes:
        envelope = self.party.sign("grant", value, *(people or ("ada", "bob")))
        self.ask(self.admit_request(envelope, self.tell_grant(envelope)))
        return envelope.to_bytes()

    def admit_request(self, envelope: Envelope, entry: int, *registrations: Envelope) -> m.AdmitGrant:
        """The grant with the registrations that it rests on (by default the one there is) and proof of them all."""
        rests_on = registrations or (self.registration(),)
        seqs = [entry, *(self.tell_registration(item) for item in rests_on)]
        return m.AdmitGrant(
            envelope.to_bytes(), tuple(item.to_bytes() for item in rests_on), self.proof(*seqs)
        )

    def registration(self, *people: str, **changes: Any) -> Envelope:
        return self.party.sign("dataset-registration", REGISTRATION | changes, *(people or ("ada", "bob")))

    def tell_registration(self, envelope: Envelope) -> int:
        return self.tell(
            "dataset-registered",
            {"dataset": "north-chest-ct", "document": envelope.digest},
            envelope=ONES,
            version=DatasetRegistration.from_payload(envelope.payload).version,
            items=1000,
            sensitivity="real",
            owner="north",
        )

    def tell_grant(self, envelope: Envelope) -> int:
        return self.tell(
            "grant-accepted",
            {"project": "lung-fm", "document": envelope.digest},
            envelope=ONES,
            version=1,
            signers=["ada", "bob"],
            reviewers=2,
            run_until="2027-06-30T00:00:00Z",
            destroy_by="2027-07-31T00:00:00Z",
        )

    def register_runtime(self, digest: str, event: str = "runtime-installed", cluster: str = CLUSTER) -> int:
        """An admin's word on a node runtime, in the log and with keyd."""
        seq = self.tell(event, {"cluster": cluster}, "broker/admin", digest=digest)
        self.ask(m.AdmitRuntimes(self.proof(seq)))
        return seq

    def register_flavour(
        self, digest: str, name: str = "base", cluster: str = CLUSTER, size: int = 1000
    ) -> int:
        seq = self.tell(
            "runtime-installed", {"cluster": cluster}, "broker/admin", digest=digest, flavour=name, size=size
        )
        self.ask(m.AdmitRuntimes(self.proof(seq)))
        return seq

    def opt_out(self, listed: str = LIST, **changes: Any) -> m.Done:
        """A change of the opt-out list, told to the log as one that led to ``listed``, and then to keyd."""
        return self.ask(self.opt_out_request(listed, **changes))

    def opt_out_request(self, listed: str = LIST, **changes: Any) -> m.AdmitOptOut:
        held = self.statements[-1] if self.statements else None
        value: dict[str, Any] = {
            **OTHERS["opt-out-change"][1],
            "version": len(self.statements) + 1,
            **({"supersedes": held} if held else {}),
            **changes,
        }
        envelope = self.party.sign("opt-out-change", value, "ada")
        self.statements.append(envelope.digest)
        seq = self.tell(
            "opt-out-changed",
            {"dataset": value["dataset"], "document": envelope.digest},
            "ada",
            envelope=ONES,
            version=value["version"],
            action=value["action"],
            list=listed,
            about=10,
        )
        return m.AdmitOptOut(envelope.to_bytes(), self.proof(seq))

    def next_grant(self, before: bytes, path: str = "title", new: Any = "A second version") -> dict[str, Any]:
        value = changed(GRANT, path, new)
        return value | {"version": 2, "supersedes": Envelope.parse(before).digest}

    def spec(self, path: str = "name", new: Any = "spacing", person: str = "rae") -> bytes:
        return self.party.sign("job-spec", changed(self.spec_value, path, new), person).to_bytes()

    def closure(self, action: str, person: str = "ada", **changes: Any) -> bytes:
        value = OTHERS["closure"][1] | {"action": action} | changes
        return self.party.sign("closure", value, person).to_bytes()

    def unfreeze(self, freeze: bytes, *people: str) -> bytes:
        value = OTHERS["closure"][1] | {"action": "unfreeze", "freeze": Envelope.parse(freeze).digest}
        return self.party.sign("closure", value, *people).to_bytes()

    def tell_closure(self, closure: bytes, action: str) -> int:
        return self.tell(
            "closure-accepted",
            {"project": "lung-fm", "document": Envelope.parse(closure).digest},
            "ada",
            envelope=ONES,
            action=action,
        )

    # --- keys

    def seal_copy(self, copy: str = COPY, version: str = NINES, listed: str = LIST) -> None:
        self.ask(m.CreateKey("lung-fm", "copy", copy, "north-chest-ct", version, listed))
        self.ask(m.CreateKey("lung-fm", "deid", "project", None, None))
        self.ask(m.NoteManifest("lung-fm", "copy", copy, f"{copy}.manifest", TWOS))

    def bind_request(self, *nodes: Node, **changes: Any) -> m.BindNodes:
        asked: dict[str, Any] = {
            "project": "lung-fm",
            "job": "7K3QW2",
            "attempt": ATTEMPT,
            "spec": self.spec(),
            "code_approvals": (),
            "hellos": tuple(node.hello() for node in nodes),
            "copies": (facts(),),
            "bundle_parts": None,
            "cluster": CLUSTER,
            "isolation": "sandboxed",
            "started_at": clock.to_text(self.now),
        }
        asked |= changes
        if "chosen" not in asked:
            told = [
                self.tell_chosen(fact, asked["spec"], asked["attempt"], job=asked["job"])
                for fact in asked["copies"]
            ]
            asked["chosen"] = self.proof(*(told or [0]))
        return m.BindNodes(**asked)

    def tell_chosen(
        self,
        fact: m.CopyFacts,
        spec: bytes,
        attempt: str = ATTEMPT,
        narrowed: bool | None = None,
        job: str = "7K3QW2",
    ) -> int:
        """The log's entry of what an attempt is served of one input."""
        return self.tell(
            "served-chosen",
            {"project": "lung-fm", "job": job, "attempt": attempt},
            input=fact.input,
            copy=fact.copy,
            spec=Envelope.parse(spec).digest,
            manifest=fact.served,
            narrowed=fact.added is not None if narrowed is None else narrowed,
        )

    def bind(self, *nodes: Node, **changes: Any) -> m.BoundNodes:
        return self.ask(self.bind_request(*nodes, **changes))

    def tell_bound(self, bound: m.BoundNodes, attempt: str = ATTEMPT) -> list[int]:
        return [
            self.tell(
                "handover-bound",
                {"project": "lung-fm", "job": "7K3QW2", "attempt": attempt, "node": node},
                "broker/keyd",
                public_key=said.public_key,
                runtime=said.runtime,
            )
            for node, said in sorted(bound.nodes.items())
        ]

    def answer(self, *seqs: int, attempt: str = ATTEMPT) -> dict[str, NodeAnswer]:
        given = self.ask(m.AnswerNodes(attempt, self.proof(*seqs)))
        self.nodes = given.nodes
        return given.answers

    def hand_over(self, *nodes: Node, **changes: Any) -> dict[str, NodeAnswer]:
        return self.answer(*self.tell_bound(self.bind(*nodes, **changes)))

    def live(self) -> list[tuple[str, str]]:
        return [(key.role, key.holder) for key in self.ask(m.Inspect("lung-fm")).live]
