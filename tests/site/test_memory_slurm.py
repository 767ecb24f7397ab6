"""``cluster doctor`` tries on a node of real Slurm whether its memory has a wall."""

from __future__ import annotations

import pytest

from connectors.clusters.slurm import SlurmCluster

pytestmark = [pytest.mark.root_parts, pytest.mark.slow, pytest.mark.timeout(400)]


def test_doctor_tries_the_wall_on_a_node(cluster: SlurmCluster) -> None:
    (found,) = [check for check in cluster.doctor() if check.name == "memory"]
    assert (found.ok, found.message) == (True, "the kernel ended a step that took more than its --mem")
