"""Nothing that identifies anybody, and no pixel in clear, is anywhere but in the source: during a life and after it."""

from __future__ import annotations

import base64
import contextlib
import secrets
import shutil
from pathlib import Path

import psutil
import pytest

from hdrs_hpc.broker.keyd.keystore import FileKeystore
from hdrs_hpc.broker.store import jobs
from hdrs_hpc.cli.demo.canaries import read_list
from hdrs_hpc.cli.demo.scanner import Scanner
from hdrs_hpc.protocol import layout, outputs
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from hdrs_hpc.sealing.reader import SealedCopy
from tests.conftest import MakeWorld, has_bubblewrap
from tests.support import proofs, slurm_site
from tests.support.canary_watch import CanaryWatch
from tests.support.elsewhere import in_another_process
from tests.support.world import TestArchive, World, make_test_archive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

READS_ALL_THEN_WAITS = """
import os, pickle, time
import numpy

def run(context):
    client = context.client
    items = [(copy, row["item"]) for copy in context.data.values() for row in copy.index().to_pylist()
             if row["kind"] == "volume"]
    futures = [client.submit(load, item, copy, pure=False) for copy, item in items]
    kept = client.gather(futures)                       # plaintext, in the memory of client and workers
    with open(os.path.join(os.environ["TMPDIR"], "spilled.npy"), "wb") as spilled:
        numpy.save(spilled, kept[0])
    seen = [pickle.dumps(list(context.data.values())), pickle.dumps((load, items))]
    seen += [pickle.dumps(client.scheduler_info(n_workers=-1)), pickle.dumps(client.run_on_scheduler(messages))]
    seen += [look(), *client.run(look).values()]
    context.output("seen").write_bytes(b"\\n".join(seen)[: 8 << 20])
    with open("/proc/self/comm", "w") as comm:
        comm.write("SIGNAL")                            # seen from outside: everything was read, and is held
    time.sleep(10)

def load(item, copy):
    return copy.volume(item)[:]

def messages(dask_scheduler):
    return [(str(key), repr(task.run_spec), list(task.metadata or ())) for key, task in dask_scheduler.tasks.items()]

def look():
    parts = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        parts += [read(f"/proc/{pid}/{name}") for name in ("environ", "cmdline", "maps", "status")]
        try:
            parts += [read(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
    for folder in (os.environ["TMPDIR"], "/proc/self/cwd"):
        for parent, _, names in os.walk(folder):
            parts += [read(os.path.join(parent, name)) for name in names]
    return b"\\n".join(parts)

def read(path):
    try:
        if not os.path.isfile(path):
            return os.fsencode(path)
        with open(path, "rb") as file:
            return os.fsencode(path) + file.read(1 << 16)
    except OSError:
        return b""
"""
COLUMNS = {"what": {"key": ["all"]}, "n": {"count": "patients"}}
SEEN = {"seen": {"class": "table", "path": "seen.csv", "columns": COLUMNS, "max-size": "8MiB"}}


def begin(world: World, signal: str) -> str:
    files = {"watching.py": READS_ALL_THEN_WAITS.replace("SIGNAL", signal)}
    return world.submit_bundle(files, "watching:run", outputs=SEEN)


def is_waiting(signal: str) -> bool:
    """Whether a process of this name runs: the workload holds all that it read and sleeps."""
    return any(process.info["name"] == signal for process in psutil.process_iter(["name"]))


def keys_of(world: World, job: str) -> dict[str, bytes]:
    """The keys themselves, from a copy of keyd's store: copies', bundle's, outputs', de-identification's."""
    folder = world.root / f"keyd-copy-{secrets.token_hex(4)}"
    shutil.copytree(world.home.keyd_dir, folder, ignore=shutil.ignore_patterns("*.sock"))
    store = FileKeystore(folder)
    found = {
        f"{record.role} {record.holder}": store.key(world.project, record.role, record.holder)
        for record in store.live(world.project)
    }
    store.close()
    shutil.rmtree(folder)
    assert {name.split()[0] for name in found} >= {"copy", "output", "bundle", "deid"}
    return found


def forms(key: bytes) -> list[bytes]:
    plain = base64.b64encode(key)
    return [key, plain, plain.rstrip(b"="), base64.urlsafe_b64encode(key).rstrip(b"="), key.hex().encode()]


def holds_key(content: bytes, keys: dict[str, bytes]) -> list[str]:
    return [
        name
        for name, key in keys.items()
        for form in forms(key)
        if form in content or form.upper() in content
    ]


