"""A checker's decision on the outputs of a job in review."""

from __future__ import annotations

from hdrs_hpc.broker.filing.case import Became, Case, hold
from hdrs_hpc.broker.store import artefacts, jobs, projects
from hdrs_hpc.core.errors import ConflictError
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.policy import review as review_policy


class ReviewNotOpenError(ConflictError):
    code = "review-not-open"
    meaning = "The job is not in review."
    remedy = "`hdrs-hpc review list` shows what waits for you."


def file(case: Case) -> Became:
    found = trust.verify(case.envelope, kinds.OUTPUT_DECISION, case.root)
    decision, checker = found.document, found.people[0]
    job = jobs.get(case.tx, decision.job)
    if job.state != "IN_REVIEW":
        raise ReviewNotOpenError(where=job.id)
    project = projects.get(case.tx, job.project)
    shown = [item for item in artefacts.of_job(case.tx, job.id) if item.refused is None]
    facts = review_policy.ReviewFacts(
        grant=projects.grant_of(case.tx, project),
        trust_root=case.root.document,
        job=job.id,
        artefacts={
            item.name: review_policy.UnderReview(item.rebuilt or "", item.report_digest) for item in shown
        },
        decided_by=frozenset(item.person for item in artefacts.decisions_of(case.tx, job.id)),
    )
    hold(review_policy.decide(decision, checker, facts))
    case.file("output-decision", found.people)
    for verdict in decision.decisions:
        artefacts.put_decision(
            case.tx,
            artefacts.Decision(
                job.id, verdict.artefact, checker, verdict.verdict, verdict.reason, found.digest
            ),
        )
    case.log("decision-filed", checker, job.subject, {})
    return Became(job.project, job.id)
