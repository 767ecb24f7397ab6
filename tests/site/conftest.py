"""The throw-away cluster of deploy/slurm, for tests that need real Slurm and real SSH."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from throwaway_site import STATE

from connectors.clusters import ClusterSettings, open_cluster
from connectors.clusters.slurm import SlurmCluster


@pytest.fixture(scope="session")
def site() -> ClusterSettings:
    """Settings of the running cluster; skips loudly without one, fails in CI."""
    path = STATE / "site.toml"
    if not path.is_file() or not os.access(STATE / "broker_ssh_key", os.R_OK):
        message = f"no throw-away Slurm cluster in {STATE}: run `make slurm-up` as root"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return ClusterSettings.load(path)


@pytest.fixture
def cluster(site: ClusterSettings) -> Iterator[SlurmCluster]:
    """The first project's account, over SSH; its jobs are cancelled afterwards."""
    yield from _opened(site, 0)


@pytest.fixture
def stranger(site: ClusterSettings) -> Iterator[SlurmCluster]:
    """The second project's account."""
    yield from _opened(site, 1)


def _opened(site: ClusterSettings, number: int) -> Iterator[SlurmCluster]:
    cluster = open_cluster(site, list(site.projects)[number])
    assert isinstance(cluster, SlurmCluster)
    yield cluster
    cluster.close()
