"""A checker's decision as one page: each artefact with its digest and findings, and what happens next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hdrs_hpc.client.pages.layout import Block, NamedValues, Page, Section, count
from hdrs_hpc.documents.models.review import ArtefactDecision, OutputDecision, Verdict


@dataclass(frozen=True)
class SeenArtefact:
    """What the checker was shown of one artefact: fetched, and compared with the digests that are signed."""

    name: str
    class_: str
    size_bytes: int
    findings: Sequence[str]
    """The report of its check, in sentences."""


@dataclass(frozen=True)
class ReviewedJob:
    """The job whose outputs are decided on."""

    name: str
    title: str
    """Of the project."""
    purpose: str
    decided: int
    needed: int
    artefacts: Sequence[SeenArtefact]


_SAID: dict[Verdict, str] = {
    "approve": "APPROVE: it may leave",
    "refuse": "REFUSE: it stays in",
    "return": "RETURN: it stays in, and the reason says what to mend",
}


def page(decision: OutputDecision, review: ReviewedJob) -> Page:
    seen = {item.name: item for item in review.artefacts}
    return Page(
        f"output decision on job {decision.job} of project {decision.project}",
        (
            Section(
                "What was asked",
                [NamedValues([("job", review.name), ("project", review.title), ("purpose", review.purpose)])],
            ),
            *(
                Section(f"{item.artefact}: {_SAID[item.verdict]}", _one(item, seen))
                for item in decision.decisions
            ),
            Section("What it leads to", _consequences(decision, review)),
        ),
    )


def _one(item: ArtefactDecision, seen: dict[str, SeenArtefact]) -> list[Block]:
    shown = seen[item.artefact]
    return [
        NamedValues(
            [
                ("reason", item.reason),
                ("class", f"{shown.class_}, {shown.size_bytes:,} bytes"),
                ("digest", item.rebuilt),
                ("of report", item.report),
            ]
        ),
        "The check reports:",
        *(f"- {sentence}" for sentence in shown.findings or ["Nothing."]),
    ]


def _consequences(decision: OutputDecision, review: ReviewedJob) -> list[Block]:
    left = review.needed - review.decided - 1
    others = (
        f"{count(left, 'other checker')} {'has' if left == 1 else 'have'}" if left > 0 else "Nobody else has"
    )
    found = [
        f"- {others} to decide after you, of {review.needed}; until all have, nobody learns what the others said.",
        "- An artefact leaves, exactly the bytes with this digest, once all of them approve it. One who does not keeps "
        "it in, and it is destroyed.",
        "- The researcher and the log are told your name, your verdicts and your reason.",
        "- It is final: you can not decide on this job again.",
    ]
    if all(item.verdict != "approve" for item in decision.decisions):
        found[1] = "- None of these artefacts leaves, whatever the others say; they are destroyed."
    return list(found)
