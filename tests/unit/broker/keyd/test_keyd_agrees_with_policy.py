"""Whatever the broker admits keyd gives keys for, and what it refuses by a shared rule keyd refuses for that reason.

Each gathers its facts by itself: here the policy is given them as the broker's steps do, keyd reads them from signed
documents, its own keystore and the request.  A number in ``HDRS_AGREEMENT_PROJECTS`` tries more projects.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents import trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpec
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.policy import granted, job
from hdrs_hpc.policy.facts import ClusterFacts, Facts
from hdrs_hpc.policy.kept import KeptFact, KeptState
from tests.support.keyroom import KeyRoom, Node, facts
from tests.support.party import FLAVOUR, GRANT, ONES, OTHERS, REGISTRATION, SPEC, TWOS, changed

PROJECTS = int(os.environ.get("HDRS_AGREEMENT_PROJECTS", "250"))
CASES = 12
"""Of each project: thousands of cases in all."""
NOON = "2027-01-16T12:00:00Z"
DATASET = "north-chest-ct"
CLUSTERS = ["isambard-ai", "local"]
BUNDLE = {"digest": TWOS, "size": 1 << 20}
TABLE = SPEC["outputs"]["cohort"]
KEPT: dict[str, KeptState] = {"7K3QA2": "kept", "7K3QA3": "unfinished", "7K3QA4": "destroyed"}
"""Jobs of the project that were to keep an encoder, and what became of it."""
REASONS = {
    "wrong-audience",
    "spec-not-yet-valid",
    "project-unknown",
    "project-not-started",
    "project-ended",
    "not-a-researcher",
    "conflict-of-interest",
    "dataset-not-granted",
    "real-data-under-demo-root",
    "real-data-needs-two",
    "selection-outside-grant",
    "selection-keyword-refused",
    "opt-out-not-stated",
    "not-built",
    "workload-unknown",
    "workload-not-granted",
    "own-code-not-allowed",
    "code-not-approved",
    "bundle-over-limit",
    "cluster-not-granted",
    "isolation-insufficient",
    "nodes-over-limit",
    "time-over-limit",
    "output-class-not-granted",
    "output-of-real-data",
    "kept-over-limit",
    "input-unknown",
    "input-unfinished",
    "input-destroyed",
}
"""Each is met at least once, or the cases do not try what they should."""


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([usual] * 9 * len(others) + list(others))


WHEELS = {"lock": ONES, "size": 1 << 20}
ALSO_WHEELS = "and the wheels"
REVIEWED = {"wheels": {"lock": ONES, "index": "local files"}}
PROJECT = st.fixed_dictionaries(
    {
        "people/researchers": st.sampled_from([["rae"]] * 5 + [["rae", "sam"]] * 4 + [["sam"]]),
        "workloads/builtin": mostly(["cohort-summary@1"], []),
        "workloads/own-code": st.sampled_from(["none", "reviewed", "project"]),
        "limits/clusters": st.sampled_from([CLUSTERS, CLUSTERS, ["local"]]),
        "limits/isolation": st.sampled_from(["sandboxed", "cooperative"]),
        "limits/nodes": mostly(8, 1),
        "limits/time": mostly("24:00:00", "01:00:00"),
        "limits/bundle-size": mostly("16MiB", "1KiB"),
        "limits/kept-size": st.sampled_from(["1GiB", "1GiB", "1KiB", ...]),
        f"data/{DATASET}/select": mostly(GRANT["data"][DATASET]["select"], {"Modality": ["MR"]}),
        "outputs": mostly(GRANT["outputs"], {"reviewers": 2, "image": {}}),
    }
)
SITUATION = st.fixed_dictionaries(
    {
        "sensitivity": st.sampled_from(["real", "synthetic"]),
        "stated": mostly(True, False),
        "root": st.sampled_from([{}] * 6 + [{"demo": True}, {"thresholds": {"grant": 1}}]),
    }
)
CASE = st.fixed_dictionaries(
    {
        "audience": mostly("north-sde", "south-sde"),
        "project": mostly("lung-fm", "heart-fm"),
        "not-before": mostly("2027-01-15T00:00:00Z", "2027-01-17T00:00:00Z"),
        "data/ct/dataset": mostly(DATASET, "north-lung-he"),
        "data/ct/select": mostly(
            {}, {"Modality": ["CT"]}, {"BodyPartExamined": ["HEAD"]}, {"PatientID": ["1"]}
        ),
        "workload": st.sampled_from(
            [{"kind": "dask", "builtin": "cohort-summary@1"}] * 12
            + [{"kind": "dask", "bundle": BUNDLE, "entry": "mine:run"}] * 5
            + [{"kind": "dask", "bundle": BUNDLE | {"wheels": WHEELS}, "entry": "mine:run"}] * 3
            + [
                {"kind": "dask", "builtin": "other@1"},
                {"kind": "torch", "bundle": BUNDLE, "entry": "mine:run"},
                {"kind": "command", "bundle": BUNDLE, "run": ["python3", "x.py"]},
            ]
        ),
        "resources/nodes": mostly(1, 2, 9),
        "resources/cluster": st.sampled_from([...] * 6 + ["local", "isambard-ai", "elsewhere"]),
        "outputs": mostly(
            {"cohort": TABLE},
            {"f": {"class": "image", "path": "f.png", "data": "cohort", "max-size": "1MiB"}, "cohort": TABLE},
            {"w": {"class": "weights", "path": "e.safetensors", "max-size": "1GiB"}},
            *[{"cohort": TABLE | {"keep": "project"}}] * 3,
        ),
        "inputs": mostly({}, *({"x": {"job": job, "output": "encoder"}} for job in ("7K3QA1", *KEPT))),
    }
)
ASKED = st.fixed_dictionaries(
    {
        "case": CASE,
        "person": mostly("rae", "sam"),
        "now": mostly(NOON, "2026-11-30T12:00:00Z", "2027-07-01T00:00:00Z"),
        "approved by": st.sampled_from(
            [("di",)] * 4 + [("di", ALSO_WHEELS)] * 2 + [(), ("sam",), ("sam",), ("sam", "di"), ("di", "sam")]
        ),
        "offered": mostly("sandboxed", "cooperative"),
    }
)


class Project:
    """One grant with what it rests on, as the broker's policy sees it, and as keyd does that was shown it all."""

    def __init__(self, folder: Path, changes: dict[str, Any], situation: dict[str, Any]) -> None:
        value = GRANT
        for path, new in changes.items():
            value = value if new is ... else changed(value, path, new)
        self.room = KeyRoom(folder, NOON)
        raw = self.room.root()
        self.room.ask(m.PinRoot(raw, Envelope.parse(raw).digest))
        envelope = self.room.party.sign("grant", value, "ada", "bob")
        registration = self.room.registration(sensitivity=situation["sensitivity"])
        self.room.ask(self.room.admit_request(envelope, self.room.tell_grant(envelope), registration))
        for cluster in CLUSTERS:
            self.room.register_runtime(ONES, cluster=cluster)
            self.room.register_flavour(FLAVOUR, cluster=cluster)
            self.room.register_flavour("sha256:" + "7" * 64, cluster=cluster, name="torch")
        if situation["stated"]:
            self.room.opt_out()
            self.room.seal_copy()
        for number, (job_, state) in enumerate(KEPT.items()):
            self._keep(job_, f"KEPT{number}", state)
        self.good_root = self.room.keyd._roots.current()
        self.root = self._later_root(situation["root"])
        self.facts = Facts(
            now=clock.from_text(NOON),
            grant=Grant.from_value(value),
            grant_people=("ada", "bob"),
            registrations={
                DATASET: DatasetRegistration.from_value(
                    REGISTRATION | {"sensitivity": situation["sensitivity"]}
                )
            },
            cluster=ClusterFacts("local", "sandboxed", 16),
            trust_root=TrustRoot.from_payload(self.root.document.to_payload()),
            trust_root_digest=ONES,
            opt_outs=frozenset({DATASET} if situation["stated"] else ()),
            kept=tuple(KeptFact(job_, "encoder", state) for job_, state in KEPT.items()),
        )

    def _keep(self, job_: str, holder: str, state: str) -> None:
        use = m.KeptFor(job_, f"hdrs-{job_}", "encoder", "weights")
        self.room.ask(m.CreateKey("lung-fm", "kept", holder, None, None, kept=use))
        if state == "kept":
            self.room.ask(m.NoteManifest("lung-fm", "kept", holder, "m-1", ONES))
        elif state == "destroyed":
            self.room.ask(m.Destroy("lung-fm", "copies", holder))

    def _later_root(self, changes: dict[str, Any]) -> trust.VerifiedRoot:
        """The root in force when keys are asked for, which may be less fit than the one of the grant's day."""
        value = self.room.party.root_value()
        value["broker-keys"] = {k: [v] for k, v in self.room.ask(m.SigningKeys()).lines.items()}
        thresholds = value["thresholds"] | changes.get("thresholds", {})
        envelope = self.room.party.sign(
            "trust-root", value | changes | {"thresholds": thresholds}, "ada", "bob"
        )
        return trust.load_root(envelope.to_bytes(), envelope.digest)

    def decide(self, spec: dict[str, Any], asked: dict[str, Any]) -> job.Decision:
        """What the broker's policy says."""
        parsed = JobSpec.from_value(spec)
        name = job.choose_cluster(parsed, self.facts.grant)
        approved = sorted(_approvers(asked), key=lambda person: person not in self.facts.grant.everyone)
        return job.decide(
            parsed,
            asked["person"],
            Facts(
                **vars(self.facts)
                | {
                    "now": clock.from_text(asked["now"]),
                    "cluster": ClusterFacts(name, asked["offered"], 16),
                    "code_approvals": {_covered(asked): approved[-1]} if approved else {},
                }
            ),
        )

    def bind(
        self, spec: dict[str, Any], asked: dict[str, Any], decision: job.Decision, number: int
    ) -> str | None:
        """What keyd says, asked by a broker that would run the job whatever its policy says; None: it gives."""
        room, attempt = self.room, f"hdrs-{number:026d}"
        bundled = "bundle" in spec["workload"]
        room.ask(m.CreateKey("lung-fm", "output", attempt, None, None))
        if bundled:
            room.ask(m.CreateKey("lung-fm", "bundle", attempt, None, None))
            room.ask(m.NoteManifest("lung-fm", "bundle", attempt, "b.manifest", ONES))
        for name, output in spec["outputs"].items():
            if output.get("keep") == "project":
                use = m.KeptFor(f"7K3QW{number}", attempt, name, output["class"])
                room.ask(m.CreateKey("lung-fm", "kept", f"own{number}", None, None, kept=use))
        approvals = tuple(
            room.party.sign("code-approval", _approval(asked) | {"reviewer": who}, who).to_bytes()
            for who in _approvers(asked)
        )
        request = room.bind_request(
            *(Node(f"n{n}", attempt) for n in range(spec["resources"]["nodes"])),
            spec=room.party.sign("job-spec", spec, asked["person"]).to_bytes(),
            job=f"7K3QW{number}",
            attempt=attempt,
            code_approvals=approvals,
            copies=(facts(),),
            bundle_parts=("attempts", attempt, "bundle") if bundled else None,
            cluster=job.choose_cluster(JobSpec.from_value(spec), self.facts.grant),
            isolation=decision.isolation,
            started_at=asked["now"],
        )
        room.now, room.keyd._roots._root = clock.from_text(asked["now"]), self.root
        try:
            room.ask(request)
        except HdrsError as error:
            return error.code
        finally:
            room.now, room.keyd._roots._root = clock.from_text(NOON), self.good_root
        return None


