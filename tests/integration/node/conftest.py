"""A broker's side of one attempt, small enough to read, and a node that runs the real runtime."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import zarr
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hdrs_hpc.catalogue.isolation import GivenIsolation
from hdrs_hpc.core import clock, ids, strict_json, wire
from hdrs_hpc.documents import sshsig
from hdrs_hpc.documents.envelope import Envelope, Signature
from hdrs_hpc.node.runtime.build import RuntimeFile
from hdrs_hpc.node.runtime.flavour import FlavourFile
from hdrs_hpc.protocol import batch, bundle, handover, layout, outputs, progress
from hdrs_hpc.protocol.handover import (
    BundleOrder,
    FlavourOrder,
    Hello,
    LaunchOrder,
    NodeAnswer,
    NodeList,
    OutputOrder,
    Reply,
    Request,
    SealedInput,
)
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from hdrs_hpc.sealing.reader import SealedCopy

NOBODY = 65534
PROJECT = "lung-fm"
CANARY = "CANARY-7f3a91c2d4"


@pytest.fixture(scope="session")
def runtime(built_runtime: RuntimeFile) -> RuntimeFile:
    return built_runtime


@pytest.fixture(scope="session")
def flavour(base_flavour: FlavourFile) -> FlavourFile:
    return base_flavour


def series(number: int) -> np.ndarray[Any, Any]:
    """A small CT-like volume (z, y, x) in stored integers."""
    return np.random.default_rng(number).integers(0, 4096, (8, 64, 64), dtype=np.uint16)


@dataclass(frozen=True)
class Work:
    """What the researcher signed of the workload, as far as a node reads it."""

    bundle: BundleOrder | None
    entry: str | None = "mine:run"
    builtin: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    kind: str = "dask"
    own: dict[str, Any] | None = None
    """All fields of a workload of another kind, in place of those above."""

    def spec(self) -> bytes:
        if self.own is not None:
            assert self.bundle is not None
            pinned = {"digest": self.bundle.digest, "size": self.bundle.size_bytes}
            return strict_json.dumps({"workload": {**self.own, "bundle": pinned}})
        written = {"kind": self.kind, "builtin": self.builtin, "entry": self.entry}
        signed = {name: value for name, value in written.items() if value is not None}
        if self.bundle is not None:
            signed["bundle"] = {"digest": self.bundle.digest, "size": self.bundle.size_bytes}
        return strict_json.dumps({"workload": {**signed, "parameters": self.parameters}})


@dataclass
class Site:
    """One machine with scratch and a node-local folder, for one account."""

    root: Path
    memory: Path
    """Where a node has its local folder: on a real one often memory, here so that tests do not wait for a disk."""
    runtime: RuntimeFile
    flavour: FlavourFile
    isolation: GivenIsolation
    uid: int = field(default_factory=os.getuid)
    attempt: str = field(default_factory=lambda: ids.new_secret_name("hdrs"))
    process: subprocess.Popen[bytes] | None = None
    memory_mb: int = 2048

    def __post_init__(self) -> None:
        self.scratch = self.root / "scratch"
        self.node_tmp = self.memory / "tmp"
        self.private_key = Ed25519PrivateKey.generate()
        self.copy_key, self.bundle_key, self.output_key, self.shared_secret = (
            os.urandom(32) for _ in range(4)
        )
        self.copy_id = ids.new_id(10)
        self.node = os.uname().nodename
        self.node_tmp.mkdir()
        target = Path(layout.join(str(self.scratch), layout.runtime_parts(self.runtime.digest)))
        target.parent.mkdir(parents=True)
        os.link(self.runtime.path, target)
        os.link(self.flavour.path, layout.join(str(self.scratch), layout.flavour_parts(self.flavour.digest)))

    # the data zone

    def stage(self, volumes: int = 4, shape: tuple[int, int, int] = (8, 64, 64)) -> SealedInput:
        parts = layout.copy_parts(PROJECT, self.copy_id)
        builder = CopyBuilder(
            DirectoryStore(self.scratch.joinpath(*parts)),
            self.copy_key,
            "copy",
            PROJECT,
            self.copy_id,
            self.root / "journal",
        )
        store = builder.store()
        rows = []
        for number in range(volumes):
            item = f"S{number:04d}"
            group = zarr.create_group(store, path=f"series/{item}")
            group.attrs["hdrs-hpc"] = {"rescale": {"slope": 1.0, "intercept": -1024.0}}
            data = np.resize(series(number), shape)
            zarr.create_array(store, name=f"series/{item}/0", data=data, chunks=(1, *shape[1:]), shards=shape)
            builder.finish_item(f"series/{item}", {})
            rows.append(
                {
                    "item": f"series/{item}",
                    "kind": "volume",
                    "patient": f"P{number}",
                    "modality": "CT",
                    "body_part": "CHEST" if number % 2 else "HEAD",
                    "spacing_mm": [2.5 if number < 12 else 1.25, 0.7, 0.7],
                }
            )
        sink = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
        builder.put("index.parquet", sink.getvalue())
        builder.put("report.json", CANARY.encode())
        ref = builder.seal()
        return SealedInput(parts, "copy", self.copy_id, ref.manifest_name, ref.manifest_digest, self.copy_key)

    def seal_bundle(self, files: dict[str, str]) -> BundleOrder:
        folder = self.root / "code"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
            if text.startswith("#!"):
                (folder / name).chmod(0o755)
        raw = bundle.pack(folder)
        parts = layout.bundle_parts(PROJECT, self.attempt)
        builder = CopyBuilder(
            DirectoryStore(self.scratch.joinpath(*parts)),
            self.bundle_key,
            "copy",
            PROJECT,
            self.attempt,
            self.root / "bundle-journal",
        )
        builder.put(layout.BUNDLE_PATH, raw)
        ref = builder.seal()
        sealed = SealedInput(
            parts, "copy", self.attempt, ref.manifest_name, ref.manifest_digest, self.bundle_key
        )
        return BundleOrder(sealed, bundle.digest(raw), len(raw))

    # the cluster

    def submit(self, lifetime_s: int = 120, nodes: tuple[str, ...] = ()) -> None:
        """``nodes``: as Slurm names them; without, one machine that has no Slurm."""
        plan = batch.BatchPlan(
            attempt=self.attempt,
            project=PROJECT,
            audience="north",
            scratch=str(self.scratch),
            node_tmp=str(self.node_tmp),
            runtime_digest=self.runtime.digest,
            flavour_digest=self.flavour.digest,
            broker_key=sshsig.public_line(self.private_key, "handover"),
            isolation=self.isolation,
            memory_mb=self.memory_mb,
            lifetime_s=lifetime_s,
            nodes=max(1, len(nodes)),
            launch_prefix=(str(self._launcher(nodes)),) if nodes else (),
        )
        script = self.root / "script.sh"
        script.write_bytes(batch.render(plan))
        if self.uid != os.getuid():
            for path in (self.scratch, self.node_tmp):
                subprocess.run(["chown", "-R", f"{self.uid}:{self.uid}", str(path)], check=True)
        script.chmod(0o644)
        self.process = subprocess.Popen(
            [*self._as_account(), "/bin/sh", str(script)],
            env={"PATH": "/usr/bin:/bin", "HOME": "/root"},
            cwd="/",
            start_new_session=True,
        )

    def _launcher(self, nodes: tuple[str, ...]) -> Path:
        """What srun does: the same command once per node, each with its node's name."""
        path = self.root / "launch"
        each = 'SLURMD_NODENAME=$node SLURM_LAUNCH_NODE_IPADDR=127.0.0.1 "$@" & pids="$pids $!"'
        collect = "for pid in $pids; do wait $pid || exit $?; done"
        path.write_text(f"#!/bin/sh\nfor node in {' '.join(nodes)}; do {each}; done\n{collect}\n")
        path.chmod(0o755)
        return path

    def _as_account(self) -> list[str]:
        if self.uid == os.getuid():
            return []
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]

    def courier(self, request: Request, timeout_s: float = 30, node: str = "") -> Reply:
        deadline = time.monotonic() + timeout_s
        argv = layout.courier_argv(str(self.node_tmp), self.attempt)
        while time.monotonic() < deadline:
            assert self.process is not None
            done = subprocess.run(
                [*self._as_account(), *argv],
                input=wire.to_line(request),
                capture_output=True,
                check=False,
                env={"SLURMD_NODENAME": node} if node else {},
                cwd="/",
            )
            if done.returncode == 0:
                return handover.parse_reply(done.stdout)
            if self.process.poll() is not None:
                raise AssertionError(f"the agent ended with {self.process.returncode}: {self.progress()}")
            time.sleep(0.05)
        raise AssertionError("no agent answered")

    def hello(self) -> Hello:
        reply = self.courier(Request("hello"))
        assert reply.hello is not None
        return reply.hello

    # keyd

    def order(self, inputs: dict[str, SealedInput], work: Work, **changes: Any) -> LaunchOrder:
        now = clock.now()
        order = LaunchOrder(
            project=PROJECT,
            attempt=self.attempt,
            job="7K3QW2",
            spec=work.spec(),
            inputs=inputs,
            files={},
            bundle=work.bundle,
            flavour=FlavourOrder(self.flavour.flavour, self.flavour.digest, self.flavour.size_bytes),
            output_key=self.output_key,
            shared_secret=self.shared_secret,
            outputs=(OutputOrder("result", "metrics", "result.json", 1 << 20),),
            isolation=self.isolation,
            not_after=clock.to_text(now + timedelta(minutes=10)),
            time_s=60,
            mem_mb=2048,
            cpus=2,
        )
        return replace(order, **changes)

    def sign(self, payload: bytes, key: Ed25519PrivateKey | None = None) -> bytes:
        key = key or self.private_key
        envelope = Envelope(handover.ENVELOPE_TYPE, payload)
        sig = sshsig.sign_ed25519(key, handover.NAMESPACE, envelope.pae())
        return envelope.with_signature(Signature("", sig)).to_bytes()

    def answer(self, order: LaunchOrder, hello: Hello, nodes: NodeList | None = None) -> NodeAnswer:
        """``nodes``: the list of all; without, of this one."""
        made, sealed = handover.seal_order("north", order, hello, nodes or handover.list_nodes([hello]))
        return NodeAnswer(self.sign(wire.to_bytes(made)), sealed)

    def deliver(self, answer: NodeAnswer, *hellos: Hello, node: str = "") -> Reply:
        return self.courier(Request("answer", answer, handover.list_nodes(hellos).to_bytes()), node=node)

    def run(
        self,
        files: dict[str, str] | None = None,
        entry: str = "code_of_mine:run",
        builtin: str | None = None,
        parameters: dict[str, Any] | None = None,
        volumes: int = 4,
        own: dict[str, Any] | None = None,
        **changes: Any,
    ) -> outputs.ClosingList:
        """A whole attempt, from staging to the opened closing list; ``own``: a workload of any kind."""
        inputs = {"ct": self.stage(volumes)}
        work = Work(
            bundle=self.seal_bundle(files) if files is not None else None,
            entry=None if builtin else entry,
            builtin=builtin,
            parameters=parameters or {},
            own=own,
        )
        self.submit()
        hello = self.hello()
        reply = self.deliver(self.answer(self.order(inputs, work, **changes), hello), hello)
        assert reply.refused is None
        self.wait()
        return self.closing()

    def wait(self, timeout_s: float = 120) -> int:
        assert self.process is not None
        return self.process.wait(timeout_s)

    # the broker again

    def progress(self) -> progress.Progress | None:
        path = self.scratch.joinpath(*layout.progress_parts(PROJECT, self.attempt))
        return progress.from_bytes(path.read_bytes()) if path.exists() else None

    def outputs(self) -> SealedCopy:
        path = self.scratch.joinpath(*layout.closing_parts(PROJECT, self.attempt))
        pointer = outputs.parse_pointer(path.read_bytes())
        objects = DirectoryStore(self.scratch.joinpath(*layout.outputs_parts(PROJECT, self.attempt)))
        return SealedCopy.open(
            objects, self.output_key, "output", PROJECT, self.attempt, pointer.manifest_digest
        )

    def closing(self) -> outputs.ClosingList:
        return outputs.parse_list(self.outputs().read(layout.CLOSING_LIST_PATH))

    def output(self, name: str = "result") -> bytes:
        data = self.outputs().read(f"output/{name}")
        found = next(item for item in self.closing().outputs if item.name == name)
        assert found.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
        return data

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, 15)
            self.process.wait(30)


@pytest.fixture
def make_site(runtime: RuntimeFile, flavour: FlavourFile) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []
    name = f"hdrs-{ids.new_id(8).lower()}"
    # Not below pytest's own folders: they are 0700 and another account needs a way through.
    root, memory = Path("/tmp", name), Path("/dev/shm", name)

    def make(
        isolation: GivenIsolation = "cooperative",
        uid: int | None = None,
        memory_mb: int = 2048,
        on: FlavourFile = flavour,
    ) -> Site:
        places = [folder / str(len(sites)) for folder in (root, memory)]
        for place in places:
            place.mkdir(mode=0o755, parents=True)
        if uid is None and os.getuid() == 0:
            uid = NOBODY  # nothing here may work only for root
        sites.append(Site(*places, runtime, on, isolation, os.getuid() if uid is None else uid))
        sites[-1].memory_mb = memory_mb
        return sites[-1]

    yield make
    for site in sites:
        site.close()
    for folder in (root, memory):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["cooperative", pytest.param("sandboxed", marks=pytest.mark.root_parts)])
def site(request: pytest.FixtureRequest, make_site: Callable[..., Site]) -> Site:
    return make_site(request.param)
