"""keyd's half of the hand-over: judge an attempt by its signed documents, bind nodes, seal their orders.

The other two files are ``protocol/handover.py`` (the messages) and ``node/handover.py`` (the agent's half).
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.broker.keyd import kept, served
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.channel import MAX_MESSAGE_BYTES
from hdrs_hpc.broker.keyd.grants import DatasetNotGrantedError, GrantHolder
from hdrs_hpc.broker.keyd.keystore import FileKeystore, KeyRecord
from hdrs_hpc.broker.keyd.logwatch import NotLoggedError
from hdrs_hpc.broker.keyd.opt_outs import OptOutHolder
from hdrs_hpc.broker.keyd.roots import RootHolder
from hdrs_hpc.broker.keyd.runtimes import RuntimeHolder
from hdrs_hpc.catalogue import outputs
from hdrs_hpc.catalogue.outputs.output_class import WrittenDeclaration
from hdrs_hpc.core import clock, wire
from hdrs_hpc.core.errors import ConflictError, NotAllowedError
from hdrs_hpc.core.limits import MAX_NODES, MAX_SPEC_BYTES
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpec, KeptArtefact, Resources, kept_by, written
from hdrs_hpc.policy import granted
from hdrs_hpc.policy.granted import GrantedFacts
from hdrs_hpc.policy.rules import require
from hdrs_hpc.protocol import handover as protocol
from hdrs_hpc.protocol import layout

STAGE_OUT_GRACE = timedelta(minutes=10)
"""How long after its walltime an attempt may take to seal its outputs."""


class HandoverRefusedError(NotAllowedError):
    code = "handover-refused"
    meaning = "What was asked does not follow from the signed spec and the grant."
    remedy = "Nothing was given.  The broker's log names the attempt."


class SecondKeyError(ConflictError):
    code = "handover-second-key"
    meaning = "A node that already has a bound key asked with another one: somebody else may be asking."
    remedy = "The attempt is stopped; look at the node before the project's next job."


class IsolationProbeError(NotAllowedError):
    code = "isolation-probe-failed"
    meaning = "A node's own probe did not find the isolation that the grant requires."
    remedy = "`hdrs-hpc cluster doctor` tells what is missing on the nodes; or ask for another grant."


class GpusMissingError(NotAllowedError):
    code = "gpus-missing"
    meaning = "A node was given fewer GPUs by Slurm than the job asked for, so no keys went there."
    remedy = "Submit again; tell the site if it stays so: its GRES and what the driver shows disagree."


class GpuTypeMissingError(NotAllowedError):
    code = "gpu-type-missing"
    meaning = "A node's GPUs are of another type than the job asked for, so no keys went there."
    remedy = "Ask for a type that `hdrs-hpc project show` lists, or leave the type out: `gres: gpu:4`."


class Handover:
    """Two requests: :meth:`bind`, then :meth:`answer`."""

    def __init__(
        self,
        keystore: FileKeystore,
        roots: RootHolder,
        grants: GrantHolder,
        opt_outs: OptOutHolder,
        runtimes: RuntimeHolder,
        sign: Callable[[str, bytes], Envelope],
        now: Callable[[], datetime],
    ) -> None:
        self._keys, self._roots, self._grants = keystore, roots, grants
        self._opt_outs, self._runtimes = opt_outs, runtimes
        self._sign, self._now = sign, now

    def bind(self, ask: m.BindNodes, chosen: list[tuple[int, Entry]]) -> m.BoundNodes:
        """Judge, then bind the first public key of every node in one transaction."""
        spec, grant = self._judge(ask)
        served.check(ask, spec, grant, [entry for _, entry in chosen], self._whole(ask))
        hellos = ask.hellos
        if len(hellos) > MAX_NODES:
            raise protocol.HandoverTooLargeError(f"{len(hellos)} nodes where {MAX_NODES} are reached")
        nodes = {hello.node: hello for hello in hellos}
        if len(nodes) != len(hellos) or len(nodes) != spec.resources.nodes:
            raise HandoverRefusedError("the attempt does not have the nodes that its spec asks for")
        for hello in hellos:
            if hello.attempt != ask.attempt:
                raise HandoverRefusedError("an agent of another attempt answered")
            protocol.check_node_key(hello)
            if not protocol.satisfies(hello.probe, ask.isolation):
                raise IsolationProbeError(f"node {hello.node} gives {hello.probe.level}")
            _check_gpus(hello, spec.resources)
        self._check_runtimes(ask, hellos)
        self._runtimes.flavour(ask.cluster, spec.workload.runs_on)
        self._key_ids(ask, spec)
        with self._keys.transaction() as db:
            known = {row["node"]: _hello(row) for row in self._bindings(ask.attempt)}
            if known:
                self._check_same(ask, known, nodes)
            else:
                self._check_first_job(ask)
                not_after = clock.to_text(self._not_after(spec, grant, ask.started_at))
                db.execute(
                    "INSERT INTO handovers VALUES (?, ?, ?, ?, ?)",
                    (ask.attempt, ask.job, _spec_digest(ask), _without_hellos(ask), not_after),
                )
                db.executemany(
                    "INSERT INTO bindings VALUES (?, ?, ?, NULL, NULL)",
                    [(ask.attempt, hello.node, wire.to_bytes(hello)) for hello in hellos],
                )
                db.executemany(
                    "INSERT INTO uses VALUES (?, ?, ?, ?)",
                    [
                        (ask.attempt, ask.project, role, holder)
                        for role, holder in sorted(set(self._places(ask, spec)))
                    ],
                )
        return m.BoundNodes(
            {node: m.BoundNode(digest_of(hello.public_key), hello.runtime) for node, hello in nodes.items()},
            not_after=self._bound(ask.attempt)[1],
        )

    def answer(self, attempt: str, logged: list[tuple[int, Entry]]) -> m.AnsweredNodes:
        """The sealed orders of all nodes, once their bindings are proven to be in the log."""
        request, not_after = self._bound(attempt)
        spec, _ = self._judge(request)  # again: revocation and time may have moved since
        if clock.from_text(not_after) <= self._now():
            raise HandoverRefusedError("the attempt's time is over")
        bound = self._bindings(attempt)
        hellos = [_hello(row) for row in bound]
        self._check_runtimes(request, hellos)
        _require_logged(attempt, logged, hellos)
        nodes = protocol.list_nodes(hellos)
        if any(row["answer"] is None for row in bound):
            answers = self._seal(request, spec, hellos, nodes, clock.from_text(not_after))
            with self._keys.transaction() as db:
                db.executemany(
                    "UPDATE bindings SET answer = ?, sealed = ? WHERE attempt = ? AND node = ?",
                    [(answer.envelope, answer.sealed, attempt, node) for node, answer in answers.items()],
                )
        else:
            answers = {row["node"]: protocol.NodeAnswer(row["answer"], row["sealed"]) for row in bound}
        return m.AnsweredNodes(
            nodes.to_bytes(), answers, not_after=not_after, keys=tuple(sorted(self._key_ids(request, spec)))
        )

    def runtimes_of(self, attempt: str) -> set[str]:
        """Digests of the runtimes whose nodes were bound for the attempt."""
        return {_hello(row).runtime for row in self._bindings(attempt)}

    # --- inside

    def _bindings(self, attempt: str) -> list[Any]:
        with self._keys.transaction() as db:
            return db.execute("SELECT * FROM bindings WHERE attempt = ? ORDER BY node", (attempt,)).fetchall()

    def _bound(self, attempt: str) -> tuple[m.BindNodes, str]:
        """The request that was bound, and the moment after which nothing of it is given."""
        with self._keys.transaction() as db:
            row = db.execute("SELECT * FROM handovers WHERE attempt = ?", (attempt,)).fetchone()
        if row is None:
            raise HandoverRefusedError("no node of the attempt is bound")
        return wire.from_bytes(m.BindNodes, row["request"], MAX_MESSAGE_BYTES), row["not_after"]

    def _check_same(
        self, ask: m.BindNodes, known: dict[str, protocol.Hello], nodes: dict[str, protocol.Hello]
    ) -> None:
        """The first public key of a node stays the only one; so does what it was bound for."""
        for node, hello in nodes.items():
            if node not in known:
                raise SecondKeyError(f"node {node} was not there before")
            if known[node].public_key != hello.public_key:
                raise SecondKeyError(f"node {node}")
            if known[node].runtime != hello.runtime:
                raise HandoverRefusedError(f"node {node} told of another runtime before")
        before, _ = self._bound(ask.attempt)
        if _decided(before) != _decided(ask):
            raise HandoverRefusedError("the attempt is bound for another job")

    def _check_runtimes(self, ask: m.BindNodes, hellos: Sequence[protocol.Hello]) -> None:
        """Every node runs a runtime that is registered for the cluster."""
        self._runtimes.require(ask.cluster, [hello.runtime for hello in hellos])

    def _check_first_job(self, ask: m.BindNodes) -> None:
        """One spec is one job for ever: it may have several attempts, and is not replayed as another job."""
        with self._keys.transaction() as db:
            other = db.execute(
                "SELECT 1 FROM handovers WHERE (job = ?) != (spec = ?)", (ask.job, _spec_digest(ask))
            ).fetchone()
        if other is not None:
            raise HandoverRefusedError("the spec was used for another job, or the job for another spec")

    def _judge(self, ask: m.BindNodes) -> tuple[JobSpec, Grant]:
        """Everything that must hold of the documents at this moment."""
        grant = self._grants.require_giving(ask.project)
        root = self._roots.current()
        envelope = Envelope.parse(ask.spec)
        found = trust.verify(envelope, kinds.JOB_SPEC, root)
        if len(envelope.payload) > MAX_SPEC_BYTES:
            raise protocol.HandoverTooLargeError(
                f"a signed spec of {len(envelope.payload)} bytes where {MAX_SPEC_BYTES} are carried"
            )
        spec, rests_on = found.document, self._grants.rests_on(ask.project)
        facts = GrantedFacts(
            now=self._now(),
            grant=grant,
            grant_people=rests_on["people"],
            trust_root=root.document,
            submitters=found.people,
            real=rests_on["real"],
            opt_outs={name for name in grant.data if self._opt_outs.held(name).get("list")},
            approvers=_approvers(ask, spec, root),
            cluster=ask.cluster,
            isolation=ask.isolation,
            kept=kept.states(self._keys, ask.project),
        )
        require(granted.breaches(spec, facts))
        if (spec.workload.bundle is None) != (ask.bundle_parts is None):
            raise HandoverRefusedError("own code was not brought, or was beside a built-in workload")
        if {fact.input for fact in ask.copies} != set(spec.data):
            raise HandoverRefusedError("the inputs are not those of the spec")
        for fact in ask.copies:
            about = self._keys.record(ask.project, "copy", fact.copy).about
            dataset = spec.data[fact.input].dataset
            # Selection and profile too: a copy made under a wider grant is not given under a narrower one.
            if about["dataset"] != dataset or about["use"] != self._grants.require_dataset(
                ask.project, dataset, about["version"]
            ):
                raise DatasetNotGrantedError(f"input {fact.input}")
            self._opt_outs.require_current(dataset, about.get("opt_out"))
            if "manifest_digest" not in about:
                raise HandoverRefusedError("a copy is not sealed yet")
        return spec, grant

    def _not_after(self, spec: JobSpec, grant: Grant, started_at: str) -> datetime:
        try:
            started = min(clock.from_text(started_at), self._now())
        except ValueError:
            raise HandoverRefusedError("the attempt started at no real moment") from None
        latest = started + timedelta(seconds=spec.resources.time) + STAGE_OUT_GRACE
        not_after = min(latest, grant.valid.run_until).replace(microsecond=0)
        if not_after <= self._now():
            raise HandoverRefusedError("the attempt's time is over")
        return not_after

    def _seal(
        self,
        ask: m.BindNodes,
        spec: JobSpec,
        hellos: list[protocol.Hello],
        nodes: protocol.NodeList,
        not_after: datetime,
    ) -> dict[str, protocol.NodeAnswer]:
        audience = self._roots.current().document.audience
        order = self._order(ask, spec, not_after)
        made = {}
        for hello in hellos:
            answer, sealed = protocol.seal_order(audience, order, hello, nodes)
            envelope = self._sign("handover-answer", wire.to_bytes(answer)).to_bytes()
            made[hello.node] = protocol.NodeAnswer(envelope, sealed)
        return made

    def _order(
        self,
        ask: m.BindNodes,
        spec: JobSpec,
        not_after: datetime,
    ) -> protocol.LaunchOrder:
        """The same for all nodes: what each of them does of it, its own catalogue of workloads says."""
        resources = spec.resources
        flavour, size_bytes = self._runtimes.flavour(ask.cluster, spec.workload.runs_on)
        return protocol.LaunchOrder(
            project=ask.project,
            attempt=ask.attempt,
            job=ask.job,
            spec=Envelope.parse(ask.spec).payload,
            inputs={
                fact.input: dataclasses.replace(
                    self._input(ask.project, "copy", fact.copy, fact.parts),
                    manifest_name=f"m-{fact.served.removeprefix('sha256:')}",
                    manifest_digest=fact.served,
                    added=fact.added,
                )
                for fact in ask.copies
            },
            files={name: self._file(ask.project, use) for name, use in _taken_in(spec).items()},
            bundle=self._bundle(ask, spec),
            flavour=protocol.FlavourOrder(spec.workload.runs_on, flavour, size_bytes),
            output_key=self._keys.key(ask.project, "output", ask.attempt),
            shared_secret=os.urandom(32),
            outputs=tuple(
                protocol.OutputOrder(
                    name, output.class_, output.path, output.max_size, self._kept(ask, name, output)
                )
                for name, output in written(spec.outputs).items()
            ),
            isolation=ask.isolation,
            not_after=clock.to_text(not_after),
            time_s=resources.time,
            mem_mb=resources.mem,
            cpus=resources.cpus_per_task,
        )

    def _bundle(self, ask: m.BindNodes, spec: JobSpec) -> protocol.BundleOrder | None:
        if spec.workload.bundle is None or ask.bundle_parts is None:
            return None
        sealed = self._input(ask.project, "bundle", ask.attempt, ask.bundle_parts)
        named = spec.workload.bundle
        return protocol.BundleOrder(
            sealed, named.digest, named.size, named.wheels.lock if named.wheels else None
        )

    def _input(self, project: str, role: str, holder: str, parts: tuple[str, ...]) -> protocol.SealedInput:
        about = self._keys.record(project, role, holder).about
        if "manifest_digest" not in about:
            raise HandoverRefusedError(f"the {role} is not sealed")
        return protocol.SealedInput(
            parts=parts,
            role="copy",
            holder=holder,
            manifest_name=about["manifest_name"],
            manifest_digest=about["manifest_digest"],
            key=self._keys.key(project, role, holder),
        )

    def _kept(self, ask: m.BindNodes, name: str, output: WrittenDeclaration) -> protocol.KeptOrder | None:
        if output.keep != "project":
            return None
        holder = self._to_keep(ask, name, output)
        key = self._keys.key(ask.project, kept.ROLE, holder)
        return protocol.KeptOrder(layout.kept_parts(ask.project, holder), holder, key)

    def _to_keep(self, ask: m.BindNodes, name: str, output: WrittenDeclaration) -> str:
        """Holder of the fresh key that the attempt seals one of its outputs under."""
        wanted = m.KeptFor(ask.job, ask.attempt, name, output.class_)
        record = kept.to_make(self._keys, ask.project, wanted)
        if record is None:
            raise HandoverRefusedError(f"there is no key for {name}, which is to stay in the project")
        return record.holder

    def _file(self, project: str, use: KeptArtefact) -> protocol.FileOrder:
        record = self._to_read(project, use)
        parts = layout.kept_parts(project, record.holder)
        sealed = self._input(project, kept.ROLE, record.holder, parts)
        weights = "safetensors" in outputs.BY_NAME[record.about["class"]].written_in
        return protocol.FileOrder(sealed, f"{layout.OUTPUT_PREFIX}{use.output}", weights)

    def _to_read(self, project: str, use: KeptArtefact) -> KeyRecord:
        record = kept.to_read(self._keys, project, use.job, use.output)
        if record is None:  # it was destroyed since the spec was judged
            raise HandoverRefusedError(f"{use.output} of {use.job} is not kept any more")
        return record

    def _whole(self, ask: m.BindNodes) -> dict[str, str]:
        """Input → digest of its copy's own manifest, which names all of it."""
        return {
            fact.input: self._keys.record(ask.project, "copy", fact.copy).about["manifest_digest"]
            for fact in ask.copies
        }

    def _key_ids(self, ask: m.BindNodes, spec: JobSpec) -> list[str]:
        return [
            self._keys.record(ask.project, role, holder).id
            for role, holder in sorted(set(self._places(ask, spec)))
        ]

    def _places(self, ask: m.BindNodes, spec: JobSpec) -> list[tuple[str, str]]:
        """(role, holder) of every key that the attempt is to get."""
        places = [("copy", fact.copy) for fact in ask.copies] + [("output", ask.attempt)]
        places += [("bundle", ask.attempt)] if ask.bundle_parts is not None else []
        places += [(kept.ROLE, self._to_keep(ask, *item)) for item in kept_by(spec).items()]
        reads = [self._to_read(ask.project, use) for use in _taken_in(spec).values()]
        return places + [(kept.ROLE, record.holder) for record in reads]


