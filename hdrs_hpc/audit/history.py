"""What a log says has become of each thing, as far as its replay has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.core.errors import BadDocumentError

CLOCK_TOLERANCE = timedelta(seconds=5)
"""How far back time may seem to go between two entries: several processes write, NTP may step."""

TERMINAL = {"project-moved": "CLOSED", "copy-moved": "DESTROYED", "job-moved": "PURGED"}
"""The state that nothing leaves, by the event that tells of moves."""


class HistoryImpossibleError(BadDocumentError):
    code = "audit-history-impossible"
    meaning = "The log tells of something that the broker's rules can't have let happen."
    remedy = (
        "Stop trusting this broker until its operator explains the entry named; keep this copy of the log."
    )


class TimeBackwardsError(HistoryImpossibleError):
    code = "audit-time-backwards"
    meaning = "The log's clock goes backwards further than clocks of honest processes differ."


@dataclass(slots=True)
class Key:
    project: str
    holder: str | None
    role: str
    not_after: datetime | None = None
    destroyed: datetime | None = None


@dataclass(slots=True)
class Copy:
    project: str
    state: str | None = None
    key: str | None = None
    sealed: bool = False
    failed: bool = False
    manifest: str | None = None
    objects: int = 0
    dataset: str | None = None
    opt_out: str | None = None
    """Digest of the opt-out list that it was made under."""
    removed: bool = False
    tried: tuple[int, int, int] | None = None
    """Files and bytes that lay there after the key's end, and how many samples of them were tried."""


@dataclass(slots=True)
class Attempt:
    project: str
    job: str
    keys: set[str] = field(default_factory=set)
    submitted: bool = False
    ended: bool = False
    closed: bool = False
    removed: bool = False
    tried: tuple[int, int, int] | None = None
    cluster: str | None = None
    bound: dict[str, str] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)
    """Input → the copy that what is served of it was chosen from."""
    runtimes: set[str] = field(default_factory=set)
    """Digests of the node runtimes that its bound nodes run."""
    answers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Kept:
    """An output that stays in the project, or was to."""

    project: str
    job: str
    attempt: str
    key: str | None = None
    manifest: str | None = None
    removed: bool = False
    tried: tuple[int, int, int] | None = None


@dataclass(slots=True)
class Job:
    project: str
    state: str | None = None
    outcome: str | None = None
    filed: list[str] = field(default_factory=list)
    opened: tuple[str, ...] = ()
    checkers: frozenset[str] = frozenset()
    checked: dict[str, str | None] = field(default_factory=dict)
    released: dict[str, str] = field(default_factory=dict)
    withheld: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Project:
    grant_version: int = 0
    grant: str | None = None
    reviewers: int = 0
    run_until: datetime | None = None
    destroy_by: datetime | None = None
    state: str | None = None
    frozen: bool = False
    certified: bool = False
    places: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class History:
    """What a whole log says, by thing; the replay fills it."""

    entries: int = 0
    roots: list[tuple[int, str]] = field(default_factory=list)
    projects: dict[str, Project] = field(default_factory=dict)
    copies: dict[str, Copy] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)
    """Attempt/output → what became of it."""
    keys: dict[str, Key] = field(default_factory=dict)
    runtimes: set[tuple[str, str]] = field(default_factory=set)
    """(cluster, digest) of the node runtimes that are registered."""
    flavours: set[tuple[str, str]] = field(default_factory=set)
    """The same of flavours."""
    opt_outs: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """Dataset → version, document and digest of its opt-out list in force."""
    opt_out_lists: dict[str, set[str]] = field(default_factory=dict)
    """Dataset → digest of every opt-out list that it ever had."""
    late: list[str] = field(default_factory=list)
    """Keys that were destroyed after the grant's destroy-by: possible, and worth a finding."""

    def of_project[T: Copy | Kept | Job | Attempt | Key](
        self, things: dict[str, T], project: str
    ) -> dict[str, T]:
        return {name: thing for name, thing in things.items() if thing.project == project}

    def granted(self, entry: Entry) -> Project:
        """The project that the entry is about, which must have a grant."""
        return _known(self.projects.get(entry.subject["project"]), "no grant was accepted for this project")

    def giving(self, entry: Entry) -> Project:
        """The same for a step that gives something: neither frozen, nor closing, nor past its end."""
        project = self.granted(entry)
        stopped = project.frozen or project.state in ("CLOSING", "CLOSED")
        require(not stopped, "the project is frozen or closing")
        if project.run_until is not None:
            require(entry.moment <= project.run_until + CLOCK_TOLERANCE, "the grant's run-until has passed")
        return project

    def copy(self, entry: Entry) -> Copy:
        self.granted(entry)
        copy = self.copies.setdefault(entry.subject["copy"], Copy(entry.subject["project"]))
        require(copy.project == entry.subject["project"], "a copy of another project")
        return copy

    def job(self, entry: Entry) -> Job:
        job = _known(self.jobs.get(entry.subject["job"]), "a job that was never received")
        require(job.project == entry.subject["project"], "a job of another project")
        return job

    def attempt(self, entry: Entry) -> Attempt:
        attempt = _known(self.attempts.get(entry.subject["attempt"]), "an attempt that was never created")
        require(attempt.project == entry.subject["project"], "an attempt of another project")
        require(attempt.job == entry.subject["job"], "an attempt of another job")
        return attempt

    def kept_output(self, entry: Entry) -> Kept:
        attempt = self.attempt(entry)
        place = f"{entry.subject['attempt']}/{entry.subject['artefact']}"
        return self.kept.setdefault(
            place, Kept(attempt.project, entry.subject["job"], entry.subject["attempt"])
        )

    def key(self, entry: Entry, name: str) -> Key:
        """A key of the entry's project that was not destroyed."""
        key = _known(self.keys.get(name), "a key that was never made")
        require(key.project == entry.subject["project"], "a key of another project")
        require(key.destroyed is None, "a key that was destroyed before")
        return key

    def usable_key(self, entry: Entry, name: str) -> Key:
        """The same, and not past its expiry."""
        key = self.key(entry, name)
        if key.not_after is not None:
            require(entry.moment <= key.not_after + CLOCK_TOLERANCE, "a key past its expiry")
        return key


def require(holds: bool, otherwise: str) -> None:
    """Raise :class:`HistoryImpossibleError` unless it holds; the replay adds which entry it is."""
    if not holds:
        raise HistoryImpossibleError(otherwise)


def require_tried(tried: tuple[int, int, int] | None, removed: Entry) -> None:
    """What an entry says was unlinked must be what was measured and tried before."""
    require(tried is not None, "objects were unlinked before anybody tried whether they open")
    what = (removed.detail["objects"], removed.detail["bytes"])
    require(tried is not None and tried[:2] == what, "other objects were unlinked than were there")


def moved(state: str | None, entry: Entry) -> str:
    """The state after a move, which must begin where the last one ended."""
    before, after = entry.detail["from"], entry.detail["to"]
    require(state != TERMINAL[entry.event], f"nothing leaves {state}")
    require(state is None or before == state, f"it was {state}, not {before}")
    require(before != after, "a move to the same state")
    return str(after)


def _known[T](thing: T | None, otherwise: str) -> T:
    if thing is None:
        raise HistoryImpossibleError(otherwise)
    return thing


type Rule = Callable[[History, Entry], None]
"""Reads one entry, updates the history, raises :class:`HistoryImpossibleError`."""
