"""Output decision: what one checker decided on the artefacts of one job."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from hdrs_hpc.forms.document import BadValueError, Document, Items, Part, fault
from hdrs_hpc.forms.words import Digest, Name, Nonce, Prose, ShortId

Verdict = Literal["approve", "refuse", "return"]


class ArtefactDecision(Part):
    """One verdict, bound to exactly what was seen: the rebuilt bytes and the report of the check."""

    artefact: Name
    rebuilt: Digest
    report: Digest
    verdict: Verdict
    reason: Prose


class OutputDecision(Document):
    SCHEMA: ClassVar[str] = "hdrs-hpc/output-decision/1"

    project: Name
    job: ShortId
    nonce: Nonce
    """Random and known to one checker only, so that the logged digest tells others nothing."""
    decisions: Annotated[Items[ArtefactDecision], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _each_once(self) -> OutputDecision:
        names = [item.artefact for item in self.decisions]
        if len(set(names)) != len(names):
            fault(BadValueError, "an artefact is decided twice")
        return self
