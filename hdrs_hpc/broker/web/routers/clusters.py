"""The clusters that the broker has."""

from __future__ import annotations

from fastapi import APIRouter

from hdrs_hpc.broker.reading import clusters, models
from hdrs_hpc.broker.web.dependencies import Asker, WebHere

router = APIRouter(prefix="/clusters", tags=["clusters"])


@router.get("")
def every(web: WebHere, who: Asker) -> dict[str, models.ClusterOffer]:
    """For custodians and admins: what each cluster gives a job, and what it told of its nodes."""
    with web.db.read() as tx:
        return clusters.every(tx, who, web.home)