def digest_of(public_key: bytes) -> str:
    """``sha256:…`` of a node's public key, as the log names it."""
    return f"sha256:{hashlib.sha256(public_key).hexdigest()}"


def _hello(row: Any) -> protocol.Hello:
    return wire.from_bytes(protocol.Hello, row["hello"])


def _without_hellos(ask: m.BindNodes) -> bytes:
    """What is kept of a request: what the nodes said lies beside it, node by node."""
    return wire.to_bytes(dataclasses.replace(ask, hellos=()))


def _decided(ask: m.BindNodes) -> tuple[object, ...]:
    """What an attempt is bound for, beside the keys of its nodes."""
    return (ask.project, ask.job, ask.spec, ask.cluster, ask.copies)


def _spec_digest(ask: m.BindNodes) -> str:
    return Envelope.parse(ask.spec).digest


def _taken_in(spec: JobSpec) -> dict[str, KeptArtefact]:
    return {name: use for name, use in spec.inputs.items() if isinstance(use, KeptArtefact)}


def _require_logged(attempt: str, logged: list[tuple[int, Entry]], hellos: list[protocol.Hello]) -> None:
    told = {
        (entry.subject["node"], entry.detail["public-key"], entry.detail.get("runtime"))
        for _, entry in logged
        if entry.event == "handover-bound" and entry.subject["attempt"] == attempt
    }
    if told != {(hello.node, digest_of(hello.public_key), hello.runtime) for hello in hellos}:
        raise NotLoggedError("not every binding is in the log")


