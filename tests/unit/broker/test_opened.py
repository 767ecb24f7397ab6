from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from connectors.clusters import ClusterUnreachableError, Lookup
from hdrs_hpc.broker import opened
from hdrs_hpc.broker.home import BrokerHome, BrokerSettings
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store.database import Database

CLUSTER = 'name = "{0}"\ntype = "slurm"\nisolation = "sandboxed"\n[slurm]\n'


class Site:
    """A cluster whose look-ups fail while ``down``; counts how often it was asked."""

    def __init__(self) -> None:
        self.down = True
        self.asked = 0

    def find(self, names: Sequence[str]) -> Lookup:
        self.asked += 1
        if self.down:
            raise ClusterUnreachableError("squeue did not answer in time")
        return Lookup({name: [] for name in names}, absence_proven=True)


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], Site]:
    found: dict[tuple[str, str], Site] = {}
    monkeypatch.setattr(
        opened,
        "open_cluster",
        lambda settings, project: found.setdefault((settings.name, project), Site()),
    )
    return found


@pytest.fixture
def broker(tmp_path: Path) -> OpenBroker:
    home = BrokerHome(tmp_path)
    home.make_folders()
    for name in ("slow", "other"):
        (home.clusters_dir / f"{name}.toml").write_text(CLUSTER.format(name))
    db = Database(home.database)
    db.migrate()
    return OpenBroker(home, BrokerSettings("here", "127.0.0.1", 1, 1.0, 60.0), db)


def test_a_lookup_that_failed_is_not_tried_again_in_the_same_tick(
    broker: OpenBroker, sites: dict[tuple[str, str], Site]
) -> None:
    for attempt in ("hdrs-a", "hdrs-b", "hdrs-c"):
        with pytest.raises(ClusterUnreachableError):
            broker.find("slow", "lung", attempt)
    with pytest.raises(ClusterUnreachableError):
        broker.look_up("slow", "lung", ["hdrs-d"])
    assert sites["slow", "lung"].asked == 1


def test_a_failed_lookup_says_nothing_of_other_accounts_and_clusters(
    broker: OpenBroker, sites: dict[tuple[str, str], Site]
) -> None:
    for cluster, project in (("slow", "lung"), ("slow", "brain"), ("other", "lung")):
        with pytest.raises(ClusterUnreachableError):
            broker.find(cluster, project, "hdrs-a")
    assert {key: site.asked for key, site in sites.items()} == {
        ("slow", "lung"): 1,
        ("slow", "brain"): 1,
        ("other", "lung"): 1,
    }


def test_the_next_tick_asks_again(broker: OpenBroker, sites: dict[tuple[str, str], Site]) -> None:
    with pytest.raises(ClusterUnreachableError):
        broker.find("slow", "lung", "hdrs-a")
    sites["slow", "lung"].down = False
    broker.forget_lookups()
    assert broker.find("slow", "lung", "hdrs-a").jobs == {"hdrs-a": []}
    assert broker.find("slow", "lung", "hdrs-a").absence_proven
    assert sites["slow", "lung"].asked == 2
