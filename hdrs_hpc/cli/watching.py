"""Following a job: one line a change of state, and a bar of what its agent measured."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from hdrs_hpc.cli import show

if TYPE_CHECKING:
    from hdrs_hpc.client.session import Session

EVERY_S = 1.0
TRIES = 10
_DOING = {
    "RECEIVED": "waits for the controller's next look",
    "ADMITTED": "every rule holds",
    "STAGING": "data are staged",
    "QUEUED": "waits at the cluster",
    "RUNNING": "runs",
    "COLLECTING": "outputs are collected and checked",
    "IN_REVIEW": "waits for the output checkers",
    "RELEASING": "approved outputs go out",
    "PURGING": "is cleaned away",
    "PURGED": "over",
}


def watch(
    session: Session, job_id: str, *, as_json: bool, until: tuple[str, ...] = ("IN_REVIEW", "PURGED")
) -> int:
    """Follow a job until it is in one of the states ``until``; gives the exit code of what became of it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    console = Console(stderr=True, highlight=False)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[told]}"),
    )
    last: tuple[str, str | None] | None = None
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("asks the broker", total=None, told="")
        while True:
            job = _ask(session, job_id)
            state = (str(job["state"]), job["waits-for"])
            if state != last:
                progress.print(_line(job), markup=False)
                last = state
            _draw(progress, bar, job)
            if job["state"] in until or job["state"] == "PURGED":
                break
            time.sleep(EVERY_S)
    if as_json:
        show.emit_json(job)
    else:
        end(job)
    return exit_code(job)


def exit_code(job: dict[str, Any]) -> int:
    """0 for a job that succeeded or is still in review, else that of its kind of end."""
    from hdrs_hpc.core.errors import ConflictError, NotAllowedError, SiteError, StoppedError

    return {
        None: 0,
        "SUCCEEDED": 0,
        "REFUSED": NotAllowedError.exit_code,
        "FAILED": SiteError.exit_code if job["tes-state"] == "SYSTEM_ERROR" else ConflictError.exit_code,
        "CANCELLED": StoppedError.exit_code,
        "EXPIRED": NotAllowedError.exit_code,
    }.get(job["outcome"], 0)


def end(job: dict[str, Any]) -> None:
    """The last words on a job, and what to do next."""
    if job["state"] == "IN_REVIEW":
        click.echo(
            f"job {job['id']} is in review: {job['reviews-done']} of {job['reviews-needed']} have decided"
        )
        return
    click.echo(
        f"job {job['id']}: {job['outcome'] or job['state']}" + (f", {job['reason']}" if job["reason"] else "")
    )
    for rule in (job["decision"] or {}).get("rules", ()):
        if not rule["ok"]:
            click.echo(f"  {rule['code']}: {rule['message']}\n    → {rule['remedy']}")
    if job["detail"]:
        click.echo(f"  {crash(job['detail'])}")
    if remedy := mend(job):
        click.echo(f"    → {remedy}")
    released = [item["name"] for item in job["artefacts"] if item["state"] == "released"]
    if released:
        click.echo(f"  released: {', '.join(released)}; get them with `hdrs-hpc job fetch {job['id']}`")


BEFELL = {
    "no-network": "your code reached for an address, and a job has no network",
    "process-killed": "a process of the training was killed",
    "process-exited": "a process of the training ended itself",
    "process-ended-early": "a process of the training came back from the entry while another waited for it",
    "process-not-joined": "a process of the training did not come to the rendezvous in time",
    "program-not-run": "the node does not run your program: it is for another machine, or its interpreter is not there",
    "materialised-too-large": "what your program needs as files is larger than `materialise-size` or than memory",
}
"""Ends that are told by what befell a process."""


