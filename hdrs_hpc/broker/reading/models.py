"""The typed views: what people are shown of a broker; the API's OpenAPI document is made of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class View(BaseModel):
    """Kebab-case in JSON, like every document of this project."""

    model_config = ConfigDict(
        extra="forbid", alias_generator=lambda name: name.rstrip("_").replace("_", "-"), validate_by_name=True
    )


class Broker(View):
    audience: str
    version: str
    trust_root: str | None = Field(description="Digest of the trust root in force.")
    trust_root_version: int | None
    demo: bool | None


class Dataset(View):
    name: str
    version: str
    kind: str
    sensitivity: str
    items: int
    owner: str = Field(description="The organisation whose data they are.")
    registration: str
    source: str | None = Field(default=None, description="Only custodians see where it lies.")


class OptOutCopy(View):
    copy_: str
    project: str
    cluster: str
    state: str
    current: bool = Field(description="Made under the opt-out list in force; another one is given to nobody.")


class OptOutJob(View):
    job: str
    project: str
    name: str
    state: str


class OptOuts(View):
    """What is in force about who opted out of a dataset: no patient can be read from it."""

    dataset: str
    version: int = Field(description="Number of the statement in force; 0: nobody said anything.")
    document: str | None
    list_: str | None = Field(description="Keyed digest of the list.")
    about: int | None = Field(description="Its length, rounded up to a power of ten.")
    action: str | None
    accepted_at: str | None
    grace_s: float = Field(description="How long an attempt that has its keys may run on after a change.")
    copies: list[OptOutCopy]
    jobs: list[OptOutJob]


class GrantedData(View):
    version: str
    kind: str | None
    sensitivity: str | None
    owner: str | None
    items: int | None
    select: dict[str, Any]
    profile: str
    max_failed: int
    opt_outs_stated: bool = Field(
        description="Whether a custodian said who opted out; else no job may use it."
    )


class NodeKind(View):
    """Nodes of a cluster that are alike."""

    nodes: int
    cpus: int
    mem_mb: int
    gres: list[str] = Field(description="In Slurm's words, such as gpu:a100:4.")


class Capacity(View):
    """What a cluster has for one job, in the partition that the broker's jobs go to."""

    kinds: list[NodeKind]
    max_nodes: int | None = Field(description="Of one job; null: no limit but the nodes.")
    max_time_s: int | None = Field(description="For a workload; null: no limit.")
    whole_nodes: bool = Field(description="A job gets whole nodes, and is charged for all of their GPUs.")


class ClusterOffer(View):
    """What a cluster of the grant gives a job, by the broker's settings for it and by what it told."""

    isolation: str
    nodes: int = Field(description="The most that one job gets.")
    drained: bool = Field(description="An admin has stopped new work for it.")
    capacity: Capacity | None = Field(description="Null: not known yet.")
    capacity_told_at: str | None


class Kept(View):
    """An output that stays in the project, sealed, for its later jobs; or one that a job is to keep."""

    job: str
    output: str
    class_: str = Field(alias="class")
    state: Literal["unfinished", "kept", "destroyed"] = Field(
        description="Only what is kept may be named by a job; a destroyed one's job did not end well."
    )
    size: int | None = Field(description="Bytes.")
    kept_at: str | None
    cluster: str


class Project(View):
    name: str
    title: str
    state: str
    frozen: bool
    freezes: list[str] = Field(description="Digests of the closures that froze it and were not lifted.")
    grant: str
    grant_version: int
    starts: str
    run_until: str
    destroy_by: str
    days_left: int = Field(description="In which jobs may run; none of a project that closes or is closed.")
    gpu_hours: int
    gpu_hours_used: float
    kept: list[Kept]
    kept_bytes: int = Field(description="Of the grant's limits.kept-size.")
    kept_promised: int = Field(description="What jobs that are under way may still add.")
    jobs: int
    lead: str
    researchers: list[str]
    data: dict[str, GrantedData]
    workloads: dict[str, Any]
    limits: dict[str, Any]
    clusters: dict[str, ClusterOffer] = Field(description="Those of the grant that this broker has.")
    outputs: dict[str, Any]
    closing: str | None
    copy_keys_destroyed_at: str | None
    certificate: str | None


class StagingReason(View):
    """Why items stayed out of a copy, and how many: neither their names nor their numbers."""

    code: str
    meaning: str
    count: int
    failed: bool = Field(description="Whether they count against the grant's max-failed.")


