"""Whether a node has what is asked for, in Slurm's words."""

from __future__ import annotations

import pytest

from hdrs_hpc.core.capacity import Capacity, NodeKind


@pytest.mark.parametrize(
    ("has", "asked", "gives"),
    [
        (("gpu:4",), "gpu:4", True),
        (("gpu:4",), "gpu:5", False),
        ((), "gpu:1", False),
        (("gpu:a100:4",), "gpu:4", True),
        (("gpu:a100:4",), "gpu:A100:4", True),
        (("gpu:a100:4",), "gpu:h100:1", False),
        (("gpu:a100:2", "gpu:h100:2"), "gpu:4", True),
        (("gpu:a100:2", "gpu:h100:2"), "gpu:h100:3", False),
        (("gpu:4",), "gpu:a100:1", True),  # of what type they are is not told
        (("nic:4",), "gpu:1", False),
    ],
)
def test_a_node_gives_what_it_has_and_no_more(has: tuple[str, ...], asked: str, gives: bool) -> None:
    assert NodeKind(1, 8, 1024, has).gives(asked) is gives


def test_what_a_cluster_told_survives_being_written_down() -> None:
    told = Capacity((NodeKind(2, 64, 262_144, ("gpu:a100:4",)), NodeKind(8, 128, 524_288)), 4, 86_400)
    assert Capacity.from_value(told.as_dict()) == told
    assert (told.most_cpus, told.most_mem_mb, told.gres) == (128, 524_288, ("gpu:a100:4",))


def test_one_job_has_no_more_nodes_than_its_partition_allows() -> None:
    told = Capacity((NodeKind(2, 64, 1024), NodeKind(8, 128, 1024)), 4)
    assert told.nodes_where(lambda kind: kind.cpus >= 64) == 4
    assert told.nodes_where(lambda kind: kind.cpus < 128) == 2
