"""What an admin does to clusters, on the broker's machine: settings, runtime, doctor, drain.  All of it is logged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from connectors.clusters import Check, ClusterSettings, open_cluster
from hdrs_hpc.broker import setup
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.home import installed_runtimes as runtimes
from hdrs_hpc.broker.keyd.runtimes import ADMIN, REGISTERED, WITHDRAWN
from hdrs_hpc.broker.store import checkpoint, documents, log, projects
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.core.errors import ConflictError, NotFoundError


class ClusterExistsError(ConflictError):
    code = "cluster-exists"
    meaning = "The broker knows a cluster of that name already."
    remedy = "Nothing was changed; give --replace to put these settings in their place."


class NoProjectOnClusterError(NotFoundError):
    code = "no-project-on-cluster"
    meaning = "No project has an account on this cluster yet, so there is nothing to do."
    remedy = "Add [projects.NAME] to the cluster's settings, or name a project with --project."


class RuntimeUnknownError(NotFoundError):
    code = "runtime-unknown"
    meaning = "No runtime of this digest is registered for the cluster."
    remedy = "`hdrs-hpc cluster doctor NAME` names those that are."


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
    target = home.clusters_dir / f"{settings.name}.toml"
    if target.exists() and not replace:
        raise ClusterExistsError(where=settings.name)
    _log(home, "cluster-added", settings.name, {"type": settings.type, "isolation": settings.isolation})
    draft = target.with_suffix(".new")
    draft.write_bytes(raw)
    draft.chmod(0o600)
    draft.replace(target)
    return settings


def every(home: BrokerHome) -> list[ClusterSettings]:
    return [ClusterSettings.load(path) for path in sorted(home.clusters_dir.glob("*.toml"))]


def one(home: BrokerHome, name: str) -> ClusterSettings:
    for settings in every(home):
        if settings.name == name:
            return settings
    raise NotFoundError(
        "the broker knows no such cluster", where=name, remedy="`hdrs-hpc cluster list` shows those it knows."
    )


def projects_on(home: BrokerHome, name: str, only: Sequence[str] = ()) -> list[str]:
    """The projects to work for: those asked for, else those with an account, and on a local cluster also
    those whose grant names it."""
    settings = one(home, name)
    if only:
        return list(only)
    found = set(settings.projects)
    if settings.type == "local":
        db = Database(home.database)
        with db.read() as tx:
            found |= {
                project.name
                for project in projects.every(tx)
                if project.state != "CLOSED" and name in projects.grant_of(tx, project).limits.clusters
            }
        db.close()
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
    cluster = open_cluster(one(home, name), project)
    try:
        cluster.install_runtime(file, digest)
    finally:
        cluster.close()
    register_runtime(home, name, digest)
    runtimes.note_installed(home, name, project, digest)


def register_runtime(home: BrokerHome, name: str, digest: str) -> None:
    """Nodes of the cluster that run ``digest`` may be given keys: in the log, and then with keyd.  Idempotent."""
    if digest not in registered_runtimes(home, name):
        _log(home, REGISTERED, name, {"digest": digest})
    _tell_runtimes(home, name)


def withdraw_runtime(home: BrokerHome, name: str, digest: str) -> None:
    """Nodes of the cluster that run ``digest`` are given no keys any more, also where a job has begun.

    keyd holds to it when this returns.  What was given is given: cancel the jobs that run.  Raises
    :class:`RuntimeUnknownError`, LogRolledBackError.
    """
    one(home, name)
    if digest not in registered_runtimes(home, name):
        raise RuntimeUnknownError(where=name)
    runtimes.forget_installed(home, name, digest)
    _log(home, WITHDRAWN, name, {"digest": digest})
    _tell_runtimes(home, name)


def registered_runtimes(home: BrokerHome, name: str) -> list[str]:
    """Digests of the runtimes whose nodes may be given keys on the cluster, the oldest first, as the log tells."""
    db = Database(home.database)
    with db.read() as tx:
        said = [*log.of_event(tx, REGISTERED), *log.of_event(tx, WITHDRAWN)]
    db.close()
    found: dict[str, None] = {}
    for entry in sorted(said, key=lambda entry: entry.seq):
        if entry.subject["cluster"] == name:
            found.pop(entry.detail["digest"], None)
            if entry.event == REGISTERED:
                found[entry.detail["digest"]] = None
    return list(found)


def _tell_runtimes(home: BrokerHome, name: str) -> None:
    db = Database(home.database)
    with setup.keyd_of(home) as ask:
        checkpoint.tell_runtimes(db, ask, name)
    db.close()


def doctor(home: BrokerHome, name: str, project: str) -> list[Check]:
    """What the cluster itself finds, and whether the pinned runtime is there."""
    cluster = open_cluster(one(home, name), project)
    try:
        return [*cluster.doctor(), _runtime_check(home, name, project)]
    finally:
        cluster.close()


def drained(home: BrokerHome, name: str) -> bool:
    return _drain_mark(home, name).exists()


def drain(home: BrokerHome, name: str, *, drained: bool) -> None:
    """Stop new work, or open the cluster again."""
    mark = _drain_mark(home, one(home, name).name)
    if drained:
        mark.touch(mode=0o600)  # a step that takes away comes before its entry, one that gives after it
        _log(home, "cluster-drained", name, {"drained": True})
    else:
        _log(home, "cluster-drained", name, {"drained": False})
        mark.unlink(missing_ok=True)


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


def _drain_mark(home: BrokerHome, name: str) -> Path:
    return home.clusters_dir / f"{name}.drained"


def _log(home: BrokerHome, event: str, cluster: str, detail: dict[str, object]) -> None:
    db = Database(home.database)
    with db.write() as tx:
        documents.current_root(tx)  # the log begins with the trust root; before it nothing is done
        log.append(tx, event, {"cluster": cluster}, actor=ADMIN, detail=detail)
    db.close()
