"""Does a grant give what a signed job spec asks for?  The rules by which both the broker and keyd decide.

The broker asks when it admits a job, keyd whenever it hands over the job's keys.  Each gathers the facts by itself,
since keyd believes nobody; what only one of them can know is in ``policy/job.py`` or ``broker/keyd/handover.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hdrs_hpc.catalogue import isolation, outputs
from hdrs_hpc.catalogue.isolation import Isolation
from hdrs_hpc.catalogue.workloads.builtin import BUILT_IN
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpec, KeptArtefact, kept_by
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.documents.owners import OnePersonDecidesError
from hdrs_hpc.forms.words import size_text, walltime_text
from hdrs_hpc.policy import not_built, selection
from hdrs_hpc.policy import refusals as r
from hdrs_hpc.policy.kept import KeptState
from hdrs_hpc.policy.rules import Broken

Breaches = Iterator[Broken]


@dataclass(frozen=True)
class GrantedFacts:
    """Everything outside the spec that these rules look at."""

    now: datetime
    grant: Grant
    grant_people: Collection[str]
    """Who signed the grant."""
    trust_root: TrustRoot
    submitters: Collection[str]
    """Who signed the spec."""
    real: Collection[str]
    """Datasets of the grant that hold data of real patients."""
    opt_outs: Collection[str]
    """Datasets of which a custodian said who opted out."""
    approvers: Collection[str]
    """Who approved the spec's bundle for this project, with the lock of its wheels."""
    cluster: str
    isolation: Isolation | None
    """The level at which the job runs there; None where the cluster is not known."""
    builtin_workloads: Collection[str] = tuple(BUILT_IN)
    kept: Mapping[tuple[str, str], KeptState] = field(default_factory=dict)
    """(job, output) of this project → what became of it, of all that was to be kept."""