class StagingReport(View):
    """What became of a dataset when a copy of it was made for a project."""

    copy_: str = Field(alias="copy")
    project: str
    dataset: str
    version: str
    cluster: str
    state: str
    reason: str | None = Field(description="Why there is no copy, where making it failed.")
    made_for: dict[str, str] = Field(
        description="Project, dataset, grant version, date; empty until it is made."
    )
    profile: str | None
    items_in: int | None
    items_staged: int | None
    staged: dict[str, int] = Field(description="Volumes, slides, tables.")
    patients: int | None
    reasons: list[StagingReason]


class DoomedCopy(View):
    copy_: str = Field(alias="copy")
    dataset: str
    version: str
    cluster: str
    state: str
    objects: int | None
    sealed_bytes: int | None


class DoomedKept(View):
    """An output that stayed in the project for later jobs."""

    job: str
    output: str
    class_: str = Field(alias="class")
    size: int | None


class DoomedJob(View):
    job: str
    name: str
    state: str


class ClosingPlan(View):
    """What closing the project now would destroy, and what it would leave."""

    project: str
    state: str
    copies: list[DoomedCopy]
    kept: list[DoomedKept]
    jobs: list[DoomedJob]
    artefacts_in_review: int
    released_artefacts: int
    review_grace_s: int
    destroy_by: str


class Alert(View):
    about: str
    code: str
    message: str
    since: str


class Attempt(View):
    number: int
    cluster_job: str | None
    state: str | None
    started_at: str | None
    ended_at: str | None
    exit_code: int | None
    progress: dict[str, Any] | None


class StagingProgress(View):
    """What the stagers counted so far: items of the inventory read, then volumes and slides written."""

    items_done: int
    items_total: int
    bytes_done: int
    bytes_total: int


class ArtefactState(View):
    """One declared output.  Before its release a researcher learns its state, and of its content nothing."""

    name: str
    class_: str
    state: str = Field(
        description="in-review, approved, released, withheld, refused (by the check) or destroyed"
    )
    code: str | None
    media_type: str | None = None
    size: int | None = None
    content: str | None = None


class JobLine(View):
    id: str
    project: str
    name: str
    submitter: str
    state: str
    outcome: str | None
    reason: str | None
    tes_state: str
    received_at: str
    changed_at: str
    waits_for: str | None


class Job(JobLine):
    purpose: str
    time: int = Field(description="`resources.time` in seconds: how long the workload may run.")
    now: str = Field(description="The broker's clock at this answer.")
    spec: str
    cluster: str | None
    cancel_requested: bool
    decision: dict[str, Any] | None
    detail: dict[str, Any] | None = Field(
        description="Why it ended so; of a crash its type and the bundle's line."
    )
    alerts: list[Alert]
    attempts: list[Attempt]
    copies: dict[str, str] = Field(description="Input → state of its staged copy.")
    staging: StagingProgress | None = Field(description="While the job is STAGING.")
    reviews_done: int
    reviews_needed: int
    artefacts: list[ArtefactState]


class ReviewLine(View):
    job: str
    project: str
    name: str
    purpose: str
    since: str
    artefacts: int
    decided_by_you: bool
    reviews_done: int
    reviews_needed: int


class ReviewArtefact(View):
    name: str
    class_: str
    media_type: str | None
    size: int | None
    rebuilt: str | None
    report: dict[str, Any]
    report_digest: str
    refused: str | None


class OpenDecision(View):
    """One checker's verdict on one artefact; shown once every checker has decided."""

    person: str
    artefact: str
    verdict: str
    reason: str


class Review(ReviewLine):
    title: str
    outputs: list[ReviewArtefact]
    decisions: list[OpenDecision]


class Inclusion(View):
    """RFC 6962 audit path; hashes in hexadecimal, from the leaf towards the root."""

    entry: int
    size: int
    leaf: str
    proof: list[str]


class Consistency(View):
    old: int
    new: int
    proof: list[str]


class Keyd(View):
    root: str | None
    version: int | None
    log_size: int
    log_root: str
    keystore_class: str
    keystore_statement: str
    giving: bool


class Status(View):
    audience: str
    version: str
    keyd: Keyd | None = Field(description="What keyd says of itself; null if it said nothing.")
    jobs: dict[str, int]
    projects: dict[str, int]
    alerts: list[Alert]
    log_size: int
