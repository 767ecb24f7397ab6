"""What the database tells of clusters: the projects that work there, and the runtimes that are registered."""

from __future__ import annotations

from sqlalchemy import Connection

from hdrs_hpc.broker.store import log, projects


def projects_granted(tx: Connection, cluster: str) -> set[str]:
    """Projects that are not closed and whose grant names the cluster."""
    return {
        project.name
        for project in projects.every(tx)
        if project.state != "CLOSED" and cluster in projects.grant_of(tx, project).limits.clusters
    }


def registered_runtimes(tx: Connection, cluster: str) -> list[str]:
    """Digests of the runtimes whose nodes may be given keys on the cluster, the oldest first, as the log tells."""
    said = [*log.of_event(tx, "runtime-installed"), *log.of_event(tx, "runtime-withdrawn")]
    found: dict[str, None] = {}
    for entry in sorted(said, key=lambda entry: entry.seq):
        if entry.subject["cluster"] == cluster:
            found.pop(entry.detail["digest"], None)
            if entry.event == "runtime-installed":
                found[entry.detail["digest"]] = None
    return list(found)
