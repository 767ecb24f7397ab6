"""May this job run?  The rules, each a small function over the signed spec and the facts.

``decide`` evaluates every rule, so that a researcher learns of all breaches at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hdrs_hpc.catalogue import isolation, outputs
from hdrs_hpc.catalogue.isolation import Isolation
from hdrs_hpc.core.capacity import Capacity
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpec, Resources
from hdrs_hpc.documents.owners import OnePersonDecidesError
from hdrs_hpc.forms.words import memory_text, size_text, walltime_text
from hdrs_hpc.policy import not_built, selection
from hdrs_hpc.policy import refusals as r
from hdrs_hpc.policy.facts import Facts
from hdrs_hpc.policy.rules import Broken, RuleResult, judge

Breaches = Iterator[Broken]


@dataclass(frozen=True)
class Decision:
    """The verdict with every rule's answer, and what follows from it for the run."""

    rules: tuple[RuleResult, ...]
    isolation: Isolation
    """The level at which the job will run."""
    walltime_s: int
    """Clamped to the project's run-until."""

    @property
    def allowed(self) -> bool:
        return all(rule.ok for rule in self.rules)

    @property
    def broken(self) -> tuple[RuleResult, ...]:
        return tuple(rule for rule in self.rules if not rule.ok)

    def as_dict(self) -> dict[str, Any]:
        return {
            "allowed": self.allowed,
            "isolation": self.isolation,
            "walltime-s": self.walltime_s,
            "rules": [rule.as_dict() for rule in self.rules],
        }


def decide(spec: JobSpec, submitter: str, facts: Facts) -> Decision:
    """Evaluate every rule; pure, never raises for a bad request."""
    results: list[RuleResult] = []
    for name, kept, rule in RULES:
        results.extend(judge(name, kept, rule(spec, submitter, facts)))
    left_s = int((facts.grant.valid.run_until - facts.now).total_seconds())
    walltime_s = max(0, min(spec.resources.time, left_s))
    return Decision(tuple(results), isolation_offered(spec, facts), walltime_s)


def choose_cluster(spec: JobSpec, grant: Grant) -> str:
    """The cluster the spec names, or else the first that the grant does."""
    return spec.resources.cluster or grant.limits.clusters[0]


def isolation_offered(spec: JobSpec, facts: Facts) -> Isolation:
    return isolation.offered_to(spec.resources.nodes, facts.cluster.isolation)


def isolation_needed(spec: JobSpec, facts: Facts) -> Isolation:
    """The strictest of what the grant, the data's sensitivity and the project's own code ask for."""
    unread = spec.workload.bundle is not None and facts.grant.workloads.own_code == "project"
    return isolation.strictest(
        facts.grant.limits.isolation,
        isolation.LEAST_FOR_UNREAD_CODE if unread else isolation.WEAKEST,
        isolation.LEAST_FOR_REAL_DATA if _uses_real_data(spec, facts) else isolation.WEAKEST,
    )


def _who_asks(spec: JobSpec, facts: Facts, needed: Isolation) -> str:
    if facts.grant.limits.isolation == needed:
        return "the grant asks"
    return "real data ask" if _uses_real_data(spec, facts) else "code that nobody reviewed asks"


def _uses_real_data(spec: JobSpec, facts: Facts) -> bool:
    found = (facts.registrations.get(use.dataset) for use in spec.data.values())
    return any(item is not None and item.sensitivity == "real" for item in found)


