"""A cluster in use: ask it from time to time what its nodes have, so that specs can be compared with it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import ClassVar

from hdrs_hpc.broker.controller.steps.stage import age_s
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import capacity, projects
from hdrs_hpc.core.capacity import Capacity
from hdrs_hpc.core.errors import HdrsError, NotFoundError

logger = logging.getLogger("hdrs_hpc.controller")

EVERY_S = 900.0
AFTER_NO_ANSWER_S = 60.0


@dataclass(frozen=True)
class Site:
    """A cluster that an open project was granted."""

    name: str
    state: ClassVar[str] = "IN_USE"


@dataclass(frozen=True)
class AskCapacity:
    """Nothing waits for the answer, so a site that gives none is no alert: the last answer stays."""

    moves_on: ClassVar[bool] = False

    cluster: str
    projects: tuple[str, ...]

    @property
    def waits_for(self) -> str:
        return self.cluster

    def act(self, broker: OpenBroker) -> None:
        told = None
        for project in self.projects:
            try:
                told = _for_workloads(broker.cluster(self.cluster, project).capacity(), broker)
                break
            except NotFoundError:
                continue  # the cluster's settings give this project no account
            except HdrsError as error:
                logger.warning("cluster/%s: its nodes are not told: %s", self.cluster, error.code)
                break
        with broker.db.write() as tx:
            capacity.note(tx, self.cluster, told)


def _for_workloads(told: Capacity, broker: OpenBroker) -> Capacity:
    """Of the longest time that the cluster gives, what is left for a workload."""
    if told.max_time_s is None:
        return told
    return replace(told, max_time_s=max(0, told.max_time_s - broker.settings.beside_walltime_s))


@dataclass(frozen=True)
class CapacityFacts:
    cluster: str
    projects: tuple[str, ...]
    asked_s: float | None
    """How long ago; None: never."""
    known: bool


class AskCapacityStep:
    def observe(self, broker: OpenBroker, site: Site) -> CapacityFacts:
        with broker.db.read() as tx:
            told = capacity.of(tx, site.name)
            granted = tuple(
                project.name
                for project in projects.every(tx)
                if project.open and site.name in projects.grant_of(tx, project).limits.clusters
            )
        asked_s = age_s(broker, told.asked_at) if told else None
        return CapacityFacts(site.name, granted, asked_s, told is not None and told.capacity is not None)

    def decide(self, facts: CapacityFacts) -> AskCapacity | None:
        pause_s = EVERY_S if facts.known else AFTER_NO_ANSWER_S
        if not facts.projects or (facts.asked_s is not None and facts.asked_s < pause_s):
            return None
        return AskCapacity(facts.cluster, facts.projects)


def in_use(broker: OpenBroker) -> set[str]:
    """The clusters that an open project was granted and that this broker has."""
    with broker.db.read() as tx:
        granted = {
            name
            for project in projects.every(tx)
            if project.open
            for name in projects.grant_of(tx, project).limits.clusters
        }
    return {name for name in granted if broker.has_cluster(name)}
