"""A world for tests: people with real SSH keys, an archive of real pixels, a broker's home and a cluster.

People act by signing documents with ``ssh-keygen`` and filing them; the broker's processes are the product's own.
"""

from __future__ import annotations

import copy
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from connectors.sources.folder import FolderSource
from hdrs_hpc.broker import setup, sites
from hdrs_hpc.broker.controller import loop as controller
from hdrs_hpc.broker.filing import accept, opt_out_change, trust_root
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.home import installed_runtimes as runtime
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import artefacts, jobs, opt_outs, projects
from hdrs_hpc.broker.store.jobs import Job
from hdrs_hpc.cli.demo.archive import Archive, make_archive
from hdrs_hpc.core import clock, ids, strict_json
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.kinds import KINDS
from hdrs_hpc.documents.opt_out_ids import OptOutIds
from hdrs_hpc.documents.signing import sign
from hdrs_hpc.node.runtime import flavour
from hdrs_hpc.node.runtime.build import RuntimeFile, build
from hdrs_hpc.node.runtime.flavour import FlavourFile
from hdrs_hpc.protocol import bundle, layout
from imaging.staging import inventory
from tests.support import uploading, wheels

PROJECT = "lung-demo"
PEOPLE = {
    "abara": ["custodian"],
    "bell": ["custodian"],
    "okafor": ["researcher"],
    "chen": ["checker", "code-reviewer"],
    "dunne": ["checker"],
}
HOME = {"abara": "north", "bell": "south"}
"""Two hospitals, each with one custodian; everybody else is of the university."""

PATIENCE = float(os.environ.get("HDRS_TEST_PATIENCE", "1"))
"""How many times longer than usual to wait for a life to go on: for machines that do much else besides."""


@dataclass(frozen=True)
class TestArchive:
    """An archive with the lists that belong to it."""

    __test__ = False
    archive: Archive
    canaries: Path
    opt_out: Path


def make_test_archive(folder: Path, patients: int = 12, seed: int = 7) -> TestArchive:
    canaries, opt_out = folder / "canaries.json", folder / "opt-out.txt"
    folder.mkdir(parents=True)
    return TestArchive(
        make_archive(folder / "archive", seed, canaries, opt_out, patients=patients), canaries, opt_out
    )


COHORT: dict[str, Any] = {
    "modality": {"key": {"vocabulary": "dicom-modality@1"}, "also": ["OTHER", "TOTAL"]},
    "body_part": {"key": {"vocabulary": "dicom-body-part@1"}, "also": ["UNKNOWN", "OTHER", "TOTAL"]},
    "n_patients": {"count": "patients"},
    "n_series": {"count": "series of images"},
}
SPACING_BINS: dict[str, Any] = {
    "group": {"key": {"vocabulary": "dicom-modality@1"}, "also": ["OTHER", "all series"]},
    "spacing_mm": {"key": {"ranges": [0, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7.5, 10]}},
    "n_patients": {"count": "patients"},
    "n_series": {"count": "series of images"},
}


