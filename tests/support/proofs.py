"""What must hold at the end of every life, looked at from outside: log, certificate, places, processes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from hdrs_hpc.audit import certificate, places, verify
from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.audit.export import write_export
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.store import checkpoint, copies, documents, jobs, log
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.forms.document import InvalidDocumentError
from hdrs_hpc.policy.rules import PolicyRefusedError
from tests.support.world import World

SITE_FOLDERS = ("hdrs-hpc",)


def entries(world: World) -> list[Entry]:
    with world.ctx.db.read() as tx:
        return [Entry.from_bytes(raw) for raw in log.entries(tx)]


def events(world: World) -> Counter[str]:
    """How often each event of the project was logged."""
    return Counter(entry.event for entry in entries(world) if entry.subject.get("project") == world.project)


def details(world: World, event: str) -> list[dict[str, object]]:
    return [
        dict(entry.detail)
        for entry in entries(world)
        if entry.event == event and entry.subject.get("project", world.project) == world.project
    ]


def refusal(act: Callable[[], object]) -> list[str]:
    """The reason codes with which something is refused."""
    try:
        act()
    except PolicyRefusedError as error:
        return sorted({rule.code for rule in error.results if rule.code})
    except InvalidDocumentError as error:
        return sorted({finding.code for finding in error.findings})
    except HdrsError as error:
        return [error.code]
    raise AssertionError("it was not refused")


def export(world: World, folder: Path) -> Path:
    """The log, a checkpoint over all of it and its documents, as ``audit export`` writes them."""
    signed = checkpoint.sign(world.ctx.db, world.ctx.ask)
    with world.ctx.db.read() as tx:
        write_export(folder, log.entries(tx), signed, documents.all_raw(tx).values())
    return folder


def check_log(world: World) -> verify.Report:
    """The log verifies offline under the pinned root."""
    folder = export(world, world.root / "audit-export")
    return verify.verify_dir(folder, world.root_envelope, world.root_digest)


def certificate_of(world: World) -> bytes:
    return world.home.certificate_file(world.project).read_bytes()


def check_certificate(world: World) -> verify.Report:
    """The certificate verifies offline, against the log as well."""
    folder = export(world, world.root / "audit-export")
    return certificate.verify_certificate(
        certificate_of(world), world.root_envelope, world.root_digest, audit=folder
    )


def check_closed(world: World) -> None:
    """A project that is over: proven, and nothing of it left but what may stay."""
    assert world.project_state() == "CLOSED", world.describe()
    check_log(world)
    report = check_certificate(world)
    assert report.anchored
    check_keys_once(world)
    check_nothing_left(world)


def check_keys_once(world: World) -> None:
    """Each node of an attempt was bound to one key and got one answer; each artefact left once."""
    bound, answered, released, submitted = Counter(), Counter(), Counter(), Counter()
    for entry in entries(world):
        match entry.event:
            case "handover-bound":
                bound[entry.subject["attempt"], entry.subject["node"]] += 1
            case "handover-answered":
                answered[entry.subject["attempt"], entry.subject["node"]] += 1
            case "artefact-released":
                released[entry.subject["job"], entry.subject["artefact"]] += 1
            case "attempt-submitted":
                submitted[entry.subject["attempt"]] += 1
    for counted in (bound, answered, released, submitted):
        assert all(count == 1 for count in counted.values()), counted
    assert answered.keys() <= bound.keys()


def check_nothing_left(world: World) -> None:
    """No object of the project on scratch, no folder of it on a node, no process of it anywhere."""
    cluster = world.ctx.cluster(world.cluster, world.project)
    left = [
        path
        for path in cluster.list_tree("hdrs-hpc", world.project)
        if path not in ("copies/", "attempts/", "kept/")
    ]
    assert left == []
    names = attempt_names(world)
    for folder in node_folders(world):
        assert [path.name for path in folder.iterdir() if any(name in path.name for name in names)] == []
    with world.ctx.db.read() as tx:
        mine = [*names, *(copy.id for copy in copies.of_project(tx, world.project))]
        mine += [job.id for job in jobs.of_project(tx, world.project)]
    for part in ("staging", "quarantine", "artefacts"):
        assert [path.name for path in (world.home.root / part).iterdir() if path.name in mine] == []
        assert not [
            path for path in (world.home.root / part).iterdir() if path.name.endswith(tuple(names) or "/")
        ]
    assert processes_naming(*names) == []


def live_keys(world: World) -> list[str]:
    """Roles of the project's keys that keyd holds."""
    return sorted(key.role for key in world.ctx.ask(m.Inspect(world.project)).live)


def attempt_names(world: World) -> list[str]:
    return [
        entry.subject["attempt"]
        for entry in entries(world)
        if entry.event == "attempt-created" and entry.subject["project"] == world.project
    ]


def node_folders(world: World) -> list[Path]:
    return [Path(world.ctx.cluster_settings(world.cluster).node_tmp)]


def processes_naming(*texts: str) -> list[str]:
    """Processes whose command line or environment holds one of the texts, ours excepted."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "environ"]):
        told = " ".join(process.info["cmdline"] or ()) + str(process.info["environ"] or "")
        if any(text in told for text in texts):
            found.append(f"{process.pid}: {' '.join(process.info['cmdline'] or ())[:200]}")
    return found


def cluster_jobs(world: World) -> Counter[str]:
    """How many jobs the cluster itself knows under each attempt's name."""
    names = attempt_names(world)
    cluster = world.ctx.cluster(world.cluster, world.project)
    until = time.monotonic() + 30
    # slurmdbd lags behind slurmctld by a moment; until then the broker would wait as well.
    while not (lookup := cluster.find(names)).absence_proven and time.monotonic() < until:
        time.sleep(0.5)
    assert lookup.absence_proven, lookup.doubts
    return Counter({name: len(jobs) for name, jobs in lookup.jobs.items()})


def roots(world: World) -> dict[str, Path]:
    """Where the templates of the inventory of places begin in this world."""
    cluster = world.ctx.cluster(world.cluster, world.project)
    return {
        "archive": Path(world.archive.radiology).parent,
        "home": world.home.root,
        "scratch": Path(cluster.scratch_path()),
        "node_tmp": node_folders(world)[0],
    }


def check_places(world: World, *folders: str) -> int:
    """Every file below these roots is in a registered place; gives how many were looked at."""
    known = roots(world)
    count = 0
    for path in files_below(*(known[name] for name in folders)):
        places.place_of(path, known)
        count += 1
    return count


def files_below(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        for path in folder.rglob("*"):
            if not path.is_dir():
                yield path
