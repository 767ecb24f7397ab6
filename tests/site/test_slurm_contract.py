"""Real Slurm over real SSH keeps the contract of the port."""

from __future__ import annotations

import pytest

from connectors.clusters.contract import ClusterContract


@pytest.mark.root_parts
class TestSlurmCluster(ClusterContract):
    """``cluster`` and ``stranger`` come from conftest."""