def crash(detail: dict[str, Any]) -> str:
    """What may be told of a crash, as a sentence: the exception's type and the line of the bundle."""
    ending = detail.get("ending")
    if ending == "not-started":
        return "your code did not start: the sandbox or the workers did not come up"
    if ending == "out-of-time":
        return "your code was stopped at its time limit"
    if ending == "too-many-processes":
        return "your code had as many processes and threads as it may have"
    if ending == "out-of-memory":
        taken = detail.get("memory") or {}
        by = (
            "the kernel held it to that" if taken.get("wall") == "cgroup" else "the node's agent was watching"
        )
        return f"your code took {taken.get('took-mb')} MiB of memory and had {taken.get('had-mb')}; {by}"
    place = detail.get("bundle-line")
    at = f" at {place['file']} line {place['line']}" if place else ""
    if ending in BEFELL:
        signal = f" (signal {detail['signal']})" if detail.get("signal") else ""
        return f"{BEFELL[ending]}{signal}{at}"
    if ending not in ("crashed", "exited"):
        return ", ".join(
            f"{name} {value}" for name, value in detail.items() if value not in (None, "", [], {})
        )
    if detail.get("signal"):
        why = " (the kernel does so when memory runs out)" if detail["signal"] == 9 else ""
        return f"your code was ended by signal {detail['signal']}{at}{why}"
    if place and detail.get("exception-type") == "EntryError":
        return f"your code did not start: {place['file']} has no function of the entry's name"
    if detail.get("exception-type"):
        return f"your code stopped with {detail['exception-type']}{at}"
    return f"your code stopped with exit code {detail.get('exit-code')}{at}"


def mend(job: dict[str, Any]) -> str | None:
    """What ``explain`` says can be done about a failed job, such as one whose node failed."""
    from hdrs_hpc.cli import reasons

    if job["outcome"] != "FAILED" or job["reason"] == "workload-failed":
        return None  # of one's own code the crash itself tells what there is to tell
    found = [item.remedy for item in reasons.known() if item.code == job["reason"]]
    return found[0].replace("JOB", job["id"]) if found else None


def _ask(session: Session, job_id: str) -> dict[str, Any]:
    """The job, asked again a few times if the broker is away for a moment."""
    from hdrs_hpc.client import jobs
    from hdrs_hpc.client.http import BrokerUnreachableError

    for attempt in range(TRIES):
        try:
            return jobs.one(session, job_id)
        except BrokerUnreachableError:
            if attempt == TRIES - 1:
                raise
            time.sleep(EVERY_S * 2)
    raise AssertionError("unreachable")


def _line(job: dict[str, Any]) -> str:
    waits = f"; waits: {job['waits-for']}" if job["waits-for"] else ""
    outcome = f" {job['outcome']}" if job["outcome"] else ""
    return f"{job['changed-at']}  {job['id']}  {job['state']}{outcome}  {_DOING.get(job['state'], '')}{waits}"


def _draw(progress: Any, bar: Any, job: dict[str, Any]) -> None:
    done, total, size = _measured(job)
    lasted_s = lasted(job)
    told = [f"{done}/{total} items", show.size(size)] if total else []
    if job["state"] == "RUNNING":
        told.append(f"{duration(lasted_s)} of at most {duration(job['time'])}")
    elif job["state"] == "STAGING" and 0 < done < total:
        told.append(f"about {duration(lasted_s * (total - done) / done)} left")
    else:
        told.append(duration(lasted_s))
    progress.update(
        bar,
        description=f"{job['state']} {_DOING.get(job['state'], '')}",
        total=total or (job["time"] if job["state"] == "RUNNING" else None),
        completed=done if total else min(lasted_s, job["time"]),
        told=", ".join(told),
    )


def lasted(job: dict[str, Any]) -> float:
    """Seconds that the job has been in its state, by the broker's clock: this machine's may be wrong."""
    from hdrs_hpc.core import clock

    return max(0.0, (clock.from_text(job["now"]) - clock.from_text(job["changed-at"])).total_seconds())


def duration(seconds: float) -> str:
    """``42 s``, ``7 min``, ``3 h 20 min``, ``2 d 4 h``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60 % 60, whole // 3600 % 24, whole // 86400
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    return " ".join([f"{number} {unit}" for number, unit in parts if number][:2])


def attempt_state(job: dict[str, Any], attempt: dict[str, Any]) -> str:
    """What became of an attempt, in Slurm's words, but where these would hide that it failed.

    The agent ends well although the workload did not, so that it can seal what it has to tell: for Slurm that is
    COMPLETED.
    """
    if attempt["state"] == "COMPLETED" and job["outcome"] == "FAILED":
        return "FAILED (Slurm's job ended in order)"
    return attempt["state"] or "not yet seen"


def _measured(job: dict[str, Any]) -> tuple[int, int, int]:
    """Items done, items in all, bytes: of the stagers or of the agent, whoever is at work; zeros for neither."""
    if job["state"] == "STAGING" and job["staging"]:
        told = job["staging"]
        return told["items-done"], told["items-total"], told["bytes-done"]
    if job["state"] == "RUNNING" and job["attempts"]:
        told = job["attempts"][-1]["progress"] or {}
        return told.get("items-read", 0), told.get("items-total", 0), told.get("bytes-read", 0)
    return 0, 0, 0
