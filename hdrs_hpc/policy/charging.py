"""What a job is charged for: on clusters that give whole nodes, all GPUs of a node, however few the spec asks for."""

from __future__ import annotations

from hdrs_hpc.core.capacity import Capacity, NodeKind
from hdrs_hpc.documents.models.job_spec import Resources


def fits(asked: Resources, kind: NodeKind) -> bool:
    """Whether a node of this kind has all at once that a spec asks of one."""
    return (
        kind.cpus >= asked.cpus_per_task
        and kind.mem_mb >= asked.mem
        and (asked.gres is None or kind.gives(asked.gres))
    )


def gpus(asked: Resources, cluster: Capacity | None) -> int:
    """Of all nodes together; what is asked for where the cluster has not told what it has."""
    each = asked.gpus_per_node
    if cluster is not None:
        each = cluster.gpus_charged(each, lambda kind: fits(asked, kind))
    return each * asked.nodes


def gpu_hours(asked: Resources, cluster: Capacity | None) -> float:
    """If it runs for all the time that it asks for."""
    return gpus(asked, cluster) * asked.time / 3600
