"""A review as the checker sees it: what is decided on is fetched and compared here, before it is signed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from hdrs_hpc.client.pages.output_decision import ReviewedJob, SeenArtefact
from hdrs_hpc.client.session import Session
from hdrs_hpc.core import ids, strict_json
from hdrs_hpc.core.errors import BadDocumentError, NotFoundError, UsageError
from hdrs_hpc.documents.models.review import OutputDecision


class ReviewMismatchError(BadDocumentError):
    code = "review-mismatch"
    meaning = "What the broker sent for review has another digest than it says."
    remedy = "Open it again; if it stays so, do not decide, and tell the broker's operator."


class DecisionUnclearError(UsageError):
    code = "decision-unclear"
    meaning = "Every artefact under review needs exactly one verdict."
    remedy = "Give each with --approve, --refuse or --return; `hdrs-hpc review show JOB` lists them."


@dataclass(frozen=True)
class Artefact:
    """One artefact, its bytes and report verified against the digests that a decision names."""

    name: str
    cls: str
    media_type: str | None
    content: bytes
    rebuilt: str
    report: dict[str, Any]
    report_digest: str


def every(session: Session) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = session.api.get("/v1/reviews")
    return found


def one(session: Session, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = session.api.get(f"/v1/reviews/{quote(prefix, safe='')}")
    return found


def open_artefact(session: Session, review: Mapping[str, Any], name: str) -> Artefact:
    """Fetch one artefact and check that bytes and report are those that the review names."""
    item = next((item for item in review["outputs"] if item["name"] == name), None)
    if item is None:
        raise NotFoundError(f"job {review['job']} has no artefact of that name", where=name)
    if item["refused"]:
        raise NotFoundError(
            f"the check refused it ({item['refused']}): there is nothing to look at", where=name
        )
    content = session.api.get_bytes(f"/v1/reviews/{review['job']}/artefacts/{quote(name, safe='')}")
    if _digest(content) != item["rebuilt"]:
        raise ReviewMismatchError("the bytes differ", where=name)
    if _digest(strict_json.dumps(item["report"])) != item["report-digest"]:
        raise ReviewMismatchError("the report differs", where=name)
    return Artefact(
        name,
        str(item["class"]),
        item["media-type"],
        content,
        str(item["rebuilt"]),
        dict(item["report"]),
        str(item["report-digest"]),
    )


def decision(
    session: Session, review: Mapping[str, Any], verdicts: Mapping[str, str], reason: str
) -> tuple[OutputDecision, ReviewedJob]:
    """The document to sign, one verdict for every artefact, bound to the bytes and report seen here; and these."""
    open_ones = [item["name"] for item in review["outputs"] if not item["refused"]]
    unknown, missing = sorted(set(verdicts) - set(open_ones)), sorted(set(open_ones) - set(verdicts))
    if unknown or missing:
        told = [f"no verdict on {', '.join(missing)}"] if missing else []
        told += [f"nothing to decide on {', '.join(unknown)}"] if unknown else []
        raise DecisionUnclearError("; ".join(told))
    seen = [open_artefact(session, review, name) for name in open_ones]
    made = OutputDecision.from_value(
        {
            "schema": OutputDecision.SCHEMA,
            "project": review["project"],
            "job": review["job"],
            "nonce": ids.new_id(26),
            "decisions": [
                {
                    "artefact": item.name,
                    "rebuilt": item.rebuilt,
                    "report": item.report_digest,
                    "verdict": verdicts[item.name],
                    "reason": reason,
                }
                for item in seen
            ],
        }
    )
    shown = [
        SeenArtefact(item.name, item.cls, len(item.content), item.report.get("sentences", ()))
        for item in seen
    ]
    return made, ReviewedJob(
        str(review["name"]),
        str(review["title"]),
        str(review["purpose"]),
        int(review["reviews-done"]),
        int(review["reviews-needed"]),
        shown,
    )


def _digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"
