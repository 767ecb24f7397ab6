"""Registered datasets."""

from __future__ import annotations

from sqlalchemy import Connection

from hdrs_hpc.broker.reading import models, permissions, visible
from hdrs_hpc.broker.reading.permissions import Who
from hdrs_hpc.broker.store import datasets, documents
from hdrs_hpc.core.errors import NotFoundError
from hdrs_hpc.documents.models.dataset import DatasetRegistration


def every(tx: Connection, who: Who) -> list[models.Dataset]:
    return _visible(tx, who, datasets.every(tx))


def one(tx: Connection, who: Who, name: str) -> list[models.Dataset]:
    """The registered versions of one dataset."""
    found = _visible(tx, who, datasets.versions_of(tx, name))
    if not found:
        raise NotFoundError("there is no such dataset, or it is not yours", where=name)
    return found


def _visible(tx: Connection, who: Who, found: list[datasets.Dataset]) -> list[models.Dataset]:
    grants = [grant for _, grant in visible.every_project(tx)]
    return [
        _shown(tx, item, permissions.may_see_source(who))
        for item in found
        if permissions.may_see_dataset(who, item.name, grants)
    ]


def _shown(tx: Connection, item: datasets.Dataset, with_source: bool) -> models.Dataset:
    found = DatasetRegistration.from_payload(documents.get(tx, item.registration).envelope.payload)
    source = found.source.text if with_source else None
    return models.Dataset(**vars(item), owner=found.owner, source=source)
