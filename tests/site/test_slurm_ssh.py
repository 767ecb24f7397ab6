"""SSH to a site: the pinned key, what an outage looks like, and sealed objects over SFTP."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from throwaway_site import STATE

from connectors.clusters import Check, ClusterSettings, open_cluster
from connectors.clusters.contract import request
from connectors.clusters.port import ClusterUnreachableError, HostKeyMismatchError
from connectors.clusters.slurm import SlurmCluster
from hdrs_hpc.core.ids import new_secret_name
from hdrs_hpc.sealing.objects import ObjectStore
from hdrs_hpc.sealing.objects.contract import ObjectStoreContract
from tests.support.severed_line import SeveredLine

pytestmark = pytest.mark.root_parts


def changed(site: ClusterSettings, **ssh: object) -> SlurmCluster:
    assert site.ssh is not None
    there = site.model_copy(update={"ssh": site.ssh.model_copy(update=ssh)})
    cluster = open_cluster(there, next(iter(site.projects)))
    assert isinstance(cluster, SlurmCluster)
    return cluster


def absent_for_sure(cluster: SlurmCluster, name: str) -> bool:
    """Whether the cluster comes to say so; slurmdbd lags behind slurmctld by a moment, and the broker would wait."""
    until = time.monotonic() + 30
    while not (looked := cluster.find([name])).absence_proven and time.monotonic() < until:
        time.sleep(0.5)
    return looked.absence_proven


def failed(checks: list[Check]) -> list[str]:
    assert all(check.remedy for check in checks if not check.ok)
    return [check.name for check in checks if not check.ok]


def test_another_host_key_is_refused_before_anything_is_said(site: ClusterSettings) -> None:
    other = (STATE / "broker_ssh_key.pub").read_text().rsplit(" ", 1)[0]
    cluster = changed(site, host_key=other)
    with pytest.raises(HostKeyMismatchError):
        cluster.find([request(b"x").name])
    assert failed(cluster.doctor()) == ["reach"]


def test_an_unreachable_site_says_so_and_is_not_hammered(site: ClusterSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    cluster = changed(site, port=port)
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(ClusterUnreachableError) as caught:
            cluster.submit(request(b"exit 0\n"))
        assert type(caught.value) is ClusterUnreachableError, "nothing was sent, so nothing is uncertain"
        assert time.monotonic() - began < 5
    assert "next is due" in str(caught.value)


def test_a_connection_that_died_is_made_anew(site: ClusterSettings) -> None:
    assert site.ssh is not None
    line = SeveredLine(site.ssh.port)
    cluster = changed(site, port=line.port)
    name = request(b"x").name
    assert absent_for_sure(cluster, name)
    line.cut()
    with pytest.raises(ClusterUnreachableError):
        cluster.find([name])
    assert cluster.settings.ssh is not None
    second = SeveredLine(site.ssh.port)
    alive = changed(site, port=second.port)
    assert absent_for_sure(alive, name)
    second.drop_all()
    time.sleep(1.2)
    assert absent_for_sure(alive, name)
    alive.close()


def test_doctor_names_a_scratch_that_others_can_read(cluster: SlurmCluster) -> None:
    cluster.runner.run(("/usr/bin/chmod", "0755", cluster.scratch_path()), timeout_s=30)
    try:
        assert "scratch-mode" in failed(cluster.doctor())
    finally:
        cluster.runner.run(("/usr/bin/chmod", "0700", cluster.scratch_path()), timeout_s=30)


def test_doctor_names_missing_commands(site: ClusterSettings) -> None:
    assert site.slurm is not None
    there = site.model_copy(update={"slurm": site.slurm.model_copy(update={"bin": "/opt/none/bin"})})
    found = failed(open_cluster(there, next(iter(site.projects))).doctor())
    assert {"slurm-commands", "accounting", "submission"} <= set(found)


def test_one_account_cannot_read_the_others_scratch(cluster: SlurmCluster, stranger: SlurmCluster) -> None:
    folder = new_secret_name("private")
    cluster.objects("contract", folder).put("one", b"sealed")
    path = cluster.scratch_path("contract", folder, "one")
    done = stranger.runner.run(("/usr/bin/cat", path), timeout_s=30)
    assert done.returncode != 0
    assert done.stdout == b""
    cluster.remove_tree("contract", folder)


class TestObjectsOverSftp(ObjectStoreContract):
    """The sealed store's own contract, on the site's scratch."""

    @pytest.fixture
    def objects(self, cluster: SlurmCluster) -> Iterator[ObjectStore]:
        folder = new_secret_name("objects")
        yield cluster.objects("contract", folder)
        cluster.remove_tree("contract", folder)
