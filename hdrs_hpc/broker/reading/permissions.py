"""Who may: every question about a person's right to see or do something is answered in this file.

When something may happen is the business of ``policy/``.  What a person may not see does not exist for them:
the answer is "not found", the same as for a name that nobody has.

| | researcher or lead of it | custodian | checker outside it | admin |
| --- | --- | --- | --- | --- |
| project, grant, certificate, jobs | yes | yes | no | no |
| cancel a job | yes | yes | no | no |
| released artefact | yes | yes | no | no |
| artefact in review | no | no | yes | no |
| dataset | granted to a project of theirs | yes | no | no |
| who opted out: bring ids, see the statement | no | of the dataset's owner | no | no |
| what became of the data at staging: counts, reasons | no | yes | no | no |
| where a dataset lies | no | yes | no | no |
| log entries and documents | no | yes | no | yes |
| state of the broker, all its clusters | no | yes | no | yes |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hdrs_hpc.documents.models.dataset import DatasetRegistration
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.trust_root import TrustRoot


@dataclass(frozen=True)
class Who:
    """A logged-in person with the roles that the trust root in force gives them."""

    person: str
    roles: frozenset[str]
    organisation: str

    @classmethod
    def under(cls, root: TrustRoot, person: str) -> Who | None:
        """None for a person whom the trust root in force no longer lists."""
        found = root.people.get(person)
        return cls(person, frozenset(found.roles), found.organisation) if found else None


def may_see_project(who: Who, grant: Grant) -> bool:
    return "custodian" in who.roles or who.person in grant.everyone


def may_see_staging(who: Who) -> bool:
    """Counts of an archive's patients and of what is broken in it are not the researchers' business."""
    return "custodian" in who.roles


def may_cancel(who: Who, grant: Grant) -> bool:
    return may_see_project(who, grant)


def may_fetch(who: Who, grant: Grant) -> bool:
    """Released artefacts."""
    return may_see_project(who, grant)


def may_review(who: Who, grant: Grant) -> bool:
    """Conflicts of interest count by person: whoever works in a project never checks its outputs."""
    return "checker" in who.roles and who.person not in grant.everyone


def may_see_dataset(who: Who, dataset: str, grants: list[Grant]) -> bool:
    return "custodian" in who.roles or any(
        dataset in grant.data and who.person in grant.everyone for grant in grants
    )


def may_change_opt_outs(who: Who, registrations: Sequence[DatasetRegistration]) -> bool:
    """Bring ids of patients into the data zone, and see which are on the list; ``policy.opt_out`` judges who signs.

    Only the owner's custodians: those of another organisation could try whether a patient is on its list.
    """
    theirs = all(registration.owner == who.organisation for registration in registrations)
    return "custodian" in who.roles and bool(registrations) and theirs


def may_see_source(who: Who) -> bool:
    """Paths of an archive can tell about patients."""
    return "custodian" in who.roles


def may_read_log(who: Who) -> bool:
    return bool(who.roles & {"custodian", "admin"})


def may_see_broker(who: Who) -> bool:
    return bool(who.roles & {"custodian", "admin"})


def may_upload(who: Who) -> bool:
    return "researcher" in who.roles
