"""One broker, opened by one of its processes: home, settings, database, the way to keyd, clusters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from connectors.clusters import Cluster, ClusterSettings, Lookup, open_cluster
from hdrs_hpc.broker.home import BrokerHome, BrokerSettings, clusters
from hdrs_hpc.broker.keyd import client
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.store import jobs
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import NotFoundError, SiteError


class ClusterUnknownError(NotFoundError):
    code = "cluster-unknown"
    meaning = "The broker knows no such cluster."
    remedy = "Add it with `hdrs-hpc cluster add`, or name another one in the grant."


@dataclass
class OpenBroker:
    """What the controller's steps and the processes that they start work with."""

    home: BrokerHome
    settings: BrokerSettings
    db: Database
    now: Callable[[], datetime] = clock.now
    troubles: dict[str, str] = field(default_factory=dict)
    """What could not be done at its last turn in this loop, and the reason code; the controller's own memory."""
    _clusters: dict[tuple[str, str], Cluster] = field(default_factory=dict)
    _lookups: dict[tuple[str, str], Lookup] = field(default_factory=dict)
    _failed_lookups: dict[tuple[str, str], SiteError] = field(default_factory=dict)

    _opening: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, home: BrokerHome) -> OpenBroker:
        return cls(home, home.settings(), Database(home.database))

    def for_another_loop(self) -> OpenBroker:
        """The same broker for another thread, with connections, look-ups and troubles of its own."""
        return OpenBroker(self.home, self.settings, self.db, self.now)

    def ask[R](self, request: m.Ask[R]) -> R:
        """One request to keyd."""
        return client.ask(self.home.keyd_socket, request)

    def has_cluster(self, name: str) -> bool:
        return (self.home.clusters_dir / f"{name}.toml").is_file()

    def cluster_settings(self, name: str) -> ClusterSettings:
        if not self.has_cluster(name):
            raise ClusterUnknownError(where=name)
        return ClusterSettings.load(self.home.clusters_dir / f"{name}.toml")

    def cluster(self, name: str, project: str) -> Cluster:
        """The cluster as the project's account; connections are kept."""
        key = (name, project)
        with self._opening:  # errands of one loop share its connections
            if key not in self._clusters:
                self._clusters[key] = open_cluster(self.cluster_settings(name), project)
            return self._clusters[key]

    def find(self, name: str, project: str, attempt: str) -> Lookup:
        """What the cluster shows of an attempt: one batched query a cluster, project and tick."""
        key = (name, project)
        known = self._lookups.get(key)
        if known is None or attempt not in known.jobs:
            with self.db.read() as tx:
                names = jobs.attempts_at(tx, name, project)
            known = self._lookups[key] = self.look_up(name, project, sorted({*names, attempt}))
        return known

    def look_up(self, name: str, project: str, attempts: Sequence[str]) -> Lookup:
        """What the cluster shows of these attempts now.

        A failure is raised again to all who ask in the same tick: a command that hangs is waited for once, and not
        once a job.
        """
        key = (name, project)
        if key in self._failed_lookups:
            raise self._failed_lookups[key].with_traceback(None)
        try:
            return self.cluster(name, project).find(attempts)
        except SiteError as error:
            self._failed_lookups[key] = error
            raise

    def forget_lookups(self) -> None:
        """At the begin of a tick: what a cluster showed before is no longer to be believed."""
        self._lookups.clear()
        self._failed_lookups.clear()

    def drained(self, name: str) -> bool:
        """Whether an admin stopped new work for the cluster."""
        return clusters.drained(self.home, name)

    def close(self) -> None:
        for cluster in self._clusters.values():
            cluster.close()
        self.db.close()
