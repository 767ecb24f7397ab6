"""Opt-out change: a custodian states which patients of a dataset opted out, or that nobody did.

The statement holds no patient id: it names by its keyed digest a file of ids that was brought to the data zone before
(:mod:`hdrs_hpc.documents.opt_out_ids`).  The statements of a dataset form a chain; the list in force is what the whole
chain adds up to.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.forms.document import Document, fault
from hdrs_hpc.forms.words import Digest, Moment, Name, Nonce, Prose

OptOutAction = Literal["add", "remove", "nobody"]
_LOOKS_LIKE_AN_ID = re.compile(r"\d(?:[\s\-./]?\d){5,}")


class OptOutChainError(BadDocumentError):
    code = "opt-out-chain"
    meaning = "An opt-out statement does not name the one that it follows, or the first one removes patients."
    remedy = "Make it with `hdrs-hpc opt-out`, which looks the last statement up."


class OptOutReasonError(BadDocumentError):
    code = "opt-out-reason"
    meaning = (
        "Who lets patients back in, or says that nobody opted out, gives a reason that names no patient."
    )
    remedy = "Give --reason in words, without the id of anybody; adding patients takes no reason."


class OptOutChange(Document):
    SCHEMA: ClassVar[str] = "hdrs-hpc/opt-out-change/1"

    audience: Name
    """The broker that it is for."""
    dataset: Name
    version: Annotated[int, Field(ge=1, le=1_000_000)]
    """Of the dataset's list: one more than that of the statement before."""
    supersedes: Digest | None = None
    """Digest of the statement before; absent in the first."""
    action: OptOutAction
    ids: Digest
    """Keyed digest of the file of ids that are added or removed; of an empty one where nobody opted out."""
    reason: Prose | None = None
    nonce: Nonce
    at: Moment

    @model_validator(mode="after")
    def _consistent(self) -> OptOutChange:
        if (self.supersedes is None) != (self.version == 1):
            fault(OptOutChainError, "version 1 follows nothing, every later version names the one before")
        if self.version == 1 and self.action == "remove":
            fault(OptOutChainError, "there is no list yet that somebody could be removed from")
        if (self.reason is None) != (self.action == "add"):
            fault(OptOutReasonError, "`remove` and `nobody` have a reason, `add` has none")
        if self.reason is not None and _LOOKS_LIKE_AN_ID.search(self.reason):
            fault(
                OptOutReasonError,
                "the reason holds what may be a patient's id; it is kept where anybody may read",
            )
        return self