def _addressed(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    if spec.audience != facts.trust_root.audience:
        yield Broken(r.WrongAudienceError, f"the spec is for {spec.audience}", "audience")
    if spec.trust_root != facts.trust_root_digest:
        yield Broken(r.StaleTrustRootError, "the spec was signed under another trust root", "trust-root")


def _in_its_time(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    if facts.now < spec.not_before:
        yield Broken(r.SpecNotYetValidError, f"valid from {spec.not_before:%Y-%m-%d %H:%M} UTC", "not-before")
    if facts.now >= spec.expires:
        yield Broken(r.SpecExpiredError, f"expired at {spec.expires:%Y-%m-%d %H:%M} UTC", "expires")


def _project_matches(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    if spec.project != facts.grant.project:
        yield Broken(r.ProjectUnknownError, f"there is no grant for {spec.project} here", "project")


def _project_active(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    if facts.project_state not in ("APPROVED", "ACTIVE"):
        yield Broken(r.ProjectNotActiveError, f"the project is {facts.project_state}", "project")
    if facts.now < facts.grant.valid.from_:
        yield Broken(r.ProjectNotStartedError, f"it starts on {facts.grant.valid.from_:%Y-%m-%d}", "project")
    if facts.now >= facts.grant.valid.run_until:
        message = f"it could run jobs until {facts.grant.valid.run_until:%Y-%m-%d %H:%M} UTC"
        yield Broken(r.ProjectEndedError, message, "project")


def _is_researcher(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    if submitter not in facts.grant.people.researchers:
        yield Broken(r.NotAResearcherError, f"{submitter} is not a researcher of {facts.grant.project}")


def _no_conflict(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    for person in sorted(set(facts.grant_people) & facts.grant.everyone):
        yield Broken(r.ConflictOfInterestError, f"{person} signed the grant and works in the project")
    bundle = spec.workload.bundle
    approver = facts.code_approvals.get(bundle.digest) if bundle else None
    if approver is not None and approver in facts.grant.everyone:
        yield Broken(
            r.ConflictOfInterestError,
            f"{approver} approved the code and works in the project",
            "workload.bundle",
        )
    checkers = set(facts.trust_root.having("checker")) - facts.grant.everyone
    if len(checkers) < facts.grant.outputs.reviewers:
        message = f"{facts.grant.outputs.reviewers} are needed who do not work in the project"
        yield Broken(r.NotEnoughCheckersError, message, "outputs")


def _datasets_granted(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    for name, use in spec.data.items():
        where = f"data.{name}.dataset"
        granted = facts.grant.data.get(use.dataset)
        if granted is None:
            yield Broken(r.DatasetNotGrantedError, f"{use.dataset} is not in the grant", where)
            continue
        registered = facts.registrations.get(use.dataset)
        if registered is None or registered.version != granted.version:
            message = f"the granted version of {use.dataset} is not the registered one"
            yield Broken(r.DatasetVersionError, message, where)
        elif registered.sensitivity == "real":
            if facts.demo_root:
                yield Broken(r.RealDataUnderDemoError, f"{use.dataset} holds real data", where)
            for threshold in facts.trust_root.one_person_decides:
                yield Broken(OnePersonDecidesError, f"the threshold {threshold} is one", where)


def _selections_granted(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
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


def _opt_outs_stated(spec: JobSpec, _submitter: str, facts: Facts) -> Breaches:
    for name, use in spec.data.items():
        if use.dataset in facts.grant.data and use.dataset not in facts.opt_outs:
            yield Broken(
                r.OptOutNotStatedError, f"nobody said who opted out of {use.dataset}", f"data.{name}.dataset"
            )


def _only_built(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    yield from not_built.in_spec(spec)


def _workload_granted(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    workload, granted = spec.workload, facts.grant.workloads
    if workload.builtin is not None:
        if workload.builtin not in facts.builtin_workloads:
            yield Broken(r.WorkloadUnknownError, f"there is no {workload.builtin}", "workload.builtin")
        elif workload.builtin not in granted.builtin:
            message = f"{workload.builtin} is not in the grant"
            yield Broken(r.WorkloadNotGrantedError, message, "workload.builtin")
    if workload.bundle is not None:
        if granted.own_code == "none":
            yield Broken(r.OwnCodeError, "the grant allows built-in workloads only", "workload.bundle")
        elif granted.own_code == "reviewed" and workload.bundle.digest not in facts.code_approvals:
            message = f"no approval names {workload.bundle.digest}"
            yield Broken(r.CodeNotApprovedError, message, "workload.bundle")
        most = facts.grant.limits.bundle_size
        if most is not None and workload.bundle.size > most:
            message = f"{size_text(workload.bundle.size)} where the grant allows {size_text(most)}"
            yield Broken(r.BundleOverLimitError, message, "workload.bundle")


def _cluster_granted(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    asked = choose_cluster(spec, facts.grant)
    if asked not in facts.grant.limits.clusters:
        yield Broken(r.ClusterNotGrantedError, f"{asked} is not in the grant", "resources.cluster")
    elif asked != facts.cluster.name or not facts.cluster.max_nodes:
        yield Broken(r.ClusterNotGrantedError, f"{asked} is not available here", "resources.cluster")


def _isolation_enough(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    if not facts.cluster.max_nodes:
        return  # named by the rule on clusters
    needed, offered = isolation_needed(spec, facts), isolation_offered(spec, facts)
    if not isolation.at_least(offered, needed):
        nodes = spec.resources.nodes
        on = f"{nodes} nodes" if nodes > 1 else "1 node"
        message = (
            f"a job on {on} runs at `{offered}` on {facts.cluster.name}; "
            f"{_who_asks(spec, facts, needed)} for `{needed}`"
        )
        yield Broken(r.IsolationInsufficientError, message, "resources.nodes")


def _resources_within(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    asked, limits = spec.resources, facts.grant.limits
    if asked.nodes > limits.nodes:
        yield Broken(
            r.TooManyNodesError, f"{asked.nodes} where the grant gives {limits.nodes}", "resources.nodes"
        )
    elif asked.nodes > facts.cluster.max_nodes > 0:
        message = f"{asked.nodes} where {facts.cluster.name} has {facts.cluster.max_nodes}"
        yield Broken(r.TooManyNodesError, message, "resources.nodes")
    if asked.time > limits.time:
        message = f"{walltime_text(asked.time)} where the grant gives {walltime_text(limits.time)}"
        yield Broken(r.TimeOverLimitError, message, "resources.time")


def _resources_there(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    has, asked, name = facts.cluster.capacity, spec.resources, facts.cluster.name
    if has is None:
        return  # not known yet: the cluster itself refuses what it has not
    found = []
    if asked.gres and not any(kind.gives(asked.gres) for kind in has.kinds):
        there = ", ".join(has.gres)
        message = f"{asked.gres} where the nodes of {name} have {there or 'no GPU'}"
        remedy = f"Ask for at most one of {there}." if there else "Leave `gres` out: nothing would be there."
        found.append(Broken(r.GpusNotThereError, message, "resources.gres", remedy))
    if asked.cpus_per_task > has.most_cpus:
        message = f"{asked.cpus_per_task} where a node of {name} has at most {has.most_cpus}"
        remedy = f"Ask for at most {has.most_cpus} CPUs."
        found.append(Broken(r.CpusNotThereError, message, "resources.cpus-per-task", remedy))
    if asked.mem > has.most_mem_mb:
        most = memory_text(has.most_mem_mb)
        message = f"{memory_text(asked.mem)} where a node of {name} has at most {most}"
        found.append(Broken(r.MemoryNotThereError, message, "resources.mem", f"Ask for at most {most}."))
    yield from found
    if not found:
        yield from _nodes_there(asked, has, facts)
    if has.max_time_s is not None and has.max_time_s < asked.time <= facts.grant.limits.time:
        most = walltime_text(has.max_time_s)
        message = f"{walltime_text(asked.time)} where {name} lets a workload run {most}"
        yield Broken(r.TimeOverClusterError, message, "resources.time", f"Ask for at most {most}.")


def _nodes_there(asked: Resources, has: Capacity, facts: Facts) -> Breaches:
    """Nodes that have all at once; more than grant or settings give are another rule's."""
    there = has.nodes_where(
        lambda kind: (
            kind.cpus >= asked.cpus_per_task
            and kind.mem_mb >= asked.mem
            and (asked.gres is None or kind.gives(asked.gres))
        )
    )
    if there < asked.nodes <= min(facts.grant.limits.nodes, facts.cluster.max_nodes):
        message = (
            f"{asked.nodes} where {facts.cluster.name} has {there} with such CPUs, memory and GPUs at once"
        )
        yield Broken(r.NodesNotThereError, message, "resources.nodes")


def _gpu_hours_left(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    left = facts.grant.limits.gpu_hours - facts.gpu_hours_used
    if spec.resources.gpu_hours > left:
        message = f"{spec.resources.gpu_hours:.1f} asked for, {max(left, 0):.1f} left"
        yield Broken(r.GpuHoursError, message, "resources.gres")


def _outputs_granted(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    for name, output in spec.outputs.items():
        if facts.grant.outputs.rule(output.class_) is None:
            message = f"the grant lets no {output.class_} out"
            yield Broken(r.OutputClassNotGrantedError, message, f"outputs.{name}.class")


def _outputs_fit(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    real, level = _uses_real_data(spec, facts), isolation_offered(spec, facts)
    for name, output in spec.outputs.items():
        row, where = outputs.BY_NAME[output.class_], f"outputs.{name}.class"
        if real and "real" in row.refused_sensitivities:
            yield Broken(
                r.OutputOfRealDataError, f"{name}, of class {row.name}, would be made of real data", where
            )
        if level in row.refused_isolation and facts.cluster.max_nodes:
            message = f"{name}, of class {row.name}, is not made at `{level}`"
            yield Broken(r.IsolationInsufficientError, message, where)


def _keep_allowed(spec: JobSpec, submitter: str, facts: Facts) -> Breaches:
    for name, output in spec.outputs.items():
        rule = facts.grant.outputs.rule(output.class_)
        if output.keep != "project" and rule is not None and not rule.may_leave():
            yield Broken(r.KeepNotGrantedError, f"{name} may not leave the project", f"outputs.{name}.keep")


Rule = Callable[[JobSpec, str, Facts], Breaches]
RULES: tuple[tuple[str, str, Rule], ...] = (
    ("addressed-here", "made for this broker and its trust root", _addressed),
    ("spec-in-time", "the spec is valid now", _in_its_time),
    ("project-known", "the grant is for this project", _project_matches),
    ("project-active", "the project is active and in its time", _project_active),
    ("person-is-researcher", "the submitter is a researcher of the project", _is_researcher),
    ("no-conflict-of-interest", "who approves does not work in the project", _no_conflict),
    ("datasets-granted", "every dataset is granted in its registered version", _datasets_granted),
    ("selection-within-grant", "every selection is within the grant", _selections_granted),
    ("opt-outs-stated", "a custodian said of every dataset who opted out", _opt_outs_stated),
    ("only-what-is-built", "nothing that this version does not do yet", _only_built),
    ("workload-granted", "the workload may run in this project", _workload_granted),
    ("cluster-granted", "the cluster is in the grant", _cluster_granted),
    ("isolation-sufficient", "the nodes give the isolation that is needed", _isolation_enough),
    ("resources-within-limits", "nodes and time are within the grant", _resources_within),
    ("resources-there", "the cluster's nodes have what is asked for, as far as it told", _resources_there),
    ("gpu-hours-left", "enough GPU-hours are left", _gpu_hours_left),
    ("outputs-granted", "every class of output is granted", _outputs_granted),
    ("outputs-fit-data", "data and isolation rule out no class of output", _outputs_fit),
    ("keep-allowed", "what is kept or released may be", _keep_allowed),
)
