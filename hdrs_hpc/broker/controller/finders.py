"""How each place of ``audit/places.py`` is looked at after a project's end: one finder a place.

A finder never says more than it did: it gives the sentence that tells what was looked at, and raises where a place
is not as it must be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from connectors.clusters import JobPhase
from hdrs_hpc.audit.places import PLACES, UNVERIFIED, Method
from hdrs_hpc.broker.controller import processes
from hdrs_hpc.broker.controller.steps.samples import Tried
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.client import KeydRefusedError
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import artefacts
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.store.jobs import Attempt, Job
from hdrs_hpc.broker.store.kept import KeptOutput
from hdrs_hpc.broker.store.projects import Project
from hdrs_hpc.core.errors import SiteError
from hdrs_hpc.protocol import layout

FOUND = "found"
UNREACHABLE = "unreachable"


class PlaceNotEmptyError(SiteError):
    code = "place-not-empty"
    meaning = "A place that must be empty by now is not, or could not be looked at; no certificate is issued."
    remedy = "Look what is there; the broker looks again at every tick."


class KeyStillThereError(SiteError):
    code = "key-still-there"
    meaning = "keyd still holds or gives a key of the project; no certificate is issued."
    remedy = "Look at keyd's log; the broker destroys again at every tick."


@dataclass(frozen=True)
class Subject:
    """What belonged to the project that is certified."""

    project: Project
    copies: tuple[Copy, ...]
    kept: tuple[KeptOutput, ...]
    jobs: tuple[Job, ...]
    attempts: tuple[tuple[Attempt, Job], ...]
    key_ends: dict[str, str]
    """Key id → when it was destroyed, as keyd says."""
    key_ids: dict[tuple[str, str], str]
    """(role, holder) → key id."""
    deid_destroyed: bool
    master_rotated: bool
    copies_tried: dict[str, Tried]
    """What lay of each copy, and of each attempt, before it was unlinked, from the log."""
    attempts_tried: dict[str, Tried]
    kept_tried: dict[str, Tried]
    """The same of each kept output, by attempt and output."""
    quarantine: tuple[int, int]
    """Files and bytes that were removed from the data zone with the jobs, from the log."""

    @property
    def tried(self) -> list[Tried]:
        return [*self.copies_tried.values(), *self.kept_tried.values(), *self.attempts_tried.values()]


@dataclass(frozen=True)
class Found:
    """What one place was found to be, and what was done to know it.

    ``count`` and ``size`` (bytes) are what had been there, as counted before it went; None: nobody counted.
    """

    result: str
    how: str
    count: int | None = None
    size: int | None = None

    @property
    def amount(self) -> dict[str, int]:
        told = {"count": self.count, "bytes": self.size}
        return {name: number for name, number in told.items() if number is not None}


Finder = Callable[[OpenBroker, Subject], Found]


def is_verified(name: str, found: Found) -> bool:
    """Whether the row may call itself verified: its place can be looked at, and was."""
    return PLACES[name].verified_by not in UNVERIFIED and found.result not in (
        FOUND,
        UNREACHABLE,
    )


def _outside(_broker: OpenBroker, _subject: Subject) -> Found:
    return Found(
        "outside", "not looked at: it belongs to the hospital and stays, whatever becomes of the project"
    )


def _not_checked(_broker: OpenBroker, _subject: Subject) -> Found:
    return Found("not-checked", "not looked at: by design it has no field in which patient data could stand")


def _ended(broker: OpenBroker, subject: Subject) -> Found:
    """Every cluster job of the project is over, so are the processes, mounts and memory that it had."""
    if not subject.attempts:
        return Found("never-made", "the database knows no attempt of the project")
    by_cluster: dict[str, list[str]] = {}
    for attempt, job in subject.attempts:
        by_cluster.setdefault(job.cluster or "", []).append(attempt.name)
    ended = forgotten = 0
    for cluster, names in by_cluster.items():
        lookup = broker.cluster(cluster, subject.project.name).find(sorted(names))
        for found in lookup.jobs.values():
            if any(item.phase is not JobPhase.ENDED for item in found):
                raise PlaceNotEmptyError(
                    "the cluster says that a job of the project is not over", where=cluster
                )
            ended, forgotten = ended + len(found), forgotten + (not found)
    how = f"asked the cluster for {len(subject.attempts)} attempts by name: {ended} jobs ended, none alive"
    how += f"; {forgotten} attempts have no job there" if forgotten else ""
    return Found("ended", f"{how}; nobody looked on the nodes", ended)


def _gpu(_broker: OpenBroker, subject: Subject) -> Found:
    if not subject.attempts:
        return Found("never-made", "the database knows no attempt of the project")
    return Found(
        "not-proven",
        "not looked at: the driver clears it for the next process, which nobody sees from outside",
    )


def _stager_ended(_broker: OpenBroker, subject: Subject) -> Found:
    return _processes_gone([copy.id for copy in subject.copies], "copies", "parsers end with their stager")


def _checker_ended(_broker: OpenBroker, subject: Subject) -> Found:
    return _processes_gone(
        [attempt.name for attempt, _ in subject.attempts], "attempts", "a checker ends with its collector"
    )


def _processes_gone(names: list[str], what: str, children: str) -> Found:
    if not names:
        return Found("never-made", f"the database knows no {what} of the project")
    looked, naming = processes.naming(names)
    if naming:
        raise PlaceNotEmptyError(f"{naming} processes of this machine name one of the project's {what}")
    how = (
        f"no command line of {looked} processes of this machine names one of {len(names)} {what}; {children}"
    )
    return Found("ended", how)


def _key_store(broker: OpenBroker, subject: Subject) -> Found:
    asked = check_keys(broker, subject)
    count = len(subject.key_ends)
    how = f"keyd lists no key of the project and refused each of {asked} that it was asked for; {count} were destroyed"
    return Found("empty", how, count)


def _sealed_copies(broker: OpenBroker, subject: Subject) -> Found:
    listed = _list_scratch(broker, subject, "copies", {copy.cluster for copy in subject.copies})
    if not subject.copies:
        return Found("never-made", "the database knows no copy of the project")
    asked = check_keys(broker, subject)
    missing = [copy.id for copy in subject.copies if copy.id not in subject.copies_tried]
    if missing:
        raise PlaceNotEmptyError(f"{len(missing)} copies were never looked at before they were unlinked")
    tried = subject.copies_tried.values()
    how = f"keyd refused {asked} keys; objects were measured before they were unlinked, then {listed}"
    return Found("key-gone-and-empty", how, sum(t.objects for t in tried), sum(t.bytes for t in tried))


def _kept_outputs(broker: OpenBroker, subject: Subject) -> Found:
    listed = _list_scratch(broker, subject, "kept", {row.cluster for row in subject.kept})
    if not subject.kept:
        return Found("never-made", "the database knows no output that was to stay in the project")
    asked = check_keys(broker, subject)
    missing = [row.id for row in subject.kept if f"{row.attempt}/{row.output}" not in subject.kept_tried]
    if missing:
        raise PlaceNotEmptyError(
            f"{len(missing)} kept outputs were never looked at before they were unlinked"
        )
    tried = subject.kept_tried.values()
    how = f"keyd lists none and refused {asked} keys; objects were measured before they were unlinked, then {listed}"
    return Found("key-gone-and-empty", how, sum(t.objects for t in tried), sum(t.bytes for t in tried))


def _attempts_gone(result: str, *, counted: bool = False) -> Finder:
    def find(broker: OpenBroker, subject: Subject) -> Found:
        clusters = {job.cluster for _, job in subject.attempts if job.cluster}
        listed = _list_scratch(broker, subject, "attempts", clusters)
        if not subject.attempts:
            return Found("never-made", "the database knows no attempt of the project")
        how = listed
        if result == "key-gone-and-empty":
            how = f"keyd refused {check_keys(broker, subject)} keys; {listed}"
        if not counted:
            return Found(result, how)
        missing = [
            attempt.name for attempt, _ in subject.attempts if attempt.name not in subject.attempts_tried
        ]
        if missing:
            raise PlaceNotEmptyError(
                f"{len(missing)} attempts were never looked at before they were unlinked"
            )
        tried = subject.attempts_tried.values()
        how += "; counted are all files of the attempts, bundle and progress included"
        return Found(result, how, sum(t.objects for t in tried), sum(t.bytes for t in tried))

    return find


def _list_scratch(broker: OpenBroker, subject: Subject, folder: str, clusters: set[str]) -> str:
    """List a folder of the project on each cluster; raises when anything but folders is there."""
    name = subject.project.name
    for cluster in clusters:
        left = broker.cluster(cluster, name).list_tree(*layout.project_parts(name), folder)
        _require_empty([path for path in left if not path.endswith("/")], f"{folder} on {cluster}")
    return f"{folder}/ was listed on {len(clusters)} clusters and held no file"


def _folders_gone(folders: Callable[[OpenBroker, Subject], list[Path]], result: str = "empty") -> Finder:
    def find(broker: OpenBroker, subject: Subject) -> Found:
        expected = folders(broker, subject)
        if not expected:
            return Found("never-made", "the database knows nothing of the project that could have made it")
        _require_empty([path.name for path in expected if path.exists()], "the data zone")
        how = f"looked for {len(expected)} names in the data zone; none is there"
        if result == "key-gone-and-empty":
            how = f"keyd refused {check_keys(broker, subject)} keys; {how}"
        return Found(result, how)

    return find


def _quarantine_gone(broker: OpenBroker, subject: Subject) -> Found:
    found = _folders_gone(_quarantine, "key-gone-and-empty")(broker, subject)
    if found.result == "never-made":
        return found
    how = f"{found.how}; counted with it: what waited for review"
    return replace(found, how=how, count=subject.quarantine[0], size=subject.quarantine[1])


def _staging(broker: OpenBroker, subject: Subject) -> list[Path]:
    found = [broker.home.staging_dir(copy.id) for copy in subject.copies]
    found += [broker.home.staging_dir(f"bundle-{attempt.name}") for attempt, _ in subject.attempts]
    return found + [broker.home.served_dir(attempt.name) for attempt, _ in subject.attempts]


def _selectable(broker: OpenBroker, subject: Subject) -> list[Path]:
    whole = [broker.home.selectable_file(copy.id) for copy in subject.copies]
    return whole + [path.with_name(f".{path.name}.partial") for path in whole]


def _quarantine(broker: OpenBroker, subject: Subject) -> list[Path]:
    return [broker.home.quarantine_dir(attempt.name) for attempt, _ in subject.attempts]


def _artefacts(broker: OpenBroker, subject: Subject) -> list[Path]:
    return [broker.home.artefacts_dir(job.id) for job in subject.jobs]


def _pictures(broker: OpenBroker, _subject: Subject) -> Found:
    folder = broker.home.root / "pictures"
    _require_empty([path.name for path in folder.rglob("*")] if folder.exists() else [], "pictures")
    return Found(
        "never-made",
        "looked for the folder of pictures; nothing is there, and no part of this version makes any",
    )


def _released(broker: OpenBroker, subject: Subject) -> Found:
    """Every file there is one that was released, with its record beside it."""
    count = size = 0
    for job in subject.jobs:
        folder = broker.home.released_dir(job.id)
        found = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
        if not found:
            continue
        with broker.db.read() as tx:
            names = {item.name for item in artefacts.of_job(tx, job.id) if item.release_record is not None}
        allowed = names | {f"{name}.record.json" for name in names}
        _require_empty(sorted(found.keys() - allowed), "released, without a release record,")
        count, size = count + len(found), size + sum(path.stat().st_size for path in found.values())
    if not count:
        return Found(
            "never-made", f"looked into the folders of {len(subject.jobs)} jobs; nothing was released"
        )
    how = f"listed the folders of {len(subject.jobs)} jobs; each file is a released artefact or its record"
    return Found("released-only", how, count, size)


def _require_empty(left: list[str], where: str) -> None:
    if left:
        raise PlaceNotEmptyError(f"{len(left)} things are left in {where}", where=where)


def check_keys(broker: OpenBroker, subject: Subject) -> int:
    """keyd lists no key, and when asked for each it refuses; gives how many it was asked for."""
    name = subject.project.name
    held = broker.ask(m.Inspect(name))
    if held.live or held.project_key:
        raise KeyStillThereError("keyd lists a key of the project")
    asked: list[m.UseKey] = [m.UseKey("stage", name, copy.id) for copy in subject.copies]
    asked += [
        m.UseKey(purpose, name, attempt.name)
        for attempt, _ in subject.attempts
        for purpose in ("collect", "bundle")
    ]
    for ask in asked:
        try:
            broker.ask(ask)
        except KeydRefusedError:
            continue
        raise KeyStillThereError("keyd gave a key of the project", where=ask.purpose)
    return len(asked)


_UNSEEN: dict[Method, Finder] = {Method.OUTSIDE: _outside, Method.CLOSED_SCHEMA: _not_checked}
"""Places that nobody looks at, which is said of them."""
_LOOKED_AT: dict[str, Finder] = {
    "stager-memory": _stager_ended,
    "copy-journals": _folders_gone(_staging),
    "items-map": _folders_gone(_staging),
    "selectable-values": _folders_gone(_selectable, "key-gone-and-empty"),
    "staging-report": _folders_gone(_staging),
    "key-store": _key_store,
    "quarantine": _quarantine_gone,
    "checked-artefacts": _folders_gone(_artefacts),
    "checker-memory": _checker_ended,
    "released-artefacts": _released,
    "pictures": _pictures,
    "sealed-copies": _sealed_copies,
    "kept-outputs": _kept_outputs,
    "attempt-bundle": _attempts_gone("key-gone-and-empty"),
    "attempt-served": _attempts_gone("key-gone-and-empty"),
    "attempt-outputs": _attempts_gone("key-gone-and-empty", counted=True),
    "attempt-progress": _attempts_gone("empty"),
    "node-private-folder": _ended,
    "node-memory": _ended,
    "sandbox-tmp": _ended,
    "shared-memory": _ended,
    "dask-spill": _ended,
    "compile-caches": _ended,
    "gpu-memory": _gpu,
}
FINDERS: dict[str, Finder] = {
    name: _UNSEEN.get(place.verified_by) or _LOOKED_AT[name] for name, place in PLACES.items()
}
"""How each row of ``audit/places.py`` is looked at; a test proves that none lacks, and that each can say no."""