def check_no_key_outside_keyd(world: World, keys: dict[str, bytes], more: tuple[Path, ...] = ()) -> int:
    """No file of broker, site or Slurm, and no process' environment or command line, holds a key; gives the count."""
    known = proofs.roots(world)
    files = [
        path
        for path in proofs.files_below(known["home"], known["scratch"], *more)
        if path.suffix != ".tar" and path.is_file()
    ]
    assert in_another_process(files_with_key, files, keys) == []
    for process in Path("/proc").iterdir():
        for part in ("environ", "cmdline"):
            with contextlib.suppress(OSError):
                assert holds_key((process / part).read_bytes(), keys) == [], process
    return len(files)


def files_with_key(files: list[Path], keys: dict[str, bytes]) -> list[Path]:
    found = []
    for path in files:
        with contextlib.suppress(FileNotFoundError):  # journals come and go
            if holds_key(path.read_bytes(), keys):
                found.append(path)
    return found


def what_the_workload_saw(world: World, job: str, keys: dict[str, bytes]) -> bytes:
    """Its own dump, opened from the sealed outputs in the quarantine."""
    with world.ctx.db.read() as tx:
        attempt = jobs.attempts_of(tx, job)[-1].name
    cluster = world.ctx.cluster(world.cluster, world.project)
    raw = cluster.read_file(*layout.closing_parts(world.project, attempt), max_bytes=4096)
    assert raw is not None
    sealed = SealedCopy.open(
        DirectoryStore(world.home.quarantine_dir(attempt) / "sealed"),
        keys[f"output {attempt}"],
        "output",
        world.project,
        attempt,
        outputs.parse_pointer(raw).manifest_digest,
    )
    return sealed.read(f"{layout.OUTPUT_PREFIX}seen")


def watched_life(world: World, more: tuple[Path, ...] = (), timeout_s: float = 120) -> None:
    """A life in which everything is searched while the workload holds plaintext, in review, and at the end."""
    watch = CanaryWatch(world, more)
    source = Scanner(read_list(world.canaries))
    source.scan_tree(Path(world.archive.radiology))
    source.scan_tree(Path(world.archive.pathology))
    assert source.report().found == world.archive.canaries, (
        "the scanner finds every one of them in the source"
    )

    world.grant()
    signal = f"held-{secrets.token_hex(4)}"
    job = begin(world, signal)
    world.run_until(lambda: is_waiting(signal) or world.job(job).state == "PURGED", timeout_s)
    assert world.job(job).state == "RUNNING", world.describe()
    keys = keys_of(world, job)
    nothing_found(watch)
    assert check_no_key_outside_keyd(world, keys, more) > 20
    assert proofs.check_places(world, "home", "scratch") > 20
    assert world.run_job(job, "IN_REVIEW", "PURGED", timeout_s=timeout_s).state == "IN_REVIEW", (
        world.describe()
    )
    seen = what_the_workload_saw(world, job, keys)
    for planted in keys.values():
        assert all(holds_key(seen + form, keys) for form in forms(planted)), "a key would have been found"
    assert b"HDRS_DATA_SOCKET" in seen
    assert len(seen) > 1 << 16
    assert holds_key(seen, keys) == []
    nothing_found(watch)

    world.close()
    world.run_until(lambda: world.project_state() == "CLOSED", timeout_s)
    nothing_found(watch)
    proofs.check_closed(world)
    assert proofs.check_places(world, "home", "scratch") > 10


def nothing_found(watch: CanaryWatch) -> None:
    report = watch.look()
    assert report.found == 0, report.as_text()
    assert report.files > 8
    ours = tuple(map(str, (watch.world.root, proofs.roots(watch.world)["scratch"], *watch.more)))
    # Others may leave in /tmp what is too large to unpack, and not every process shows root its environment.
    assert [place for place in report.unread if place.startswith(ours)] == [], report.as_text()


@pytest.fixture(scope="module")
def own_archive(short_tmp: Path) -> TestArchive:
    """Under a seed of its own, so that nobody else's archive on this machine holds the same canaries."""
    return make_test_archive(short_tmp / "canaries", seed=secrets.randbits(32))


def test_local_life(make_world: MakeWorld, own_archive: TestArchive) -> None:
    isolation = "sandboxed" if has_bubblewrap() else "cooperative"
    watched_life(make_world(isolation=isolation, archive=own_archive))


@pytest.mark.root_parts
def test_slurm_life(make_slurm_world: MakeWorld, own_archive: TestArchive) -> None:
    world = make_slurm_world(archive=own_archive)
    slurm = tuple(slurm_site.STATE / name for name in ("spool", "slurmctld", "mysql", "log", "home", "etc"))
    watched_life(world, slurm, timeout_s=240)
