"""What a job is charged for, on clusters that share nodes and on those that give whole ones."""

from __future__ import annotations

import pytest

from hdrs_hpc.core.capacity import Capacity, NodeKind
from hdrs_hpc.documents.models.job_spec import Resources
from hdrs_hpc.policy import charging

WITH_FOUR = NodeKind(10, 64, 512_000, ("gpu:a100:4",))
WITH_EIGHT = NodeKind(2, 64, 512_000, ("gpu:h100:8", "nic:1"))
WITHOUT = NodeKind(50, 32, 128_000)


def asked(gres: str | None = None, cpus: int = 8, mem: str = "64G") -> Resources:
    value = {"nodes": 2, "cpus-per-task": cpus, "mem": mem, "time": "02:00:00"}
    return Resources.model_validate(value | ({"gres": gres} if gres else {}))


@pytest.mark.parametrize(
    ("kinds", "resources", "gpus"),
    [
        ((WITH_FOUR,), asked("gpu:1"), 8),
        ((WITH_FOUR,), asked(), 8),
        ((WITH_FOUR, WITH_EIGHT), asked("gpu:1"), 16),
        ((WITH_FOUR, WITH_EIGHT), asked("gpu:a100:1"), 8),
        ((WITHOUT,), asked(), 0),
        ((WITHOUT, WITH_FOUR), asked(cpus=48), 8),
        ((WITHOUT,), asked("gpu:2"), 4),  # refused by another rule
    ],
)
def test_whole_nodes_are_charged_whole(kinds: tuple[NodeKind, ...], resources: Resources, gpus: int) -> None:
    cluster = Capacity(kinds, whole_nodes=True)
    assert charging.gpus(resources, cluster) == gpus
    assert charging.gpu_hours(resources, cluster) == 2 * gpus


def test_shared_nodes_and_unknown_ones_are_charged_as_asked_for() -> None:
    assert charging.gpus(asked("gpu:1"), Capacity((WITH_FOUR,))) == 2
    assert charging.gpus(asked("gpu:1"), None) == 2
