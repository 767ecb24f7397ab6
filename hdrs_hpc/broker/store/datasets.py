"""Registered dataset versions, as the tables know them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from hdrs_hpc.broker.store import documents
from hdrs_hpc.broker.store.schema import datasets
from hdrs_hpc.documents.models.dataset import DatasetRegistration


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
    rows = tx.execute(select(datasets).order_by(datasets.c.name))
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
    rows = tx.execute(select(datasets).where(datasets.c.name == name))
    return [Dataset(**row._mapping) for row in rows]