def _approvers(asked: dict[str, Any]) -> list[str]:
    return [who for who in asked["approved by"] if who != ALSO_WHEELS]


def _approval(asked: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = OTHERS["code-approval"][1]
    return value | (REVIEWED if ALSO_WHEELS in asked["approved by"] else {})


def _covered(asked: dict[str, Any]) -> str:
    return f"{TWOS} with {ONES}" if ALSO_WHEELS in asked["approved by"] else TWOS


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: nothing here is about a disk, and every answer of keyd waits for it."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def compare(folder: Path, projects: int) -> Counter[str | None]:
    """Have both decide on many cases; gives how often each shared reason was met, None for what both give."""
    met: Counter[str | None] = Counter()
    shared = {rule for rule, _, _ in granted.RULES}

    @settings(
        max_examples=projects,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.generate,),  # what explains and shrinks a failure would trace every line
        suppress_health_check=list(HealthCheck),
    )
    @given(changes=PROJECT, situation=SITUATION, asked=st.lists(ASKED, min_size=CASES, max_size=CASES))
    def agree(changes: dict[str, Any], situation: dict[str, Any], asked: list[dict[str, Any]]) -> None:
        project = Project(Path(tempfile.mkdtemp(dir=folder)), changes, situation)
        for number, one in enumerate(asked):
            spec = SPEC | {"nonce": f"{number:026d}"}
            for path, new in one["case"].items():
                if new is not ...:
                    spec = changed(spec, path, new)
            decision = project.decide(spec, one)
            reasons = {rule.code for rule in decision.broken if rule.rule in shared}
            refused = project.bind(spec, one, decision, number)
            assert refused in (reasons or {None}), (refused, reasons, changes, situation, one)
            met.update(reasons or {None})

    agree()
    return met


@pytest.mark.timeout(900)
def test_keyd_gives_what_the_broker_admits_and_refuses_for_the_same_reasons(folder: Path) -> None:
    met = compare(folder, PROJECTS)
    assert met[None] > PROJECTS
    assert met.keys() >= REASONS, REASONS - met.keys()


@pytest.mark.parametrize(
    "rule", ["spec-begun", "workload-granted", "cluster-granted", "isolation-sufficient"]
)
def test_a_rule_that_only_the_broker_keeps_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    kept = [row for row in granted.RULES if row[0] != rule]
    monkeypatch.setattr(
        granted, "breaches", lambda spec, facts: (item for _, _, row in kept for item in row(spec, facts))
    )
    with pytest.raises(AssertionError):
        compare(folder, 60)
