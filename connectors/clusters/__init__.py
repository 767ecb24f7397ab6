"""Where jobs run: the ``Cluster`` port, its settings, and the table of implementations."""

from __future__ import annotations

from collections.abc import Callable

from connectors.clusters.endings import SiteEnd, site_end
from connectors.clusters.port import (
    MAX_STDIN_BYTES,
    Check,
    Cluster,
    ClusterJob,
    ClusterUnreachableError,
    HostKeyMismatchError,
    JobPhase,
    JobRequest,
    Lookup,
    NoSuchJobError,
    SiteCommandError,
    StepFailedError,
    StepRefusedError,
    SubmissionRefusedError,
    SubmissionUncertainError,
    UnsafePathError,
)
from connectors.clusters.settings import ClusterSettings
from connectors.clusters.waiting import why_waits

__all__ = [
    "MAX_STDIN_BYTES",
    "Check",
    "Cluster",
    "ClusterJob",
    "ClusterSettings",
    "ClusterUnreachableError",
    "HostKeyMismatchError",
    "JobPhase",
    "JobRequest",
    "Lookup",
    "NoSuchJobError",
    "SiteCommandError",
    "SiteEnd",
    "StepFailedError",
    "StepRefusedError",
    "SubmissionRefusedError",
    "SubmissionUncertainError",
    "UnsafePathError",
    "open_cluster",
    "site_end",
    "why_waits",
]


def open_cluster(settings: ClusterSettings, project: str) -> Cluster:
    """The cluster as that project's account; connects only when first used.

    Raises ProjectNotOnClusterError when the settings give the project no account there.
    """
    return CLUSTER_TYPES[settings.type](settings, project)


def _local(settings: ClusterSettings, project: str) -> Cluster:
    from connectors.clusters.local import LocalCluster

    return LocalCluster(settings, project)


def _slurm(settings: ClusterSettings, project: str) -> Cluster:
    from connectors.clusters.slurm import SlurmCluster

    return SlurmCluster(settings, project)


CLUSTER_TYPES: dict[str, Callable[[ClusterSettings, str], Cluster]] = {"local": _local, "slurm": _slurm}
