"""Who opted out of a dataset: bringing ids into the data zone, and what is in force; no route tells an id."""

from __future__ import annotations

from fastapi import APIRouter

from hdrs_hpc.broker.filing import opt_out_change
from hdrs_hpc.broker.reading import models as views
from hdrs_hpc.broker.reading import opt_outs
from hdrs_hpc.broker.web import models
from hdrs_hpc.broker.web.answers import takes
from hdrs_hpc.broker.web.dependencies import Asker, OptOutIdsBody, WebHere
from hdrs_hpc.broker.web.inputs import NameInPath

router = APIRouter(prefix="/opt-outs", tags=["opt-outs"])


@router.get("/{dataset}")
def one(dataset: NameInPath, web: WebHere, who: Asker) -> views.OptOuts:
    """The statement in force about a dataset, and the copies and jobs that a change of it touches."""
    with web.db.read() as tx:
        return opt_outs.in_force(tx, who, dataset, web.settings.opt_out_grace_s)


@router.post("/{dataset}/ids", openapi_extra=takes("application/json"))
def bring_ids(dataset: NameInPath, web: WebHere, who: Asker, raw: OptOutIdsBody) -> models.OptOutIds:
    """Keep a file of ids in the data zone until a signed change names its digest; tells which are on the list."""
    with web.db.read() as tx:
        opt_outs.require_may_change(tx, who, dataset)
    found, listed = opt_out_change.put_ids(web.db, web.home, raw, dataset)
    return models.OptOutIds(digest=found.digest, count=len(found.ids), listed=listed)
