"""Registered datasets."""

from __future__ import annotations

from fastapi import APIRouter

from hdrs_hpc.broker.reading import datasets, models
from hdrs_hpc.broker.web.dependencies import Asker, WebHere
from hdrs_hpc.broker.web.inputs import NameInPath

router = APIRouter(prefix="/datasets", tags=["datasets"])


@router.get("")
def every(web: WebHere, who: Asker) -> list[models.Dataset]:
    """Every registered version of the datasets that you may know of."""
    with web.db.read() as tx:
        return datasets.every(tx, who)


@router.get("/{name}")
def one(name: NameInPath, web: WebHere, who: Asker) -> list[models.Dataset]:
    """The registered versions of one dataset."""
    with web.db.read() as tx:
        return datasets.one(tx, who, name)
