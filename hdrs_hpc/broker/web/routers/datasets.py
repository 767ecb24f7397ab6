"""Registered datasets."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy import Connection

from hdrs_hpc.broker.store import datasets, documents
from hdrs_hpc.broker.web import models, permissions, views
from hdrs_hpc.broker.web.dependencies import Asker, WebHere
from hdrs_hpc.broker.web.inputs import NameInPath
from hdrs_hpc.broker.web.permissions import Who
from hdrs_hpc.core.errors import NotFoundError
from hdrs_hpc.documents.models.dataset import DatasetRegistration

router = APIRouter(prefix="/datasets", tags=["datasets"])


@router.get("")
def every(web: WebHere, who: Asker) -> list[models.Dataset]:
    """Every registered version of the datasets that you may know of."""
    with web.db.read() as tx:
        return _visible(tx, who, datasets.every(tx))


@router.get("/{name}")
def one(name: NameInPath, web: WebHere, who: Asker) -> list[models.Dataset]:
    """The registered versions of one dataset."""
    with web.db.read() as tx:
        found = _visible(tx, who, datasets.versions_of(tx, name))
    if not found:
        raise NotFoundError("there is no such dataset, or it is not yours", where=name)
    return found


def _visible(tx: Connection, who: Who, found: list[datasets.Dataset]) -> list[models.Dataset]:
    grants = [grant for _, grant in views.every_project(tx)]
    return [
        _shown(tx, item, permissions.may_see_source(who))
        for item in found
        if permissions.may_see_dataset(who, item.name, grants)
    ]


def _shown(tx: Connection, item: datasets.Dataset, with_source: bool) -> models.Dataset:
    found = DatasetRegistration.from_payload(documents.get(tx, item.registration).envelope.payload)
    source = found.source.text if with_source else None
    return models.Dataset(**vars(item), owner=found.owner, source=source)
