"""A site's settings: complete ones are read, faulty ones are named whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hdrs_hpc
from connectors.clusters import open_cluster
from connectors.clusters.settings import ClusterSettings, ClusterSettingsError, ProjectNotOnClusterError
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from hdrs_hpc.sealing.objects.sftp import SftpStore

LOCAL = """
name = "here"
type = "local"
isolation = "cooperative"
[local]
root = "/srv/hdrs"
"""
SLURM = """
name = "isambard-ai"
type = "slurm"
isolation = "sandboxed"
max-nodes = 8
[ssh]
host = "login.example.ac.uk"
host-key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBwGV3ZviUEBn"
identity = "/etc/hdrs-hpc/key"
[slurm]
partition = "gpu"
[projects.lung-fm]
user = "hdrs-p1"
account = "lung"
scratch = "/scratch/hdrs-p1"
"""


def test_a_slurm_site_is_read_with_its_defaults() -> None:
    site = ClusterSettings.from_toml(SLURM.encode())
    assert site.ssh is not None
    assert site.slurm is not None
    assert (site.ssh.port, site.slurm.bin, site.node_tmp, site.max_nodes) == (22, "/usr/bin", "/tmp", 8)
    assert site.account_of("lung-fm").user == "hdrs-p1"


def test_a_project_without_an_account_is_told_so() -> None:
    with pytest.raises(ProjectNotOnClusterError):
        ClusterSettings.from_toml(SLURM.encode()).account_of("heart-fm")


def test_a_local_cluster_takes_every_project() -> None:
    assert ClusterSettings.from_toml(LOCAL.encode()).account_of("any").scratch is None


def test_two_projects_in_one_account_are_refused() -> None:
    other = '[projects.heart-fm]\nuser = "hdrs-p1"\nscratch = "/scratch/other"\n'
    with pytest.raises(ClusterSettingsError, match="share one user"):
        ClusterSettings.from_toml((SLURM + other).encode())


def test_two_projects_in_one_scratch_are_refused() -> None:
    other = '[projects.heart-fm]\nuser = "hdrs-p2"\nscratch = "/scratch/hdrs-p1"\n'
    with pytest.raises(ClusterSettingsError, match="share one scratch"):
        ClusterSettings.from_toml((SLURM + other).encode())


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('type = "slurm"', 'type = "pbs"', "type"),
        ('isolation = "sandboxed"', 'isolation = "none"', "isolation"),
        ("max-nodes = 8", 'max-nodes = "8"', "max-nodes"),
        ("max-nodes = 8", "max-notes = 8", "max-notes"),
        ('host-key = "ssh-ed25519', 'host-key = "ssh-dss', "host-key"),
        ('scratch = "/scratch/hdrs-p1"', 'scratch = "/scratch/$(id)"', "scratch"),
        ('scratch = "/scratch/hdrs-p1"', 'scratch = "relative"', "scratch"),
        ('user = "hdrs-p1"', 'user = "-oProxyCommand=x"', "user"),
        ('host = "login.example.ac.uk"', 'host = "-F/etc/passwd"', "host"),
        ('partition = "gpu"', 'partition = "gpu --uid=0"', "partition"),
        ("[slurm]\n", "[local]\nroot='/x'\n[slurm]\n", "no [local]"),
        ('user = "hdrs-p1"', "", "needs scratch and user"),
    ],
)
def test_a_fault_is_refused_and_its_place_named(old: str, new: str, place: str) -> None:
    assert old in SLURM
    with pytest.raises(ClusterSettingsError) as caught:
        ClusterSettings.from_toml(SLURM.replace(old, new).encode())
    assert place in caught.value.message


@pytest.mark.parametrize(
    ("text", "store"),
    [
        (SLURM, "sftp"),
        ('object-store = "folder"\n' + SLURM, "folder"),
        (LOCAL, "folder"),
        ('object-store = "folder"\n' + LOCAL, "folder"),
    ],
)
def test_an_admin_names_the_object_store_or_has_the_usual_one(text: str, store: str) -> None:
    assert ClusterSettings.from_toml(text.encode()).store == store


@pytest.mark.parametrize(("store", "told"), [("sftp", "needs [ssh]"), ("s3", "one of folder, sftp")])
def test_an_object_store_that_can_not_be_is_refused(store: str, told: str) -> None:
    with pytest.raises(ClusterSettingsError) as caught:
        ClusterSettings.from_toml(f'object-store = "{store}"\n{LOCAL}'.encode())
    assert told in caught.value.message


def test_a_cluster_opens_the_store_that_its_settings_name() -> None:
    folder = open_cluster(
        ClusterSettings.from_toml(('object-store = "folder"\n' + SLURM).encode()), "lung-fm"
    )
    assert isinstance(folder.objects("a"), DirectoryStore)
    usual = open_cluster(ClusterSettings.from_toml(SLURM.encode()), "lung-fm")
    assert isinstance(usual.objects("a"), SftpStore)


def test_clusters_and_nodes_name_no_store_themselves() -> None:
    root = Path(hdrs_hpc.__file__).parents[1]
    stores = re.compile(r"\b(DirectoryStore|SftpStore)\b")
    folders = (root / "connectors", root / "hdrs_hpc/node")
    named = [
        path for folder in folders for path in folder.rglob("*.py") if stores.search(path.read_text("utf-8"))
    ]
    assert named == [], "ask OBJECT_STORES in hdrs_hpc/sealing/objects/__init__.py"


def test_all_faults_are_told_at_once() -> None:
    text = SLURM.replace('"sandboxed"', '"none"').replace("max-nodes = 8", "max-nodes = 0")
    with pytest.raises(ClusterSettingsError) as caught:
        ClusterSettings.from_toml(text.encode())
    assert "isolation" in caught.value.message
    assert "max-nodes" in caught.value.message


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"name = ", b"a = 1\na = 2", b"x" * 300_000, b""])
def test_what_is_not_toml_is_refused(raw: bytes) -> None:
    with pytest.raises(ClusterSettingsError):
        ClusterSettings.from_toml(raw)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterSettingsError) as caught:
        ClusterSettings.load(tmp_path / "gone.toml")
    assert caught.value.where == "gone.toml"
