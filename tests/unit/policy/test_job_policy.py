"""Each rule on a job, kept and broken."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from party import GRANT, NINES, ONES, REGISTRATION, SPEC, TWOS, changed

from hdrs_hpc.catalogue import workloads
from hdrs_hpc.core.capacity import Capacity, NodeKind
from hdrs_hpc.core.errors import all_errors
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpec
from hdrs_hpc.documents.models.selection import DateRange
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.policy import job, selection
from hdrs_hpc.policy.facts import ClusterFacts, Facts
from hdrs_hpc.policy.kept import KeptFact

NOON = datetime(2027, 1, 16, 12, tzinfo=UTC)
FIGURE = {"class": "image", "path": "f.png", "data": "cohort", "max-size": "1MiB"}
OWN = {"kind": "dask", "bundle": {"digest": TWOS, "size": 10240}, "entry": "cohort.main:run"}


@pytest.fixture
def facts(party) -> Facts:
    return Facts(
        now=NOON,
        grant=Grant.from_value(GRANT),
        grant_people=("ada", "bob"),
        registrations={"north-chest-ct": DatasetRegistration.from_value(REGISTRATION)},
        cluster=ClusterFacts("isambard-ai", "sandboxed", 16),
        trust_root=TrustRoot.from_value(party.root_value()),
        trust_root_digest=ONES,
        opt_outs=frozenset({"north-chest-ct"}),
    )


def test_a_dataset_of_which_nobody_said_who_opted_out_is_used_by_no_job(facts: Facts) -> None:
    for stated in (frozenset(), frozenset({"other"})):
        assert _codes(_decide(replace(facts, opt_outs=stated))) == ["opt-out-not-stated"]


def _decide(facts: Facts, *, submitter: str = "rae", spec: dict = SPEC) -> job.Decision:
    return job.decide(JobSpec.from_value(spec), submitter, facts)


def _codes(decision: job.Decision) -> list[str]:
    return [rule.code for rule in decision.broken]


def _granting(facts: Facts, path: str, new: object) -> Facts:
    return replace(facts, grant=Grant.from_value(changed(facts_grant(facts), path, new)))


def facts_grant(facts: Facts) -> dict:
    return facts.grant.model_dump(mode="json", by_alias=True, exclude_none=True)


def test_an_honest_job_is_allowed_with_every_rule_named(facts):
    decision = _decide(facts)
    assert decision.allowed
    assert decision.isolation == "sandboxed"
    assert decision.walltime_s == 7200
    names = [rule.rule for rule in decision.rules]
    assert len(names) == len(set(names)) == 31


@pytest.mark.parametrize(
    ("path", "new", "code", "where"),
    [
        ("audience", "elsewhere", "wrong-audience", "audience"),
        ("trust-root", TWOS, "trust-root-changed", "trust-root"),
        ("project", "heart-fm", "project-unknown", "project"),
        ("not-before", "2027-01-17T00:00:00Z", "spec-not-yet-valid", "not-before"),
        ("expires", "2027-01-16T12:00:00Z", "spec-expired", "expires"),
        ("data/ct/dataset", "south-knee-mr", "dataset-not-granted", "data.ct.dataset"),
        (
            "data/ct/select",
            {"BodyPartExamined": ["CHEST", "HEAD"]},
            "selection-outside-grant",
            "data.ct.select.BodyPartExamined",
        ),
        (
            "data/ct/select",
            {"StudyDate": "2018-12-31/2020-01-01"},
            "selection-outside-grant",
            "data.ct.select.StudyDate",
        ),
        ("data/ct/select", {"PatientID": ["1"]}, "selection-keyword-refused", "data.ct.select.PatientID"),
        ("inputs", {"x": {"job": "7K3QW2", "output": "x"}}, "input-unknown", "inputs.x"),
        ("workload/sweep", {"bins": [1, 2]}, "not-built", "workload.sweep"),
        ("workload/builtin", "mystery@1", "workload-unknown", "workload.builtin"),
        ("workload/builtin", "pretrain-mae@1", "workload-unknown", "workload.kind"),
        ("workload", OWN, "code-not-approved", "workload.bundle"),
        ("resources/cluster", "dawn", "cluster-not-granted", "resources.cluster"),
        ("resources/cluster", "local", "cluster-not-granted", "resources.cluster"),
        ("resources/nodes", 2, "isolation-insufficient", "resources.nodes"),
        ("resources/time", "1-00:00:01", "time-over-limit", "resources.time"),
        ("outputs/cohort/keep", "project", "kept-over-limit", "outputs.cohort.keep"),
        (
            "outputs/m",
            {"class": "metrics", "path": "m.json", "max-size": "1KiB"},
            "output-class-not-granted",
            "outputs.m.class",
        ),
        ("outputs/f", FIGURE, "output-of-real-data", "outputs.f.class"),
    ],
)
def test_one_breach_is_refused_for_its_own_reason(facts, path, new, code, where):
    broken = _decide(facts, spec=changed(SPEC, path, new)).broken
    assert [(rule.code, rule.where) for rule in broken] == [(code, where)]
    assert broken[0].remedy


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"now": datetime(2026, 11, 30, 23, 59, tzinfo=UTC)}, "project-not-started"),
        ({"now": datetime(2027, 7, 1, tzinfo=UTC)}, "project-ended"),
        ({"project_state": "CLOSING"}, "project-not-active"),
        ({"project_state": "CLOSED"}, "project-not-active"),
        ({"grant_people": ("ada", "rae")}, "conflict-of-interest"),
        ({"gpu_hours_used": 97.0}, "gpu-hours-exhausted"),
        ({"registrations": {}}, "dataset-version-mismatch"),
        ({"cluster": ClusterFacts("isambard-ai", "cooperative", 16)}, "isolation-insufficient"),
        ({"cluster": ClusterFacts("isambard-ai", "sandboxed", 0)}, "cluster-not-granted"),
        ({"cluster": ClusterFacts("elsewhere", "sandboxed", 16)}, "cluster-not-granted"),
    ],
)
def test_facts_that_forbid_are_named(facts, changes, code):
    spec = changed(SPEC, "not-before", "2026-11-01T00:00:00Z")
    spec = changed(spec, "expires", "2026-12-01T00:00:00Z") if "not-started" in code else SPEC
    assert code in _codes(_decide(replace(facts, **changes), spec=spec))


def test_gpu_hours_count_to_the_last_one(facts):
    assert _decide(replace(facts, gpu_hours_used=96.0)).allowed  # 2 GPUs for 2 hours


@pytest.mark.parametrize("who", ["sam", "cy", "ada", "nobody"])
def test_only_the_projects_researchers_may_run(facts, who):
    assert _codes(_decide(facts, submitter=who)) == ["not-a-researcher"]


def test_every_breach_is_told_at_once(facts):
    spec = changed(SPEC, "resources/nodes", 9)
    spec = changed(spec, "audience", "elsewhere")
    decision = _decide(facts, submitter="cy", spec=spec)
    assert _codes(decision) == [
        "wrong-audience",
        "not-a-researcher",
        "isolation-insufficient",
        "nodes-over-limit",
    ]


@pytest.mark.parametrize(
    ("asked", "narrower"),
    [
        ({}, False),
        ({"Modality": ("CT", "MR")}, False),
        ({"Modality": ("MR", "CT")}, False),
        ({"Modality": ("CT",)}, True),
        ({"PatientSex": ("F", "M", "O")}, True),
        ({"StudyDate": DateRange(first=date(2020, 1, 1), last=date(2021, 1, 1))}, False),
        ({"StudyDate": DateRange(first=date(2020, 1, 2), last=date(2021, 1, 1))}, True),
        ({"StudyDate": DateRange(first=date(2020, 1, 1), last=date(2020, 12, 31))}, True),
    ],
)
def test_a_selection_is_narrower_where_it_may_leave_something_out(asked, narrower):
    granted = {
        "Modality": ("CT", "MR"),
        "StudyDate": DateRange(first=date(2020, 1, 1), last=date(2021, 1, 1)),
    }
    assert selection.narrower(asked, granted) is narrower


def test_reviewed_code_runs_once_somebody_outside_has_approved_it(facts):
    spec = changed(SPEC, "workload", OWN)
    assert _decide(replace(facts, code_approvals={TWOS: "di"}), spec=spec).allowed
    assert _codes(_decide(replace(facts, code_approvals={NINES: "di"}), spec=spec)) == ["code-not-approved"]


def test_a_reviewer_who_works_in_the_project_approves_nothing(facts):
    spec = changed(SPEC, "workload", OWN)
    with_sam = _granting(facts, "people/researchers", ["rae", "sam"])
    decision = _decide(replace(with_sam, code_approvals={TWOS: "sam"}), spec=spec)
    assert "conflict-of-interest" in _codes(decision)


def test_a_project_without_enough_outside_checkers_can_not_run(facts):
    """sam checks and researches: only cy and di are left, and three are asked for."""
    strict = _granting(_granting(facts, "people/researchers", ["rae", "sam"]), "outputs/reviewers", 3)
    assert _codes(_decide(strict)) == ["not-enough-checkers"]


def test_own_code_is_refused_where_the_grant_allows_none(facts):
    spec = changed(SPEC, "workload", OWN)
    none = _granting(facts, "workloads/own-code", "none")
    assert _codes(_decide(replace(none, code_approvals={TWOS: "di"}), spec=spec)) == ["own-code-not-allowed"]


def test_unreviewed_code_needs_a_sandbox_even_on_synthetic_data(facts):
    spec = changed(SPEC, "workload", OWN)
    loose = _synthetic(
        _granting(_granting(facts, "workloads/own-code", "project"), "limits/isolation", "cooperative")
    )
    assert _decide(loose, spec=spec).allowed
    weak = replace(loose, cluster=ClusterFacts("isambard-ai", "cooperative", 16))
    decision = _decide(weak, spec=spec)
    assert _codes(decision) == ["isolation-insufficient"]
    assert "code that nobody reviewed asks for `sandboxed`" in decision.broken[0].message
    assert _decide(weak).allowed, "the built-in workload may run there"


def _synthetic(facts: Facts) -> Facts:
    value = changed(REGISTRATION, "sensitivity", "synthetic")
    return replace(facts, registrations={"north-chest-ct": DatasetRegistration.from_value(value)})


def test_real_data_is_never_below_sandboxed_whatever_the_grant_says(facts):
    loose = _granting(facts, "limits/isolation", "cooperative")
    weak = replace(loose, cluster=ClusterFacts("isambard-ai", "cooperative", 16))
    decision = _decide(weak)
    assert _codes(decision) == ["isolation-insufficient"]
    assert "real data ask for `sandboxed`" in decision.broken[0].message
    assert _decide(_synthetic(weak)).allowed


def test_a_sandbox_on_several_nodes_is_refused_in_words_that_name_both(facts):
    decision = _decide(facts, spec=changed(SPEC, "resources/nodes", 2))
    assert [rule.message for rule in decision.broken] == [
        "a job on 2 nodes runs at `cooperative` on isambard-ai; the grant asks for `sandboxed`"
    ]


def test_several_nodes_run_at_cooperative_and_the_decision_says_so(facts):
    loose = _synthetic(_granting(facts, "limits/isolation", "cooperative"))
    decision = _decide(loose, spec=changed(SPEC, "resources/nodes", 2))
    assert decision.allowed
    assert decision.isolation == "cooperative"


def test_real_data_never_meets_a_demo_root(party, facts):
    demo = replace(facts, trust_root=TrustRoot.from_value(party.root_value(demo=True)))
    assert _codes(_decide(demo)) == ["real-data-under-demo-root"]
    assert _decide(_synthetic(demo)).allowed


@pytest.mark.parametrize("threshold", ["trust-root", "grant", "dataset-registration"])
def test_real_data_never_meets_a_root_under_which_one_person_decides(party, facts, threshold):
    thresholds = party.root_value()["thresholds"] | {threshold: 1}
    weak = replace(facts, trust_root=TrustRoot.from_value(party.root_value(thresholds=thresholds)))
    assert _codes(_decide(weak)) == ["real-data-needs-two"]
    assert _decide(_synthetic(weak)).allowed


def test_a_derived_column_is_refused_by_name_until_the_broker_computes_it(facts):
    columns = {"n": {"count": "patients"}, "share": {"derive": "share", "of": "n"}}
    table = {"class": "table", "path": "d.csv", "columns": columns, "max-size": "1MiB"}
    broken = _decide(facts, spec=changed(SPEC, "outputs/d", table)).broken
    assert [(rule.code, rule.where) for rule in broken] == [("not-built", "outputs.d.columns.share")]


def test_figures_of_data_that_are_not_real_are_still_drawn(facts):
    assert _decide(_synthetic(facts), spec=changed(SPEC, "outputs/f", FIGURE)).allowed


def test_a_withdrawn_dataset_version_is_refused(facts):
    value = changed(REGISTRATION, "version", TWOS)
    later = replace(facts, registrations={"north-chest-ct": DatasetRegistration.from_value(value)})
    assert _codes(_decide(later)) == ["dataset-version-mismatch"]


def test_walltime_is_clamped_to_the_projects_end(facts):
    late = replace(facts, now=datetime(2027, 6, 30, 23, 0, tzinfo=UTC))
    spec = changed(changed(SPEC, "not-before", "2027-06-30T00:00:00Z"), "expires", "2027-07-05T00:00:00Z")
    decision = _decide(late, spec=spec)
    assert decision.allowed
    assert decision.walltime_s == 3600


def test_weights_that_must_stay_may_not_be_released(facts):
    weights = {"class": "weights", "path": "e.safetensors", "max-size": "1GiB"}
    facts = _granting(facts, "outputs/weights", {"keep": "project"})
    codes = _codes(_decide(facts, spec=changed(SPEC, "outputs/encoder", weights)))
    assert codes == ["not-built", "keep-not-granted"]


KEPT = changed(SPEC, "outputs/cohort/keep", "project")
ENCODER = {"encoder": {"job": "7K3QW2", "output": "encoder"}}


def test_what_is_kept_is_counted_with_what_jobs_under_way_may_still_add(facts: Facts) -> None:
    facts = _granting(facts, "limits/kept-size", "3MiB")
    assert _decide(facts, spec=KEPT).allowed
    used = replace(
        facts, kept=(KeptFact("7K3QW2", "a", "kept", 2 << 20), KeptFact("7K3QW3", "a", "destroyed", 9 << 20))
    )
    assert _decide(used, spec=KEPT).allowed
    for more in (
        replace(used, kept=(*used.kept, KeptFact("7K3QW4", "a", "kept", 1))),
        replace(used, kept_promised=1),
    ):
        (broken,) = _decide(more, spec=KEPT).broken
        assert (broken.code, broken.where) == ("kept-over-limit", "outputs.cohort.max-size")
    alone = changed(KEPT, "outputs/cohort/max-size", "4MiB")
    assert _codes(_decide(facts, spec=alone)) == ["kept-over-limit"], "told once"


@pytest.mark.parametrize(
    ("kept", "code"),
    [
        ([KeptFact("7K3QW2", "encoder", "kept", 1 << 20, "isambard-ai")], None),
        ([KeptFact("7K3QW2", "head", "kept", 1)], "input-unknown"),
        ([KeptFact("7K3QW3", "encoder", "kept", 1)], "input-unknown"),
        ([KeptFact("7K3QW2", "encoder", "unfinished")], "input-unfinished"),
        ([KeptFact("7K3QW2", "encoder", "destroyed")], "input-destroyed"),
        ([KeptFact("7K3QW2", "encoder", "kept", 1, "dawn")], "input-elsewhere"),
        ([KeptFact("7K3QW2", "encoder", "kept", 1 << 40)], "inputs-over-memory"),
    ],
)
def test_an_input_is_what_a_job_of_the_project_kept_here(
    facts: Facts, kept: list[KeptFact], code: str | None
) -> None:
    spec = changed(SPEC, "inputs", ENCODER)
    assert _codes(_decide(replace(facts, kept=tuple(kept)), spec=spec)) == ([code] if code else [])


def test_of_several_attempts_of_a_job_the_one_that_ended_well_counts(facts: Facts) -> None:
    one, other = KeptFact("7K3QW2", "encoder", "destroyed"), KeptFact("7K3QW2", "encoder", "kept", 5)
    for kept in ((one, other), (other, one)):
        assert _decide(replace(facts, kept=kept), spec=changed(SPEC, "inputs", ENCODER)).allowed


def test_nothing_is_drawn_from_a_table_that_stays_sealed(facts: Facts) -> None:
    facts = _granting(_synthetic(facts), "limits/kept-size", "1GiB")
    spec = changed(KEPT, "outputs/f", FIGURE)
    assert [(rule.code, rule.where) for rule in _decide(facts, spec=spec).broken] == [
        ("not-built", "outputs.f.data")
    ]


def test_the_cluster_is_the_one_named_or_the_grants_first(facts):
    assert job.choose_cluster(JobSpec.from_value(SPEC), facts.grant) == "isambard-ai"
    named = JobSpec.from_value(changed(SPEC, "resources/cluster", "local"))
    assert job.choose_cluster(named, facts.grant) == "local"


def test_every_reason_for_refusal_can_be_explained():
    from hdrs_hpc.policy import refusals

    known = all_errors()
    reasons = [
        item
        for item in vars(refusals).values()
        if isinstance(item, type) and item.__module__ == refusals.__name__
    ]
    assert len(reasons) >= 30
    for reason in reasons:
        assert known[reason.code] is reason
        assert reason.meaning.endswith(".") and reason.remedy.endswith(".")


def test_code_and_wheels_together_may_be_as_large_as_the_grant_says(facts):
    covered = {f"{TWOS} with {NINES}": "di"}
    facts = replace(_granting(facts, "limits/bundle-size", "1MiB"), code_approvals=covered)
    for size, expected in ((1000, []), (1001, ["bundle-over-limit"])):
        named = {"digest": TWOS, "size": (1 << 20) - 1000, "wheels": {"lock": NINES, "size": size}}
        assert _codes(_decide(facts, spec=changed(SPEC, "workload", {**OWN, "bundle": named}))) == expected


@pytest.mark.parametrize("approved", [TWOS, NINES, f"{TWOS} with {TWOS}", f"{NINES} with {TWOS}"])
def test_an_approval_counts_for_its_own_lock_of_wheels_only(facts, approved):
    named = {"digest": TWOS, "size": 10240, "wheels": {"lock": NINES, "size": 10}}
    spec = changed(SPEC, "workload", {**OWN, "bundle": named})
    facts = replace(facts, code_approvals={approved: "di"})
    assert _codes(_decide(facts, spec=spec)) == ["code-not-approved"]


def test_an_approval_with_wheels_does_not_count_for_the_code_alone(facts):
    facts = replace(facts, code_approvals={f"{TWOS} with {NINES}": "di"})
    assert _codes(_decide(facts, spec=changed(SPEC, "workload", OWN))) == ["code-not-approved"]


def test_a_bundle_may_be_as_large_as_the_grant_says(facts):
    facts = replace(_granting(facts, "limits/bundle-size", "1MiB"), code_approvals={TWOS: "di"})
    at_the_limit = {**OWN, "bundle": {"digest": TWOS, "size": 1 << 20}}
    assert _codes(_decide(facts, spec=changed(SPEC, "workload", at_the_limit))) == []
    over = {**OWN, "bundle": {"digest": TWOS, "size": (1 << 20) + 1}}
    assert _codes(_decide(facts, spec=changed(SPEC, "workload", over))) == ["bundle-over-limit"]


def test_a_kind_that_is_not_built_is_refused_though_its_code_is_approved(facts, monkeypatch):
    monkeypatch.setitem(workloads.KINDS, "torch", replace(workloads.KINDS["torch"], built=False))
    approved = replace(facts, code_approvals={TWOS: "di"})
    torch = changed(SPEC, "workload", OWN | {"kind": "torch"})
    assert _codes(_decide(approved, spec=torch)) == ["not-built"]


def test_a_training_on_several_nodes_is_refused_by_name(facts):
    approved = replace(facts, code_approvals={TWOS: "di"})
    torch = changed(changed(SPEC, "workload", OWN | {"kind": "torch"}), "resources/nodes", 2)
    assert "not-built" in _codes(_decide(approved, spec=torch))


GPU_AND_BIG = Capacity((NodeKind(4, 64, 131_072, ("gpu:a100:2",)), NodeKind(2, 128, 524_288)), None, 3600 * 3)


@pytest.mark.parametrize(
    ("changes", "code", "where", "words"),
    [
        ({"gres": "gpu:4"}, "gpus-not-there", "resources.gres", "Ask for at most 2: gpu:a100:2."),
        ({"gres": "gpu:h100:1"}, "gpus-not-there", "resources.gres", "gpu:a100:2"),
        ({"cpus-per-task": 129}, "cpus-not-there", "resources.cpus-per-task", "128"),
        ({"mem": "1T"}, "memory-not-there", "resources.mem", "512G"),
        ({"gres": "gpu:2", "mem": "256G"}, "nodes-not-there", "resources.nodes", "0 with such"),
        ({"time": "03:00:01"}, "time-over-cluster", "resources.time", "03:00:00"),
    ],
)
def test_more_than_the_clusters_nodes_have_is_refused_with_what_there_is(
    facts, changes, code, where, words
) -> None:
    cluster = ClusterFacts("isambard-ai", "sandboxed", 16, GPU_AND_BIG)
    spec = changed(SPEC, "resources", {**SPEC["resources"], **changes})
    (broken,) = _decide(replace(facts, cluster=cluster), spec=spec).broken
    assert (broken.code, broken.where) == (code, where)
    assert words in f"{broken.message} {broken.remedy}"


def test_a_gpu_where_there_is_none_is_refused_and_costs_nothing(facts) -> None:
    bare = ClusterFacts("isambard-ai", "sandboxed", 16, Capacity((NodeKind(4, 64, 131_072),)))
    spec = changed(SPEC, "resources", {**SPEC["resources"], "gres": "gpu:1"})
    (broken,) = _decide(replace(facts, cluster=bare), spec=spec).broken
    assert (broken.code, broken.message) == (
        "gpus-not-there",
        "gpu:1 where the nodes of isambard-ai have no GPU",
    )


def test_what_is_asked_for_is_allowed_where_the_nodes_have_it_or_did_not_tell_yet(facts) -> None:
    for has in (GPU_AND_BIG, None):
        cluster = ClusterFacts("isambard-ai", "sandboxed", 16, has)
        assert _decide(replace(facts, cluster=cluster)).allowed
    more = changed(SPEC, "resources", {**SPEC["resources"], "gres": "gpu:h100:1", "mem": "9T"})
    assert _decide(facts, spec=more).allowed, "nothing is refused for what is not known"


def test_what_the_grant_refuses_is_not_refused_for_the_cluster_too(facts) -> None:
    cluster = ClusterFacts("isambard-ai", "sandboxed", 16, GPU_AND_BIG)
    spec = changed(SPEC, "resources/time", "2-00:00:00")
    assert "time-over-cluster" not in _codes(_decide(replace(facts, cluster=cluster), spec=spec))
