"""The clusters that this broker knows: one settings file each, and the mark of those that take no new work."""

from __future__ import annotations

from pathlib import Path

from connectors.clusters import ClusterSettings
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.core.errors import ConflictError, NotFoundError


class ClusterExistsError(ConflictError):
    code = "cluster-exists"
    meaning = "The broker knows a cluster of that name already."
    remedy = "Nothing was changed; give --replace to put these settings in their place."


def every(home: BrokerHome) -> list[ClusterSettings]:
    return [ClusterSettings.load(path) for path in sorted(home.clusters_dir.glob("*.toml"))]


def one(home: BrokerHome, name: str) -> ClusterSettings:
    for settings in every(home):
        if settings.name == name:
            return settings
    raise NotFoundError(
        "the broker knows no such cluster", where=name, remedy="`hdrs-hpc cluster list` shows those it knows."
    )


def require_free(home: BrokerHome, name: str) -> None:
    """Raises :class:`ClusterExistsError` where there are settings under that name."""
    if _settings_file(home, name).exists():
        raise ClusterExistsError(where=name)


def keep(home: BrokerHome, name: str, raw: bytes) -> None:
    """Put the settings of a cluster in force, whole."""
    target = _settings_file(home, name)
    draft = target.with_suffix(".new")
    draft.write_bytes(raw)
    draft.chmod(0o600)
    draft.replace(target)


def drained(home: BrokerHome, name: str) -> bool:
    """Whether an admin stopped new work for the cluster."""
    return _drain_mark(home, name).exists()


def mark_drained(home: BrokerHome, name: str) -> None:
    _drain_mark(home, name).touch(mode=0o600)


def unmark_drained(home: BrokerHome, name: str) -> None:
    _drain_mark(home, name).unlink(missing_ok=True)


def _settings_file(home: BrokerHome, name: str) -> Path:
    return home.clusters_dir / f"{name}.toml"


def _drain_mark(home: BrokerHome, name: str) -> Path:
    return home.clusters_dir / f"{name}.drained"
