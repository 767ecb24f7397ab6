"""Clusters: what they offer, the projects that work there, and the runtimes that are registered."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from hdrs_hpc.broker.home import BrokerHome, clusters
from hdrs_hpc.broker.reading import models, permissions
from hdrs_hpc.broker.reading.permissions import Who
from hdrs_hpc.broker.store import capacity, log, projects
from hdrs_hpc.core.errors import NotFoundError


@dataclass(frozen=True)
class RegisteredFlavour:
    digest: str
    size_bytes: int


def every(tx: Connection, who: Who, home: BrokerHome) -> dict[str, models.ClusterOffer]:
    """All that the broker has, for those who write grants or look after it."""
    if not permissions.may_see_broker(who):
        raise NotFoundError("there is nothing at this address")
    return offers(tx, home, [item.name for item in clusters.every(home)])


def offers(tx: Connection, home: BrokerHome, names: Container[str]) -> dict[str, models.ClusterOffer]:
    """What those of them that the broker has give a job."""
    found = {}
    for item in clusters.every(home):
        if item.name in names:
            told = capacity.of(tx, item.name)
            has = told.capacity if told else None
            found[item.name] = models.ClusterOffer(
                isolation=item.isolation,
                nodes=item.max_nodes,
                drained=clusters.drained(home, item.name),
                capacity=None if has is None else models.Capacity.model_validate(has.as_dict()),
                capacity_told_at=told.told_at if told else None,
            )
    return found


def projects_granted(tx: Connection, cluster: str) -> set[str]:
    """Projects that are not closed and whose grant names the cluster."""
    return {
        project.name
        for project in projects.every(tx)
        if project.state != "CLOSED" and cluster in projects.grant_of(tx, project).limits.clusters
    }


def registered_runtimes(tx: Connection, cluster: str) -> list[str]:
    """Digests of the runtimes whose nodes may be given keys on the cluster, the oldest first, as the log tells."""
    return [digest for digest, about in _registered(tx, cluster).items() if "flavour" not in about]


def registered_flavours(tx: Connection, cluster: str) -> dict[str, RegisteredFlavour]:
    """Name → the file that jobs of the flavour get on the cluster: what was registered last."""
    return {
        about["flavour"]: RegisteredFlavour(digest, about["size"])
        for digest, about in _registered(tx, cluster).items()
        if "flavour" in about
    }


def registered_files(tx: Connection, cluster: str) -> list[str]:
    """Digests of runtimes and of flavours, also of those that newer ones have followed."""
    return list(_registered(tx, cluster))


def _registered(tx: Connection, cluster: str) -> dict[str, Mapping[str, Any]]:
    """Digest → what its entry in the log tells, the oldest first."""
    said = [*log.of_event(tx, "runtime-installed"), *log.of_event(tx, "runtime-withdrawn")]
    found: dict[str, Mapping[str, Any]] = {}
    for entry in sorted(said, key=lambda entry: entry.seq):
        if entry.subject["cluster"] == cluster:
            found.pop(entry.detail["digest"], None)
            if entry.event == "runtime-installed":
                found[entry.detail["digest"]] = entry.detail
    return found
