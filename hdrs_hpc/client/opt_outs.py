"""Stating who opted out of a dataset: ids go to the data zone, a statement without any is signed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hdrs_hpc.client import signatures
from hdrs_hpc.client.http import BrokerAnswerError
from hdrs_hpc.client.session import Session
from hdrs_hpc.core import clock, ids
from hdrs_hpc.documents import kinds
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.opt_out import OptOutAction, OptOutChange
from hdrs_hpc.documents.opt_out_ids import OptOutIds


def in_force(session: Session, dataset: str) -> dict[str, Any]:
    """The statement in force, and the copies and jobs that a change touches."""
    found: dict[str, Any] = session.api.get(f"/v1/opt-outs/{dataset}")
    return found


def bring(session: Session, dataset: str, listed: Sequence[str]) -> tuple[OptOutIds, list[str]]:
    """Send a file of ids to the data zone; gives it, and those of its ids that are on the list already."""
    made = OptOutIds.new(listed)
    told = session.api.post(f"/v1/opt-outs/{dataset}/ids", made.to_bytes())
    if told.get("digest") != made.digest:
        raise BrokerAnswerError("the broker received other ids than were sent")
    return made, [made.ids[place] for place in told["listed"]]


def statement(
    session: Session, before: dict[str, Any], action: OptOutAction, brought: OptOutIds, reason: str | None
) -> tuple[Envelope, OptOutChange]:
    """The change that follows ``before``, not signed yet."""
    kind = kinds.OPT_OUT_CHANGE
    value: dict[str, Any] = {
        "schema": kind.schema,
        "audience": session.root.document.audience,
        "dataset": before["dataset"],
        "version": before["version"] + 1,
        "action": action,
        "ids": brought.digest,
        "nonce": ids.new_id(26),
        "at": clock.to_text(clock.now()),
    }
    if before["document"] is not None:
        value["supersedes"] = before["document"]
    if reason is not None:
        value["reason"] = reason
    envelope, change = signatures.unsigned(kind, value)
    return envelope, change
