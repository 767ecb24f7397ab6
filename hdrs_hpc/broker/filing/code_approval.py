"""A code approval: one named reviewer answers for one bundle."""

from __future__ import annotations

from hdrs_hpc.broker.filing.case import Became, Case, hold
from hdrs_hpc.broker.store import projects
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.policy import grant as grant_policy


def file(case: Case) -> Became:
    found = trust.verify(case.envelope, kinds.CODE_APPROVAL, case.root)
    approval = found.document
    project = projects.get(case.tx, approval.project)
    grant = projects.grant_of(case.tx, project)
    hold(grant_policy.check_code_approval(approval, found.people[0], grant))
    case.file("code-approval", found.people)
    case.log(
        "code-approved",
        found.people[0],
        {"project": approval.project},
        {"bundle": approval.bundle, "reviewer": approval.reviewer},
    )
    return Became(approval.project)
