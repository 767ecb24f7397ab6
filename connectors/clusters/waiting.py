"""Why a job waits at the cluster: Slurm's reason codes in words for the person who waits.

The codes are those of squeue's manual page ("JOB REASON CODES"), grouped by who can do something about them.
"""

from __future__ import annotations

import re

_NODES_AWAY = "nodes that it needs are down, drained or reserved; the site's admins bring them back"
_SITE_ONLY = "ask the site's admins"

WAITING: dict[str, str] = {
    # its turn has not come
    "Priority": "jobs with a higher priority are before it",
    "Resources": "it is next, and waits for nodes to become free",
    "BeginTime": "its earliest time to begin has not come",
    "Prolog": "the nodes are being prepared",
    "Cleaning": "an earlier run of it is still being cleaned up",
    "BurstBufferStageIn": "the site's burst buffer is being filled",
    # somebody holds it
    "JobHeldAdmin": "an admin of the site holds it; only they can release it",
    "JobHeldUser": "it is held by the project's account at the site; `scontrol release` there lets it go",
    "JobHoldMaxRequeue": f"it was requeued too often and is held; {_SITE_ONLY}",
    # nodes
    "NodeDown": _NODES_AWAY,
    "ReqNodeNotAvail": _NODES_AWAY,
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": _NODES_AWAY,
    "Reservation": "its reservation has not begun",
    "ReservationDeleted": f"its reservation was deleted; {_SITE_ONLY}",
    "MaintenanceReservation": "the nodes are reserved for maintenance",
    "BadConstraints": "no node of the site can ever give what it asks for; cancel it and ask for less",
    # the partition
    "PartitionDown": "the partition takes no new work; the site's admins open it again",
    "PartitionInactive": "the partition is inactive; the site's admins open it again",
    "PartitionConfig": "it asks for more than the partition gives; cancel it and ask for less",
    "PartitionNodeLimit": "it asks for more nodes than the partition gives one job, or some of them are down",
    "PartitionTimeLimit": "it asks for more time than the partition gives; cancel it and ask for less",
    # the account
    "AccountingPolicy": "the project's account is at a limit of the site",
    "InvalidAccount": f"the project's Slurm account is not valid; {_SITE_ONLY}",
    "InvalidQOS": f"the quality of service of the project's account is not valid; {_SITE_ONLY}",
    "Licenses": "it waits for a licence of the site",
    "Dependency": "it waits for another Slurm job",
    "DependencyNeverSatisfied": "it waits for a Slurm job that can no longer end as needed; cancel it",
    # slurmctld itself
    "None": "Slurm has not looked at it yet",
    "SystemFailure": f"Slurm met a failure of its own; {_SITE_ONLY}",
    "LaunchFailed": f"Slurm could not start it, and tries again; {_SITE_ONLY} if it stays so",
    "FedJobLock": "another cluster of the site's federation decides about it",
}
"""Slurm's reason → what it means for who waits."""

_HOLDERS = {"Assoc": "the project's account", "QOS": "its quality of service"}


def why_waits(reason: str) -> str:
    """A sentence for a reason as squeue prints it; what is not known is told in Slurm's own word.

    Reasons may carry more after a comma or in brackets, such as ``ReqNodeNotAvail, UnavailableNodes:n[1-4]``:
    names of nodes are the admins' business and are left out.
    """
    word = reason.strip().strip("()")
    known = WAITING.get(word) or WAITING.get(word.partition(",")[0].strip())
    if known is not None:
        return known
    plain = word.partition(",")[0].strip()
    if re.fullmatch(r"(Assoc|QOS)\w+", plain):
        holder = _HOLDERS["Assoc" if plain.startswith("Assoc") else "QOS"]
        return f"{holder} is at a limit of the site ({plain})"
    if re.fullmatch(r"\w{1,60}", plain, re.ASCII):
        return f"Slurm says {plain}"
    return "Slurm says why, in words unknown here"
