"""Closure: custodians freeze a project or lift a freeze, close it or revoke it.  The red button."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.forms.document import Document, fault
from hdrs_hpc.forms.words import Digest, Moment, Name, Nonce, Prose


class FreezeNotNamedError(BadDocumentError):
    code = "freeze-not-named"
    meaning = "Lifting a freeze names the freeze by its digest; no other closure names one."
    remedy = "Make the document with `hdrs-hpc project unfreeze`, which finds the freeze in force."


class Closure(Document):
    SCHEMA: ClassVar[str] = "hdrs-hpc/closure/2"
    SINCE_BEFORE: ClassVar[str] = (
        "since hdrs-hpc/closure/1 lifting a freeze names, under `freeze`, the digest of the closure that froze"
    )

    project: Name
    action: Literal["freeze", "unfreeze", "close", "revoke"]
    freeze: Digest | None = None
    """With ``unfreeze``: the closure that froze.  A later freeze is not lifted by an earlier document."""
    reason: Prose
    nonce: Nonce
    at: Moment

    @model_validator(mode="after")
    def _names_what_it_lifts(self) -> Closure:
        if (self.action == "unfreeze") != (self.freeze is not None):
            fault(FreezeNotNamedError, "`freeze` goes with `unfreeze`, and with nothing else")
        return self