@dataclass
class World:
    """``root`` holds everything; ``cluster`` is the name of the one cluster."""

    root: Path
    cluster: str = "local"
    settings_toml: str | None = None
    isolation: str = "cooperative"
    patients: int = 12
    people: dict[str, list[str]] = field(default_factory=lambda: dict(PEOPLE))
    project: str = PROJECT
    keyd: subprocess.Popen[bytes] | None = None
    custodian_of: dict[str, str] = field(default_factory=dict)
    """Dataset → custodian of its owner."""
    test_archive: TestArchive | None = None
    """One that was made before; the broker only reads it."""
    flavours: tuple[FlavourFile, ...] = ()
    """What its jobs can run on."""

    # --- making it

    def make(self, cached_runtime: Path | RuntimeFile) -> World:
        """Keys, archive, broker, trust root, cluster with runtime, datasets."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.home = BrokerHome.at(self.root / "broker")
        setup.init(self.home, audience="demo-sde", host="127.0.0.1", port=1, tick_s=0.1)
        for person in self.people:
            self._ssh_key(person)
        made = self.test_archive or make_test_archive(self.root / "source", self.patients)
        self.archive, self.canaries = made.archive, made.canaries
        self.opted_out = made.opt_out.read_text().split()
        self.start_keyd()
        self.ctx = OpenBroker.open(self.home)
        raw = self.signed("trust-root", self.trust_root(), "abara", "bell")
        self.root_envelope = raw
        self.root_digest = Envelope.parse(raw).digest
        trust_root.accept_first(self.ctx.db, self.ctx.ask, raw, self.root_digest)
        self._add_cluster()
        self.versions = {
            "demo-ct-mr": self.register("demo-ct-mr", "radiology", self.archive.radiology),
            "demo-he": self.register("demo-he", "pathology", self.archive.pathology, "south"),
        }
        if isinstance(cached_runtime, Path):
            self.runtime = build(cached_runtime)
            self.flavours = (flavour.build(cached_runtime, "base", flavour.platform_of("base")),)
        else:
            self.runtime = cached_runtime
        self.install_runtime()
        return self

    def install_runtime(self) -> None:
        """What ``cluster install`` does.  Linked first where it can be: half a gigabyte is slow to copy."""
        cluster = self.ctx.cluster(self.cluster, self.project)
        self._link(self.runtime.path, layout.runtime_parts(self.runtime.digest))
        cluster.install_runtime(self.runtime.path, self.runtime.digest)
        sites.register_runtime(self.home, self.cluster, self.runtime.digest)
        runtime.note_installed(self.home, self.cluster, self.project, self.runtime.digest)
        for made in self.flavours:
            self._link(made.path, layout.flavour_parts(made.digest))
            about = sites.Registered(made.flavour, made.digest, made.size_bytes)
            cluster.install_runtime(made.path, made.digest, "squashfs")
            sites.register_flavour(self.home, self.cluster, about)
            runtime.note_installed(self.home, self.cluster, self.project, made.digest, made.flavour)

    def _link(self, file: Path, parts: tuple[str, ...]) -> None:
        there = Path(self.ctx.cluster(self.cluster, self.project).scratch_path(*parts))
        if self.settings_toml is None and not there.exists():
            there.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(OSError):
                os.link(file, there)

    def beside(self, project: str) -> World:
        """The same world seen from another project, which has no grant yet."""
        other = copy.copy(self)
        other.project = project
        other.install_runtime()
        return other

    def start_keyd(self) -> None:
        with (self.home.logs_dir / "keyd.log").open("ab") as output:
            self.keyd = subprocess.Popen(
                [sys.executable, "-m", "hdrs_hpc.broker.keyd.server", "--home", str(self.home.root)],
                stdout=output,
                stderr=output,
            )

    def stop(self) -> None:
        """End keyd and whatever still runs on the embedded cluster."""
        if self.settings_toml is None and hasattr(self, "ctx"):
            for folder in (self.root / "cluster" / "jobs").glob("*/hdrs-*"):
                self.ctx.cluster(self.cluster, folder.parent.name).cancel(folder.name)
        if hasattr(self, "ctx"):
            self.ctx.close()
        if self.keyd is not None:
            self.keyd.terminate()
            self.keyd.wait(10)

    def _ssh_key(self, person: str) -> None:
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", person, "-f", str(self.key(person))],
            check=True,
        )

    def key(self, person: str) -> Path:
        return self.root / f"{person}_key"

    def _add_cluster(self) -> None:
        text = self.settings_toml or (
            f'name = "local"\ntype = "local"\nisolation = "{self.isolation}"\n'
            f'node-tmp = "{self._folder("node-tmp")}"\n'
            f'[local]\nroot = "{self._folder("cluster")}"\n'
        )
        (self.home.clusters_dir / f"{self.cluster}.toml").write_text(text)

    def _folder(self, name: str) -> Path:
        (self.root / name).mkdir(mode=0o700, exist_ok=True)
        return self.root / name

    def register(
        self,
        name: str,
        kind: str,
        source: str,
        owner: str = "north",
        *,
        say_opt_outs: bool = True,
        **more: Any,
    ) -> str:
        """Scan a folder, have its owner's custodian register it and say who opted out; gives the version."""
        table = inventory.scan(FolderSource(Path(source)))
        version = inventory.digest(table)
        path = self.home.inventory(version)
        inventory.write(table, path)
        value = {
            "schema": "hdrs-hpc/dataset-registration/2",
            "name": name,
            "owner": owner,
            "kind": kind,
            "sensitivity": "synthetic",
            "source": {"type": "folder", "path": source},
            "version": version,
            "items": table.num_rows,
            **more,
        }
        (custodian,) = (person for person, home in HOME.items() if home == owner)
        self.custodian_of[name] = custodian
        self.file("dataset-registration", value, custodian)
        if say_opt_outs and not self.statements(name):
            self.opt_out(name, "add", self.opted_out)
        return version

    def statements(self, dataset: str) -> list[opt_outs.Statement]:
        with self.ctx.db.read() as tx:
            return opt_outs.of_dataset(tx, dataset)

    def opt_out_change(self, dataset: str, action: str, patients: Iterable[str] = ()) -> bytes:
        """Bring the ids into the data zone, and sign the change that follows what is in force."""
        before = self.statements(dataset)
        brought, _ = opt_out_change.put_ids(
            self.ctx.db, self.home, OptOutIds.new(patients).to_bytes(), dataset
        )
        value = {
            "schema": "hdrs-hpc/opt-out-change/1",
            "audience": "demo-sde",
            "dataset": dataset,
            "version": len(before) + 1,
            "action": action,
            "ids": brought.digest,
            "nonce": ids.new_id(26),
            "at": clock.to_text(clock.now()),
        }
        value |= {"supersedes": before[-1].document} if before else {}
        value |= {} if action == "add" else {"reason": "Confirmed by the opt-out office."}
        return self.signed("opt-out-change", value, self.custodian_of[dataset])

    def opt_out(self, dataset: str, action: str, patients: Iterable[str] = ()) -> str:
        """State it; gives the keyed digest of the list from here on."""
        self.file_raw(self.opt_out_change(dataset, action, patients))
        return self.statements(dataset)[-1].list

    # --- documents

    def trust_root(self) -> dict[str, Any]:
        lines = self.ctx.ask(m.SigningKeys()).lines
        return {
            "schema": "hdrs-hpc/trust-root/2",
            "audience": "demo-sde",
            "version": 1,
            "demo": True,
            "organisations": {
                "north": {"name": "North Hospital", "threshold": 1},
                "south": {"name": "South Hospital", "threshold": 1},
                "uni": {"name": "A University"},
            },
            "thresholds": {"dataset-registration": 1},
            "people": {
                person: {
                    "name": person.capitalize(),
                    "organisation": HOME.get(person, "uni"),
                    "keys": [self.key(person).with_suffix(".pub").read_text().strip()],
                    "roles": roles,
                }
                for person, roles in self.people.items()
            },
            "broker-keys": {kind: [line] for kind, line in lines.items()},
        }

    def grant_value(self, **changes: Any) -> dict[str, Any]:
        now = clock.now()
        value: dict[str, Any] = {
            "schema": "hdrs-hpc/grant/2",
            "project": self.project,
            "version": 1,
            "title": "A trial of the whole life",
            "approval": {"body": "Demo Committee", "reference": "DAC-0001"},
            "valid": {
                "from": clock.to_text(now - timedelta(days=1)),
                "run-until": clock.to_text(now + timedelta(days=30)),
                "review-grace": "14d",
                "destroy-by": clock.to_text(now + timedelta(days=60)),
            },
            "people": {"lead": "okafor", "researchers": ["okafor"]},
            "lay-summary": "Computers learn from chest scans, so that they help to find disease earlier",
            "legal-basis": {"article6": "6(1)(e)", "article9": "9(2)(j)"},
            "use": ["DUO:0000007"],
            "contact": "dac@north.example",
            "data": {
                "demo-ct-mr": {
                    "version": self.versions["demo-ct-mr"],
                    "profile": "radiology-basic@1",
                    "max-failed": 10,
                },
                "demo-he": {"version": self.versions["demo-he"], "profile": "slide-basic@1"},
            },
            "workloads": {"builtin": ["cohort-summary@1"], "own-code": "reviewed"},
            "limits": {
                "clusters": [self.cluster],
                "isolation": "cooperative",
                "nodes": 2,
                "time": "01:00:00",
                "gpu-hours": 100,
                "bundle-size": "16MiB",
            },
            "outputs": {
                "reviewers": 2,
                "table": {"min-count": 10, "round": 5},
                "image": {},
                "metrics": {},
            },
        }
        return value | changes

    def spec_value(self, **changes: Any) -> dict[str, Any]:
        now = clock.now()
        value: dict[str, Any] = {
            "schema": "hdrs-hpc/job-spec/2",
            "project": self.project,
            "name": "summary",
            "purpose": "Describe the cohort before anything is trained on it",
            "data": {"ct": {"dataset": "demo-ct-mr"}, "slides": {"dataset": "demo-he"}},
            "workload": {"kind": "dask", "builtin": "cohort-summary@1"},
            "resources": {"nodes": 1, "cpus-per-task": 2, "mem": "2G", "time": "00:10:00"},
            "outputs": {
                "cohort": {
                    "class": "table",
                    "path": "cohort.csv",
                    "columns": COHORT,
                    "max-size": "1MiB",
                },
                "spacing-bins": {
                    "class": "table",
                    "path": "spacing-bins.csv",
                    "columns": SPACING_BINS,
                    "max-size": "1MiB",
                },
                "spacing": {
                    "class": "image",
                    "path": "spacing.png",
                    "data": "spacing-bins",
                    "max-size": "2MiB",
                },
                "summary": {"class": "metrics", "path": "summary.json", "max-size": "64KiB"},
            },
            "audience": "demo-sde",
            "nonce": ids.new_id(26),
            "not-before": clock.to_text(now - timedelta(minutes=1)),
            "expires": clock.to_text(now + timedelta(days=1)),
            "trust-root": self.root_digest,
        }
        return value | changes

    def signed(self, kind: str, value: dict[str, Any], *people: str) -> bytes:
        payload = strict_json.dumps(value)
        envelope = Envelope(KINDS[kind].payload_type, payload)
        for person in people:
            envelope = envelope.with_signature(sign(KINDS[kind], payload, self.key(person)))
        return envelope.to_bytes()

    def file(self, kind: str, value: dict[str, Any], *people: str) -> accept.Receipt:
        return self.file_raw(self.signed(kind, value, *people))

    def file_raw(self, raw: bytes) -> accept.Receipt:
        return accept.accept(self.ctx.db, self.ctx.ask, raw, home=self.ctx.home)

    # --- a life

    def grant(self, **changes: Any) -> accept.Receipt:
        return self.file("grant", self.grant_value(**changes), "abara", "bell")

    def submit(self, **changes: Any) -> str:
        receipt = self.file("job-spec", self.spec_value(**changes), "okafor")
        assert receipt.job is not None
        return receipt.job

    def submit_bundle(
        self, files: dict[str, str], entry: str, brought: Sequence[tuple[str, bytes]] = (), **changes: Any
    ) -> str:
        """Pack, upload, have it approved, sign and submit the researcher's own code."""
        folder = self.root / f"bundle-{ids.new_id()}"
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        named, covered = {}, {}
        if brought:
            lock = wheels.lock(*brought)
            (folder / "requirements.lock").write_bytes(lock.to_bytes())
            named = {"wheels": {"lock": lock.digest(), "size": lock.size}}
            covered = {"wheels": {"lock": lock.digest(), "index": "local files"}}
        for _, wheel in brought:
            uploading.bring(self.ctx.db, self.ctx.home, self.project, "okafor", wheel)
        content = bundle.pack(folder)
        digest = bundle.digest(content)
        uploading.bring(self.ctx.db, self.ctx.home, self.project, "okafor", content)
        self.file(
            "code-approval",
            {
                "schema": "hdrs-hpc/code-approval/1",
                "project": self.project,
                "bundle": digest,
                **covered,
                "reviewer": "chen",
                "statement": "Read it; it does what its purpose says.",
                "at": clock.to_text(clock.now()),
            },
            "chen",
        )
        work = {"kind": "dask", "bundle": {"digest": digest, "size": len(content), **named}, "entry": entry}
        return self.submit(workload=work, **changes)

    def tick(self) -> int:
        return controller.tick(self.ctx)

    def run_until(self, done: Callable[[], bool], timeout_s: float = 120.0) -> None:
        """Tick in this process until ``done``; fails with what waits."""
        deadline = time.monotonic() + timeout_s * PATIENCE
        while not done():
            if time.monotonic() > deadline:
                raise AssertionError(f"not reached in {timeout_s} s: {self.describe()}")
            if not self.tick():
                time.sleep(0.2)

    def job(self, job: str) -> Job:
        with self.ctx.db.read() as tx:
            return jobs.get(tx, job)

    def run_job(self, job: str, *states: str, timeout_s: float = 120.0) -> Job:
        self.run_until(lambda: self.job(job).state in states, timeout_s)
        return self.job(job)

    def review(self, job: str, verdicts: dict[str, str] | None = None) -> None:
        """Both checkers decide, each on every artefact that may be reviewed."""
        for checker in ("chen", "dunne"):
            self.file("output-decision", self.decision_value(job, verdicts or {}), checker)

    def decision_value(self, job: str, verdicts: dict[str, str]) -> dict[str, Any]:
        with self.ctx.db.read() as tx:
            shown = [item for item in artefacts.of_job(tx, job) if item.refused is None]
        return {
            "schema": "hdrs-hpc/output-decision/1",
            "project": self.project,
            "job": job,
            "nonce": ids.new_id(26),
            "decisions": [
                {
                    "artefact": item.name,
                    "rebuilt": item.rebuilt,
                    "report": item.report_digest,
                    "verdict": verdicts.get(item.name, "approve"),
                    "reason": "Looks as described.",
                }
                for item in shown
            ],
        }

    def close(self, action: str = "close") -> None:
        self.file_raw(self.closure(action))

    def closure(self, action: str, *people: str, **more: Any) -> bytes:
        return self.signed(
            "closure",
            {
                "schema": "hdrs-hpc/closure/2",
                "project": self.project,
                "action": action,
                "reason": "The research is done.",
                "nonce": ids.new_id(26),
                "at": clock.to_text(clock.now()),
                **more,
            },
            *(people or ("abara",)),
        )

    def project_state(self) -> str:
        with self.ctx.db.read() as tx:
            return projects.get(tx, self.project).state

    def describe(self) -> str:
        """States and alerts, for a failing test."""
        from hdrs_hpc.broker.store import alerts, copies

        with self.ctx.db.read() as tx:
            rows: list[Any] = [
                *(f"project {p.name} {p.state}" for p in projects.every(tx)),
                *(f"copy {c.id} {c.state} {c.reason}" for c in copies.of_project(tx, self.project)),
            ]
            for job in jobs.of_project(tx, self.project):
                rows.append(f"job {job.id} {job.state} {job.outcome} {job.reason} {job.detail}")
                rows += [f"  attempt {a}" for a in jobs.attempts_of(tx, job.id)]
            rows += [f"alert {a.about}: {a.code}: {a.message}" for a in alerts.every(tx)]
        return "\n".join(map(str, rows))


@contextmanager
def world(root: Path, cached_runtime: Path, **settings: Any) -> Iterator[World]:
    made = World(root, **settings)
    try:
        yield made.make(cached_runtime)
    finally:
        made.stop()


def digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def later(moment: datetime) -> str:
    return clock.to_text(moment)


def is_root() -> bool:
    return os.geteuid() == 0
