"""The local cluster keeps the contract of the port; the Slurm one is held to it in tests/site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.clusters import Cluster, ClusterSettings, open_cluster
from connectors.clusters.contract import ClusterContract


@pytest.fixture
def settings(tmp_path: Path) -> ClusterSettings:
    text = f"""
        name = "here"
        type = "local"
        isolation = "cooperative"
        [local]
        root = "{tmp_path}/site"
        """
    return ClusterSettings.from_toml(text.encode())


class TestLocalCluster(ClusterContract):
    @pytest.fixture
    def cluster(self, settings: ClusterSettings) -> Iterator[Cluster]:
        cluster = open_cluster(settings, "lung-demo")
        yield cluster
        cluster.close()

    @pytest.fixture
    def stranger(self, settings: ClusterSettings) -> Cluster:
        return open_cluster(settings, "heart-demo")
