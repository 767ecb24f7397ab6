"""What an admin does to clusters, on the broker's machine: settings, runtime, doctor, drain.  All of it is logged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from connectors.clusters import Check, ClusterSettings, open_cluster
from hdrs_hpc.broker import setup
from hdrs_hpc.broker.filing import clusters as filing
from hdrs_hpc.broker.home import BrokerHome, clusters
from hdrs_hpc.broker.home import installed_runtimes as runtimes
from hdrs_hpc.broker.reading import clusters as reading
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.core.errors import NotFoundError


class NoProjectOnClusterError(NotFoundError):
    code = "no-project-on-cluster"
    meaning = "No project has an account on this cluster yet, so there is nothing to do."
    remedy = "Add [projects.NAME] to the cluster's settings, or name a project with --project."


class RuntimeUnknownError(NotFoundError):
    code = "runtime-unknown"
    meaning = "No runtime of this digest is registered for the cluster."
    remedy = "`hdrs-hpc cluster doctor NAME` names those that are."


@dataclass(frozen=True)
class Registered:
    """What is said of a flavour's file."""

    flavour: str
    digest: str
    size_bytes: int


def local_settings(name: str, root: Path, isolation: str) -> bytes:
    """Settings of this machine as a cluster."""
    lines = (
        f"name = {json.dumps(name)}",
        'type = "local"',
        f"isolation = {json.dumps(isolation)}",
        "",
        "[local]",
        f"root = {json.dumps(str(root.resolve()))}",
    )
    return ("\n".join(lines) + "\n").encode()


def add(home: BrokerHome, raw: bytes, *, replace: bool) -> ClusterSettings:
    """Check the settings and keep them; raises ClusterSettingsError, ClusterExistsError."""
    settings = ClusterSettings.from_toml(raw)
    if not replace:
        clusters.require_free(home, settings.name)
    with _database(home) as db:
        filing.note_added(db, settings.name, kind=settings.type, isolation=settings.isolation)
    clusters.keep(home, settings.name, raw)
    return settings


def projects_on(home: BrokerHome, name: str, only: Sequence[str] = ()) -> list[str]:
    """The projects to work for: those asked for, else those with an account, and on a local cluster also
    those whose grant names it."""
    settings = clusters.one(home, name)
    if only:
        return list(only)
    found = set(settings.projects)
    if settings.type == "local":
        with _database(home) as db, db.read() as tx:
            found |= reading.projects_granted(tx, name)
    if not found:
        raise NoProjectOnClusterError(where=name, remedy=_begin_project(settings))
    return sorted(found)


def _begin_project(settings: ClusterSettings) -> str:
    """What makes a project that works on the cluster."""
    if settings.type == "local":
        return (
            f"Custodians sign a grant whose `limits.clusters` names {settings.name} (`hdrs-hpc grant draft`, "
            f"`grant sign`, `grant submit`); then: hdrs-hpc cluster install {settings.name}"
        )
    return (
        f"Give the project its account under [projects.NAME] of the settings, then: hdrs-hpc cluster add "
        f"SETTINGS.toml --replace, and hdrs-hpc cluster install {settings.name}"
    )


def install(home: BrokerHome, name: str, project: str, file: Path, digest: str) -> None:
    """Put the runtime ``file`` where the project's jobs find it, register its digest, and pin it for them."""
    cluster = open_cluster(clusters.one(home, name), project)
    try:
        cluster.install_runtime(file, digest)
    finally:
        cluster.close()
    register_runtime(home, name, digest)
    runtimes.note_installed(home, name, project, digest)


def install_flavour(home: BrokerHome, name: str, project: str, file: Path, about: Registered) -> None:
    """The same of a flavour."""
    cluster = open_cluster(clusters.one(home, name), project)
    try:
        cluster.install_runtime(file, about.digest, "squashfs")
    finally:
        cluster.close()
    register_flavour(home, name, about)
    runtimes.note_installed(home, name, project, about.digest, about.flavour)


def register_flavour(home: BrokerHome, name: str, about: Registered) -> None:
    """Jobs of the flavour get this file of it on the cluster from now on: in the log, then with keyd.  Idempotent."""
    with _database(home) as db:
        with db.read() as tx:
            held = reading.registered_flavours(tx, name).get(about.flavour)
        if held is None or held.digest != about.digest:
            filing.note_flavour_registered(db, name, about.flavour, about.digest, about.size_bytes)
        with setup.keyd_of(home) as ask:
            filing.tell_runtimes(db, ask, name)


def register_runtime(home: BrokerHome, name: str, digest: str) -> None:
    """Nodes of the cluster that run ``digest`` may be given keys: in the log, and then with keyd.  Idempotent."""
    with _database(home) as db:
        if digest not in registered_runtimes(home, name):
            filing.note_runtime_registered(db, name, digest)
        with setup.keyd_of(home) as ask:
            filing.tell_runtimes(db, ask, name)


def withdraw_runtime(home: BrokerHome, name: str, digest: str) -> None:
    """Nodes that run ``digest``, or jobs of that flavour, are given no keys any more, also where a job has begun.

    keyd holds to it when this returns.  What was given is given: cancel the jobs that run.  Raises
    :class:`RuntimeUnknownError`, LogRolledBackError.
    """
    clusters.one(home, name)
    with _database(home) as db, db.read() as tx:
        if digest not in reading.registered_files(tx, name):
            raise RuntimeUnknownError(where=name)
    runtimes.forget_installed(home, name, digest)
    with _database(home) as db:
        filing.note_runtime_withdrawn(db, name, digest)
        with setup.keyd_of(home) as ask:
            filing.tell_runtimes(db, ask, name)


def registered_runtimes(home: BrokerHome, name: str) -> list[str]:
    """Digests of the runtimes whose nodes may be given keys on the cluster, the oldest first, as the log tells."""
    with _database(home) as db, db.read() as tx:
        return reading.registered_runtimes(tx, name)


def doctor(home: BrokerHome, name: str, project: str) -> list[Check]:
    """What the cluster itself finds, and whether the pinned runtime is there."""
    cluster = open_cluster(clusters.one(home, name), project)
    try:
        return [*cluster.doctor(), _runtime_check(home, name, project)]
    finally:
        cluster.close()


def drain(home: BrokerHome, name: str, *, drained: bool) -> None:
    """Stop new work, or open the cluster again."""
    clusters.one(home, name)
    with _database(home) as db:
        if drained:
            clusters.mark_drained(
                home, name
            )  # a step that takes away comes before its entry, one that gives after
            filing.note_drained(db, name, drained=True)
        else:
            filing.note_drained(db, name, drained=False)
            clusters.unmark_drained(home, name)


def _runtime_check(home: BrokerHome, name: str, project: str) -> Check:
    try:
        digest = runtimes.installed_runtime(home, name, project)
    except runtimes.RuntimeNotInstalledError as error:
        return Check("runtime", False, error.message, error.remedy)
    others = [other for other in registered_runtimes(home, name) if other != digest]
    message = f"pinned, {digest[:19]}…"
    if others:
        message += f"; also given keys: {', '.join(others)}"
    return Check("runtime", True, message)


@contextmanager
def _database(home: BrokerHome) -> Iterator[Database]:
    db = Database(home.database)
    try:
        yield db
    finally:
        db.close()
