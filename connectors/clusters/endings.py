"""How the cluster itself ended a job, from Slurm's word for its state."""

from __future__ import annotations

from enum import StrEnum


class SiteEnd(StrEnum):
    """How the cluster itself ended a job; its own code, or ours, ended it where none of these holds."""

    NODE_LOST = "node-lost"
    """A node, or Slurm on it, died."""
    PREEMPTED = "preempted"
    CANCELLED = "cancelled-at-site"
    """By an admin, or with the project's account there: not through the broker."""
    TIME_LIMIT = "time-limit"
    OUT_OF_MEMORY = "out-of-memory"


TOLD: dict[str, tuple[str, str]] = {
    SiteEnd.NODE_LOST: (
        "A node of the job died, or Slurm on it did, so Slurm ended the job.",
        "Not your code's fault: submit again; tell the site if it stays so.",
    ),
    SiteEnd.PREEMPTED: (
        "Slurm ended the job to make room for another of higher priority.",
        "Submit again; the site tells which partition or quality of service is not preempted.",
    ),
    SiteEnd.CANCELLED: (
        "Somebody cancelled the job at the site, not through the broker: an admin, or with the project's account.",
        "Ask the site's admins why before you submit again.",
    ),
}
"""What whoever asked for the job is told: meaning, and what to do; of the other ends our own code may be the cause."""

_ENDS: dict[str, SiteEnd] = {
    "BOOT_FAIL": SiteEnd.NODE_LOST,
    "LAUNCH_FAILED": SiteEnd.NODE_LOST,
    "NODE_FAIL": SiteEnd.NODE_LOST,
    "PREEMPTED": SiteEnd.PREEMPTED,
    "CANCELLED": SiteEnd.CANCELLED,
    "REVOKED": SiteEnd.CANCELLED,
    "DEADLINE": SiteEnd.TIME_LIMIT,
    "TIMEOUT": SiteEnd.TIME_LIMIT,
    "OUT_OF_MEMORY": SiteEnd.OUT_OF_MEMORY,
}


def site_end(state: str) -> SiteEnd | None:
    """How the cluster ended a job that is in ``state``; None where it did not."""
    return _ENDS.get(state.split(" ", 1)[0].rstrip("+").upper())
