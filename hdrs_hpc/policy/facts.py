"""The facts that a decision on a job rests on: gathered by the broker, or by ``spec check`` from its context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hdrs_hpc.catalogue.isolation import Isolation
from hdrs_hpc.catalogue.workloads.builtin import BUILT_IN
from hdrs_hpc.core.capacity import Capacity
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.trust_root import TrustRoot
from hdrs_hpc.policy.kept import KeptFact


@dataclass(frozen=True)
class ClusterFacts:
    """One cluster as its settings describe it, and as it told of its nodes."""

    name: str
    isolation: Isolation
    max_nodes: int = 1
    """The most that one job gets; 0: the broker has no such cluster."""
    capacity: Capacity | None = None
    """What its nodes have; None while that is not known, and then nothing is refused for it."""


@dataclass(frozen=True)
class Facts:
    """Everything outside the spec that a rule may look at.  No rule asks a clock, a file or a network."""

    now: datetime
    grant: Grant
    grant_people: tuple[str, ...]
    """Who signed the grant."""
    registrations: Mapping[str, DatasetRegistration]
    cluster: ClusterFacts
    trust_root: TrustRoot
    trust_root_digest: str
    project_state: str = "ACTIVE"
    gpu_hours_used: float = 0.0
    """Used and promised, by jobs accepted earlier."""
    code_approvals: Mapping[str, str] = field(default_factory=dict)
    """What a code approval covers (``CodeApproval.covers``) → id of the person who approved it for this project."""
    opt_outs: frozenset[str] = frozenset()
    """Datasets of which a custodian said who opted out."""
    builtin_workloads: frozenset[str] = frozenset(BUILT_IN)
    kept: tuple[KeptFact, ...] = ()
    """What jobs of the project kept, were to keep, or are to keep."""
    kept_promised: int = 0
    """Bytes that jobs accepted earlier may still add."""

    @property
    def demo_root(self) -> bool:
        return self.trust_root.demo


def project_stands(state: str, *, frozen: bool) -> str:
    """The state, or FROZEN where nothing but a freeze stops a project: one that is closed can't be thawed."""
    return "FROZEN" if frozen and state in ("APPROVED", "ACTIVE") else state