def _approvers(ask: m.BindNodes, spec: JobSpec, root: trust.VerifiedRoot) -> set[str]:
    """Who approved the spec's bundle for the project, each in person.

    An approval by somebody who no longer may is none; it takes nothing from what others approved.
    """
    bundle, people = spec.workload.bundle, set[str]()
    for raw in ask.code_approvals if bundle is not None else ():
        try:
            found = trust.verify(Envelope.parse(raw), kinds.CODE_APPROVAL, root)
        except NotAllowedError:
            continue
        named = (found.document.project, found.document.covers, (found.document.reviewer,))
        if bundle is not None and named == (ask.project, bundle.to_approve, found.people):
            people |= set(found.people)
    return people


def _check_gpus(hello: protocol.Hello, asked: Resources) -> None:
    """What the agent's probe found, against the signed spec: a job without its GPUs would only burn its time."""
    if hello.probe.gpus < asked.gpus_per_node:
        found = hello.probe.gpus
        raise GpusMissingError(f"node {hello.node} has {found} of {asked.gpus_per_node} GPUs")
    if asked.gpu_type and not protocol.is_of_type(asked.gpu_type, hello.probe.gpu_models):
        raise GpuTypeMissingError(f"node {hello.node} has {', '.join(hello.probe.gpu_models)}")
