"""Which broker this is, whom it believes, what is under way, and what waits for something outside."""

from __future__ import annotations

from sqlalchemy import Connection

from hdrs_hpc import __version__
from hdrs_hpc.broker import states
from hdrs_hpc.broker.keyd.messages import KeydStatus
from hdrs_hpc.broker.reading import models, permissions
from hdrs_hpc.broker.reading.permissions import Who
from hdrs_hpc.broker.store import alerts, documents, log, transition
from hdrs_hpc.core.errors import NotFoundError
from hdrs_hpc.documents.trust import VerifiedRoot


def identity(tx: Connection, audience: str) -> models.Broker:
    """Its name and the digest of the trust root in force."""
    root = root_or_none(tx)
    return models.Broker(
        audience=audience,
        version=__version__,
        trust_root=root.digest if root else None,
        trust_root_version=root.document.version if root else None,
        demo=root.document.demo if root else None,
    )


def root(tx: Connection) -> VerifiedRoot:
    """The trust root in force; raises NotFoundError where there is none yet."""
    return documents.current_root(tx)


def root_or_none(tx: Connection) -> VerifiedRoot | None:
    try:
        return documents.current_root(tx)
    except NotFoundError:
        return None


def root_envelope(tx: Connection, version: int | None = None) -> bytes:
    """The envelope of the trust root in force, or of one version of it."""
    if version is None:
        return documents.current_root(tx).envelope.to_bytes()
    found = documents.root_of_version(tx, version)
    if found is None:
        raise NotFoundError("there is no trust root of that version", where=str(version))
    return found.raw


def require_may_see(who: Who) -> None:
    if not permissions.may_see_broker(who):
        raise NotFoundError("there is nothing at this address")


def status(tx: Connection, audience: str, keyd: KeydStatus | None) -> models.Status:
    """For admins and custodians, see :func:`require_may_see`; ``keyd`` is its own answer, None if it gave none."""
    return models.Status(
        audience=audience,
        version=__version__,
        keyd=models.Keyd(**vars(keyd) | {"log_root": keyd.log_root.hex()}) if keyd else None,
        jobs=transition.count(tx, "job"),
        projects=transition.count(tx, "project"),
        alerts=[models.Alert(**vars(item)) for item in alerts.every(tx)],
        log_size=log.size(tx),
    )


def counts(tx: Connection) -> dict[str, dict[str, int]]:
    """For each life, how many are in each state: no names of projects, people or data."""
    return {life: transition.count(tx, life) for life in states.LIVES}


def log_sizes(tx: Connection) -> tuple[int, int]:
    """Entries of the log, and how many of them the newest signed checkpoint covers."""
    latest = log.latest_checkpoint(tx)
    return log.size(tx), latest[0] if latest else 0