def breaches(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    """Every breach of every rule."""
    for _, _, rule in RULES:
        yield from rule(spec, facts)


def uses_real_data(spec: JobSpec, facts: GrantedFacts) -> bool:
    return any(use.dataset in facts.real for use in spec.data.values())


def isolation_needed(spec: JobSpec, facts: GrantedFacts) -> Isolation:
    """The strictest of what the grant, the data's sensitivity and the project's own code ask for."""
    unread = spec.workload.bundle is not None and facts.grant.workloads.own_code == "project"
    return isolation.strictest(
        facts.grant.limits.isolation,
        isolation.LEAST_FOR_UNREAD_CODE if unread else isolation.WEAKEST,
        isolation.LEAST_FOR_REAL_DATA if uses_real_data(spec, facts) else isolation.WEAKEST,
    )


def in_project_time(grant: Grant, now: datetime) -> Breaches:
    if now < grant.valid.from_:
        yield Broken(r.ProjectNotStartedError, f"it starts on {grant.valid.from_:%Y-%m-%d}", "project")
    if now >= grant.valid.run_until:
        message = f"it could run jobs until {grant.valid.run_until:%Y-%m-%d %H:%M} UTC"
        yield Broken(r.ProjectEndedError, message, "project")


def apart(people: Collection[str], grant: Grant, did: str, where: str = "") -> Breaches:
    """Nobody approves a project that they work in."""
    for person in sorted(set(people) & grant.everyone):
        yield Broken(r.ConflictOfInterestError, f"{person} {did} and works in the project", where)


def fit_for_real_data(root: TrustRoot, dataset: str, where: str) -> Breaches:
    if root.demo:
        yield Broken(r.RealDataUnderDemoError, f"{dataset} holds real data", where)
    for threshold in root.one_person_decides:
        yield Broken(OnePersonDecidesError, f"the threshold {threshold} is one", where)


def _addressed(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    if spec.audience != facts.trust_root.audience:
        yield Broken(r.WrongAudienceError, f"the spec is for {spec.audience}", "audience")


def _begun(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    if facts.now < spec.not_before:
        yield Broken(r.SpecNotYetValidError, f"valid from {spec.not_before:%Y-%m-%d %H:%M} UTC", "not-before")


def _project_matches(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    if spec.project != facts.grant.project:
        yield Broken(r.ProjectUnknownError, f"there is no grant for {spec.project} here", "project")


def _in_project_time(_spec: JobSpec, facts: GrantedFacts) -> Breaches:
    yield from in_project_time(facts.grant, facts.now)


def _is_researcher(_spec: JobSpec, facts: GrantedFacts) -> Breaches:
    for person in sorted(set(facts.submitters) - set(facts.grant.people.researchers)):
        yield Broken(r.NotAResearcherError, f"{person} is not a researcher of {facts.grant.project}")


def _no_conflict(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    yield from apart(facts.grant_people, facts.grant, "signed the grant")
    if _needs_approval(spec, facts.grant) and facts.grant.everyone.issuperset(facts.approvers):
        yield from apart(facts.approvers, facts.grant, "approved the code", "workload.bundle")


def _needs_approval(spec: JobSpec, grant: Grant) -> bool:
    return spec.workload.bundle is not None and grant.workloads.own_code == "reviewed"


def _datasets_granted(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    for name, use in spec.data.items():
        if use.dataset not in facts.grant.data:
            message = f"{use.dataset} is not in the grant"
            yield Broken(r.DatasetNotGrantedError, message, f"data.{name}.dataset")


def _fit_for_real_data(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    used = {use.dataset: f"data.{name}.dataset" for name, use in spec.data.items()}
    for dataset in sorted(facts.real):
        yield from fit_for_real_data(facts.trust_root, dataset, used.get(dataset, "project"))


def _selections_granted(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    for name, use in spec.data.items():
        granted = facts.grant.data.get(use.dataset)
        if granted is None:
            continue  # named by the rule on datasets
        for word in selection.outside(use.select, granted.select):
            message = f"{word} asks for more of {use.dataset} than the grant gives"
            yield Broken(r.SelectionOutsideError, message, f"data.{name}.select.{word}")
        for word in selection.refused_keywords(use.select):
            yield Broken(
                r.SelectionKeywordError, f"jobs may not select by {word}", f"data.{name}.select.{word}"
            )


def _opt_outs_stated(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    for name, use in spec.data.items():
        if use.dataset in facts.grant.data and use.dataset not in facts.opt_outs:
            message = f"nobody said who opted out of {use.dataset}"
            yield Broken(r.OptOutNotStatedError, message, f"data.{name}.dataset")


def _only_built(spec: JobSpec, _facts: GrantedFacts) -> Breaches:
    yield from not_built.in_spec(spec)


def _workload_granted(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    workload, granted = spec.workload, facts.grant.workloads
    if workload.builtin is not None:
        if workload.builtin not in facts.builtin_workloads:
            yield Broken(r.WorkloadUnknownError, f"there is no {workload.builtin}", "workload.builtin")
        elif (row := BUILT_IN.get(workload.builtin)) is not None and row.kind != workload.kind:
            message = f"{workload.builtin} is of kind {row.kind}, and the spec says {workload.kind}"
            yield Broken(r.WorkloadUnknownError, message, "workload.kind")
        elif workload.builtin not in granted.builtin:
            message = f"{workload.builtin} is not in the grant"
            yield Broken(r.WorkloadNotGrantedError, message, "workload.builtin")
    if workload.bundle is not None:
        if granted.own_code == "none":
            yield Broken(r.OwnCodeError, "the grant allows built-in workloads only", "workload.bundle")
        elif _needs_approval(spec, facts.grant) and not facts.approvers:
            message = f"no approval names {workload.bundle.to_approve}"
            yield Broken(r.CodeNotApprovedError, message, "workload.bundle")
        most = facts.grant.limits.bundle_size
        if most is not None and workload.bundle.whole_size > most:
            message = f"{size_text(workload.bundle.whole_size)} where the grant allows {size_text(most)}"
            yield Broken(r.BundleOverLimitError, message, "workload.bundle")


def _cluster_granted(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    if facts.cluster not in facts.grant.limits.clusters:
        yield Broken(r.ClusterNotGrantedError, f"{facts.cluster} is not in the grant", "resources.cluster")
    elif spec.resources.cluster not in (None, facts.cluster):
        message = f"it would run on {facts.cluster}, and the spec names {spec.resources.cluster}"
        yield Broken(r.ClusterNotGrantedError, message, "resources.cluster")


def _isolation_enough(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    needed = isolation_needed(spec, facts)
    if facts.isolation is not None and not isolation.at_least(facts.isolation, needed):
        nodes = spec.resources.nodes
        on = f"{nodes} nodes" if nodes > 1 else "1 node"
        message = (
            f"a job on {on} runs at `{facts.isolation}` on {facts.cluster}; "
            f"{_who_asks(spec, facts, needed)} for `{needed}`"
        )
        yield Broken(r.IsolationInsufficientError, message, "resources.nodes")


def _who_asks(spec: JobSpec, facts: GrantedFacts, needed: Isolation) -> str:
    if facts.grant.limits.isolation == needed:
        return "the grant asks"
    return "real data ask" if uses_real_data(spec, facts) else "code that nobody reviewed asks"


def _resources_within(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    asked, limits = spec.resources, facts.grant.limits
    if asked.nodes > limits.nodes:
        message = f"{asked.nodes} where the grant gives {limits.nodes}"
        yield Broken(r.TooManyNodesError, message, "resources.nodes")
    if asked.time > limits.time:
        message = f"{walltime_text(asked.time)} where the grant gives {walltime_text(limits.time)}"
        yield Broken(r.TimeOverLimitError, message, "resources.time")


def _outputs_granted(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    for name, output in spec.outputs.items():
        if facts.grant.outputs.rule(output.class_) is None:
            message = f"the grant lets no {output.class_} out"
            yield Broken(r.OutputClassNotGrantedError, message, f"outputs.{name}.class")


def _outputs_fit(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    real = uses_real_data(spec, facts)
    for name, output in spec.outputs.items():
        row, where = outputs.BY_NAME[output.class_], f"outputs.{name}.class"
        if real and "real" in row.refused_sensitivities:
            message = f"{name}, of class {row.name}, would be made of real data"
            yield Broken(r.OutputOfRealDataError, message, where)
        if facts.isolation in row.refused_isolation:
            message = f"{name}, of class {row.name}, is not made at `{facts.isolation}`"
            yield Broken(r.IsolationInsufficientError, message, where)


def _keep_allowed(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    for name, output in spec.outputs.items():
        rule = facts.grant.outputs.rule(output.class_)
        if output.keep != "project" and rule is not None and not rule.may_leave():
            yield Broken(r.KeepNotGrantedError, f"{name} may not leave the project", f"outputs.{name}.keep")


def _kept_granted(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    asked, most = sum(output.max_size for output in kept_by(spec).values()), facts.grant.limits.kept_size
    if asked and most is None:
        message = "the grant lets the project keep nothing"
        yield Broken(r.KeptOverLimitError, message, f"outputs.{next(iter(kept_by(spec)))}.keep")
    elif most is not None and asked > most:
        message = f"up to {size_text(asked)} where the project may keep {size_text(most)}"
        yield Broken(r.KeptOverLimitError, message, f"outputs.{next(iter(kept_by(spec)))}.max-size")


def _inputs_kept(spec: JobSpec, facts: GrantedFacts) -> Breaches:
    for name, use in spec.inputs.items():
        if not isinstance(use, KeptArtefact):
            continue
        where, what = f"inputs.{name}", f"{use.output} of job {use.job}"
        match facts.kept.get((use.job, use.output)):
            case None:
                yield Broken(r.InputUnknownError, f"{what} is nothing that this project keeps", where)
            case "unfinished":
                yield Broken(r.InputUnfinishedError, f"{what} is not there yet", where)
            case "destroyed":
                yield Broken(r.InputDestroyedError, f"{what} was destroyed", where)


RULES: tuple[tuple[str, str, Callable[[JobSpec, GrantedFacts], Breaches]], ...] = (
    ("addressed-here", "made for this broker", _addressed),
    ("spec-begun", "the spec is valid already", _begun),
    ("project-known", "the grant is for this project", _project_matches),
    ("project-in-time", "the project's time is now", _in_project_time),
    ("person-is-researcher", "the submitter is a researcher of the project", _is_researcher),
    ("no-conflict-of-interest", "who approves does not work in the project", _no_conflict),
    ("datasets-granted", "every dataset is granted", _datasets_granted),
    ("root-fits-data", "the trust root is fit for the project's data", _fit_for_real_data),
    ("selection-within-grant", "every selection is within the grant", _selections_granted),
    ("opt-outs-stated", "a custodian said of every dataset who opted out", _opt_outs_stated),
    ("only-what-is-built", "nothing that this version does not do yet", _only_built),
    ("workload-granted", "the workload may run in this project", _workload_granted),
    ("cluster-granted", "the cluster is in the grant", _cluster_granted),
    ("isolation-sufficient", "the nodes give the isolation that is needed", _isolation_enough),
    ("resources-within-limits", "nodes and time are within the grant", _resources_within),
    ("outputs-granted", "every class of output is granted", _outputs_granted),
    ("outputs-fit-data", "data and isolation rule out no class of output", _outputs_fit),
    ("keep-allowed", "what is kept or released may be", _keep_allowed),
    ("kept-granted", "the grant lets as much be kept", _kept_granted),
    ("inputs-kept", "every input is kept in this project", _inputs_kept),
)
