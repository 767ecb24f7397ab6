"""May this job run?  The rules that the broker shares with keyd (``policy/granted.py``), and those of its own.

``decide`` evaluates every rule, so that a researcher learns of all breaches at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hdrs_hpc.catalogue import isolation
from hdrs_hpc.catalogue.isolation import Isolation
from hdrs_hpc.core.capacity import Capacity
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.job_spec import JobSpec, KeptArtefact, Resources, kept_by
from hdrs_hpc.forms.words import memory_text, size_text, walltime_text
from hdrs_hpc.policy import charging, granted
from hdrs_hpc.policy import refusals as r
from hdrs_hpc.policy.facts import Facts
from hdrs_hpc.policy.granted import Breaches, GrantedFacts
from hdrs_hpc.policy.kept import KeptFact, best, kept_bytes
from hdrs_hpc.policy.rules import Broken, RuleResult, judge


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
    shared = granted_facts(spec, submitter, facts)
    for name, kept, rule in granted.RULES:
        results.extend(judge(name, kept, rule(spec, shared)))
    for name, kept, own in RULES:
        results.extend(judge(name, kept, own(spec, facts)))
    left_s = int((facts.grant.valid.run_until - facts.now).total_seconds())
    walltime_s = max(0, min(spec.resources.time, left_s))
    return Decision(tuple(results), isolation_offered(spec, facts), walltime_s)


def granted_facts(spec: JobSpec, submitter: str, facts: Facts) -> GrantedFacts:
    """What the broker knows of all that the shared rules look at."""
    bundle = spec.workload.bundle
    approver = facts.code_approvals.get(bundle.to_approve) if bundle else None
    registered = ((name, facts.registrations.get(name)) for name in facts.grant.data)
    return GrantedFacts(
        now=facts.now,
        grant=facts.grant,
        grant_people=facts.grant_people,
        trust_root=facts.trust_root,
        submitters=(submitter,),
        real={name for name, item in registered if item is not None and item.sensitivity == "real"},
        opt_outs=facts.opt_outs,
        approvers=() if approver is None else (approver,),
        cluster=choose_cluster(spec, facts.grant),
        isolation=isolation_offered(spec, facts) if facts.cluster.max_nodes else None,
        builtin_workloads=facts.builtin_workloads,
        kept={place: fact.state for place, fact in best(facts.kept).items()},
    )


def choose_cluster(spec: JobSpec, grant: Grant) -> str:
    """The cluster the spec names, or else the first that the grant does."""
    return spec.resources.cluster or grant.limits.clusters[0]


def isolation_offered(spec: JobSpec, facts: Facts) -> Isolation:
    return isolation.offered_to(spec.resources.nodes, facts.cluster.isolation)


def _root_current(spec: JobSpec, facts: Facts) -> Breaches:
    if spec.trust_root != facts.trust_root_digest:
        yield Broken(r.StaleTrustRootError, "the spec was signed under another trust root", "trust-root")


def _not_expired(spec: JobSpec, facts: Facts) -> Breaches:
    if facts.now >= spec.expires:
        yield Broken(r.SpecExpiredError, f"expired at {spec.expires:%Y-%m-%d %H:%M} UTC", "expires")


def _project_active(_spec: JobSpec, facts: Facts) -> Breaches:
    if facts.project_state not in ("APPROVED", "ACTIVE"):
        yield Broken(r.ProjectNotActiveError, f"the project is {facts.project_state}", "project")


def _enough_checkers(_spec: JobSpec, facts: Facts) -> Breaches:
    checkers = set(facts.trust_root.having("checker")) - facts.grant.everyone
    if len(checkers) < facts.grant.outputs.reviewers:
        message = f"{facts.grant.outputs.reviewers} are needed who do not work in the project"
        yield Broken(r.NotEnoughCheckersError, message, "outputs")


def _datasets_registered(spec: JobSpec, facts: Facts) -> Breaches:
    for name, use in spec.data.items():
        given, registered = facts.grant.data.get(use.dataset), facts.registrations.get(use.dataset)
        if given is not None and (registered is None or registered.version != given.version):
            message = f"the granted version of {use.dataset} is not the registered one"
            yield Broken(r.DatasetVersionError, message, f"data.{name}.dataset")


def _cluster_available(spec: JobSpec, facts: Facts) -> Breaches:
    asked, most = choose_cluster(spec, facts.grant), facts.cluster.max_nodes
    if asked not in facts.grant.limits.clusters:
        return  # named by the rule on granted clusters
    if asked != facts.cluster.name or not most:
        yield Broken(r.ClusterNotGrantedError, f"{asked} is not available here", "resources.cluster")
    elif most < spec.resources.nodes <= facts.grant.limits.nodes:
        message = f"{spec.resources.nodes} where {asked} has {most}"
        yield Broken(r.TooManyNodesError, message, "resources.nodes")


def _resources_there(spec: JobSpec, facts: Facts) -> Breaches:
    has, asked, name = facts.cluster.capacity, spec.resources, facts.cluster.name
    if has is None:
        return  # not known yet: the cluster itself refuses what it has not
    found = []
    if asked.gres and not any(kind.gives(asked.gres) for kind in has.kinds):
        there = ", ".join(has.gres)
        message = f"{asked.gres} where the nodes of {name} have {there or 'no GPU'}"
        most = " or ".join(f"{gres.rpartition(':')[2]}: {gres}" for gres in has.gres)
        remedy = f"Ask for at most {most}." if there else "Leave `gres` out: nothing would be there."
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
    there = has.nodes_where(lambda kind: charging.fits(asked, kind))
    if there < asked.nodes <= min(facts.grant.limits.nodes, facts.cluster.max_nodes):
        message = (
            f"{asked.nodes} where {facts.cluster.name} has {there} with such CPUs, memory and GPUs at once"
        )
        yield Broken(r.NodesNotThereError, message, "resources.nodes")


def _gpu_hours_left(spec: JobSpec, facts: Facts) -> Breaches:
    left = facts.grant.limits.gpu_hours - facts.gpu_hours_used
    needed = charging.gpu_hours(spec.resources, facts.cluster.capacity)
    if needed > left:
        message = f"{needed:.1f} needed, {max(left, 0):.1f} left"
        if charging.gpus(spec.resources, None) < charging.gpus(spec.resources, facts.cluster.capacity):
            message += f"; {facts.cluster.name} gives whole nodes and charges all of their GPUs"
        yield Broken(r.GpuHoursError, message, "resources.gres")


def _kept_left(spec: JobSpec, facts: Facts) -> Breaches:
    asked, most = sum(output.max_size for output in kept_by(spec).values()), facts.grant.limits.kept_size
    if not asked or most is None or asked > most:
        return  # named by the rule on what the grant lets be kept
    left = most - kept_bytes(facts.kept) - facts.kept_promised
    if asked > left:
        message = f"up to {size_text(asked)} where {size_text(max(left, 0))} of {size_text(most)} are left"
        yield Broken(r.KeptOverLimitError, message, f"outputs.{next(iter(kept_by(spec)))}.max-size")


def _taken_in(spec: JobSpec, facts: Facts) -> dict[str, KeptFact]:
    """Input → the kept output that it names."""
    there = best(facts.kept)
    found = {
        name: there.get((use.job, use.output))
        for name, use in spec.inputs.items()
        if isinstance(use, KeptArtefact)
    }
    return {name: fact for name, fact in found.items() if fact is not None and fact.state == "kept"}


def _inputs_here(spec: JobSpec, facts: Facts) -> Breaches:
    asked = choose_cluster(spec, facts.grant)
    for name, fact in _taken_in(spec, facts).items():
        if fact.cluster not in (None, asked):
            message = f"it lies on {fact.cluster}, and the job would run on {asked}"
            yield Broken(r.InputElsewhereError, message, f"inputs.{name}")


def _inputs_fit(spec: JobSpec, facts: Facts) -> Breaches:
    sizes = [fact.size for fact in _taken_in(spec, facts).values()]
    # While one is built anew, it is there twice.
    needed, there = sum(sizes) + max(sizes, default=0), spec.resources.mem * (1 << 20) // 2
    if needed > there:
        message = f"they need {size_text(needed)} where {size_text(there)} are for files"
        yield Broken(r.InputsOverMemoryError, message, "resources.mem")


RULES: tuple[tuple[str, str, Callable[[JobSpec, Facts], Breaches]], ...] = (
    ("root-in-force", "signed under the trust root in force", _root_current),
    ("spec-not-expired", "the spec is still valid", _not_expired),
    ("project-active", "the project is active", _project_active),
    ("enough-checkers", "enough checkers do not work in the project", _enough_checkers),
    ("datasets-registered", "every dataset is registered in its granted version", _datasets_registered),
    ("cluster-available", "the cluster is there and has the nodes", _cluster_available),
    ("resources-there", "the cluster's nodes have what is asked for, as far as it told", _resources_there),
    ("gpu-hours-left", "enough GPU-hours are left", _gpu_hours_left),
    ("kept-left", "what the project may keep is not used up", _kept_left),
    ("inputs-here", "every input lies on the job's cluster", _inputs_here),
    ("inputs-fit", "all inputs fit into the job's memory", _inputs_fit),
)
"""What keyd can't know, or what matters no more once a job is admitted."""
