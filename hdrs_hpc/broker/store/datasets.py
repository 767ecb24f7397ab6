"""Registered dataset versions, as the tables know them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, insert, literal_column, select

from hdrs_hpc.broker.store import documents
from hdrs_hpc.broker.store.schema import datasets
from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.grant import Grant

_REGISTERED: ColumnElement[int] = literal_column("datasets.rowid")
"""SQLite's own number of a row: rows are never removed here, so it grows with each registration."""


@dataclass(frozen=True)
class Dataset:
    """One version; ``registration`` is the digest of the signed document."""

    name: str
    version: str
    registration: str
    kind: str
    sensitivity: str
    items: int


def every(tx: Connection) -> list[Dataset]:
    """All versions, in the order in which they were registered within each name."""
    rows = tx.execute(select(datasets).order_by(datasets.c.name, _REGISTERED))
    return [Dataset(**row._mapping) for row in rows]


def registration(tx: Connection, name: str, version: str) -> DatasetRegistration:
    """The signed registration of one version."""
    wanted = select(datasets.c.registration).where(datasets.c.name == name, datasets.c.version == version)
    digest = tx.execute(wanted).scalar_one()
    return documents.get(tx, digest).read(DatasetRegistration)


def registrations_of(tx: Connection, name: str) -> list[DatasetRegistration]:
    """The signed registration of every version of a dataset."""
    return [registration(tx, name, item.version) for item in versions_of(tx, name)]


def versions_of(tx: Connection, name: str) -> list[Dataset]:
    """In the order in which they were registered."""
    rows = tx.execute(select(datasets).where(datasets.c.name == name).order_by(_REGISTERED))
    return [Dataset(**row._mapping) for row in rows]


def is_registered(tx: Connection, name: str, version: str) -> bool:
    wanted = select(datasets.c.name).where(datasets.c.name == name, datasets.c.version == version)
    return tx.execute(wanted).first() is not None


def put(tx: Connection, digest: str, registration: DatasetRegistration) -> None:
    """Keep the row of an accepted registration, whose document has this digest."""
    tx.execute(
        insert(datasets).values(
            name=registration.name,
            version=registration.version,
            registration=digest,
            kind=registration.kind,
            sensitivity=registration.sensitivity,
            items=registration.items,
        )
    )


def registrations_for(tx: Connection, grant: Grant) -> dict[str, DatasetRegistration]:
    """The registrations of exactly the versions that the grant names, by dataset; none for an unregistered one."""
    return {
        name: registration(tx, name, granted.version)
        for name, granted in grant.data.items()
        if is_registered(tx, name, granted.version)
    }
