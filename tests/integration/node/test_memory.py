"""One budget of memory, whatever a workload takes it as; and processes without number."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.clusters import local_memory
from hdrs_hpc.core.die_with_parent import descendants
from hdrs_hpc.protocol import outputs

from .conftest import Site, Work

MEM_MB = 640
WALL_SLACK_MB = 32
"""Kernel memory of a cgroup and pages on their way: more than that over the limit is no wall."""

TAKING = {
    "anonymous": "kept = [bytearray(b'x' * (64 << 20)) for _ in range(60)]",
    "tmp": "fill('/tmp')",
    "shared-memory-files": "fill('/dev/shm')",
    "outputs": "fill(str(ctx.output('result').parent))",
    "memfd": """
fds = [os.memfd_create('x') for _ in range(8)]
for _ in range(60):
    for fd in fds:
        os.write(fd, b'x' * (8 << 20))
""",
    "shared-mapping": """
import mmap
kept = mmap.mmap(-1, 4 << 30)
for at in range(0, 4 << 30, 4096):
    kept[at] = 1
""",
    "many-processes": """
for _ in range(24):
    if os.fork() == 0:
        kept = bytearray(b'x' * (128 << 20))
        time.sleep(120)
        os._exit(0)
time.sleep(60)
""",
    "half-and-half": "fill('/tmp'); kept = [bytearray(b'x' * (32 << 20)) for _ in range(60)]",
}
CODE = """
import os, time
MIB = b'x' * (1 << 20)

def fill(folder):
    for number in range(4096):
        try:
            with open(f'{folder}/fill-{number}', 'wb') as file:
                file.write(MIB)
        except OSError as error:
            assert error.errno == 28, error
            return

def run(ctx):
    ctx.output('result').write_text('{}')
    __TAKE__
    ctx.output('result').write_text('{"survived": true}')
"""


class Peak:
    """The most that an attempt's processes and its tmpfs held, looked at from outside, by the machine's own count."""

    def __init__(self) -> None:
        self.used_mb = 0
        self._ended = threading.Event()
        self._before = _used_mb()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.02):
            self.used_mb = max(self.used_mb, _used_mb() - self._before)


def _used_mb() -> int:
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return (int(fields["MemTotal"].split()[0]) - int(fields["MemAvailable"].split()[0])) >> 10


def attempt(site: Site, take: str) -> outputs.ClosingList:
    indented = take.strip().replace("\n", "\n    ")
    return site.run(
        {"mine.py": CODE.replace("__TAKE__", indented)}, "mine:run", volumes=1, mem_mb=MEM_MB, time_s=90
    )


@contextlib.contextmanager
def bounded(site: Site) -> Iterator[Path]:
    """Everything that this process starts for the site is in a cgroup of ``MEM_MB``."""
    bound = local_memory.make(f"hdrs-test-{os.getpid()}", MEM_MB)
    if bound.folder is None:
        pytest.skip("no cgroup can be made here")
    real = site._as_account
    site._as_account = lambda: [  # type: ignore[method-assign]
        *("/bin/sh", "-c", f'echo $$ > {bound.folder}/cgroup.procs; exec "$@"', "sh"),
        *real(),
    ]
    try:
        yield bound.folder
    finally:
        site._as_account = real  # type: ignore[method-assign]
        for _ in range(200):
            bound.remove()
            if not bound.folder.exists():
                break
            time.sleep(0.05)


FILES_ONLY = ("tmp", "shared-memory-files", "outputs")
"""Files alone can't pass the budget: their tmpfs holds half of it, and then there is no space left on the device."""


@pytest.mark.root_parts
@pytest.mark.parametrize("kind", TAKING)
def test_what_is_watched_ends_as_out_of_memory(
    kind: str, make_site: Callable[..., Site], capsys: pytest.CaptureFixture[str]
) -> None:
    site = make_site("sandboxed", memory_mb=MEM_MB)
    with Peak() as peak:
        closing = attempt(site, TAKING[kind])
    with capsys.disabled():
        print(
            f"\nwatched {kind}: mem {MEM_MB} MiB, peak of the machine +{peak.used_mb} MiB, {closing.workload.memory}"
        )
    if kind in FILES_ONLY:
        assert closing.workload.ending in ("exited", "out-of-memory")
        if closing.workload.ending == "exited":
            return
    assert closing.workload.ending == "out-of-memory"
    taken = closing.workload.memory
    assert taken is not None
    assert (taken.had_mb, taken.wall) == (MEM_MB, "watched")
    assert MEM_MB <= taken.took_mb <= 2 * MEM_MB


@pytest.mark.root_parts
@pytest.mark.parametrize("kind", TAKING)
def test_a_cgroup_is_a_wall_and_the_agent_lives_to_say_so(
    kind: str, make_site: Callable[..., Site], capsys: pytest.CaptureFixture[str]
) -> None:
    site = make_site("sandboxed", memory_mb=MEM_MB)
    with bounded(site) as folder:
        closing = attempt(site, TAKING[kind])
        peak = int((folder / "memory.max_usage_in_bytes").read_text()) >> 20
    with capsys.disabled():
        print(f"\ncgroup {kind}: mem {MEM_MB} MiB, peak of the cgroup {peak} MiB, {closing.workload.memory}")
    assert peak <= MEM_MB + WALL_SLACK_MB
    if kind in FILES_ONLY and closing.workload.ending == "exited":
        return
    assert closing.workload.ending == "out-of-memory"
    assert closing.workload.memory is not None
    assert closing.workload.memory.wall == "cgroup"


FORKING = """
import os, time
def run(ctx):
    ctx.output('result').write_text('{}')
    while True:
        try:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
        except OSError:
            time.sleep(0.01)
"""


@pytest.mark.root_parts
def test_a_fork_bomb_ends_as_itself(make_site: Callable[..., Site]) -> None:
    site = make_site("sandboxed")
    closing = site.run({"mine.py": FORKING}, "mine:run", volumes=1, time_s=90)
    assert closing.workload.ending == "too-many-processes"


SLEEPING = """
import time
def run(ctx):
    time.sleep(600)
"""


def test_an_attempt_whose_watch_is_killed_ends_as_unwatched(site: Site) -> None:
    inputs = {"ct": site.stage(1)}
    work = Work(site.seal_bundle({"mine.py": SLEEPING}))
    site.submit()
    hello = site.hello()
    site.deliver(site.answer(site.order(inputs, work), hello), hello)
    deadline = time.monotonic() + 60
    while (told := site.progress()) is None or told.phase != "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert site.process is not None
    watches = [pid for pid in descendants(site.process.pid) if is_watch(pid)]
    os.kill(watches[-1], signal.SIGKILL)
    assert site.wait() != 0
    told = site.progress()
    assert told is not None
    assert (told.phase, told.stop) == ("stopped", "unwatched")


def is_watch(pid: int) -> bool:
    """Not its guard, whose command line names it too."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return words[3:5] == [b"-m", b"hdrs_hpc.node.memory_watch"]
    return False


SLASH_DEV = """
import json, os
def run(ctx):
    tried = {}
    for folder in ('/dev', '/', '/etc', '/usr', '/dev/pts'):
        try:
            open(folder + '/x', 'wb').write(b'x')
            tried[folder] = 'written'
        except OSError as error:
            tried[folder] = error.errno
    open('/dev/null', 'wb').write(b'x')
    open('/dev/shm/x', 'wb').write(b'x')
    ctx.output('result').write_text(json.dumps(tried))
"""


@pytest.mark.root_parts
def test_nothing_outside_the_budget_can_be_written(make_site: Callable[..., Site]) -> None:
    site = make_site("sandboxed")
    closing = site.run({"mine.py": SLASH_DEV}, "mine:run", volumes=1)
    assert closing.workload.ending == "exited"
    assert "written" not in json.loads(site.output()).values()


SLURM = Path(os.environ.get("HDRS_SLURM_DIR", "/var/lib/hdrs-hpc-slurm"))
SLURM_USER, SLURM_ACCOUNT = "hdrs-p1", "lung-demo"


@pytest.mark.root_parts
@pytest.mark.slow
@pytest.mark.parametrize("kind", TAKING)
def test_the_cgroup_of_a_slurm_job_is_the_wall(
    kind: str, make_site: Callable[..., Site], capsys: pytest.CaptureFixture[str]
) -> None:
    """The batch script of an attempt as a step of the throw-away Slurm (task/cgroup, ConstrainRAMSpace)."""
    if not (SLURM / "site.toml").exists():
        pytest.skip("no throw-away Slurm cluster: run `make slurm-up` as root")
    site = make_site("sandboxed", uid=pwd.getpwnam(SLURM_USER).pw_uid, memory_mb=MEM_MB)
    real = site._as_account
    inside = ("/usr/bin/env", f"SLURMD_NODENAME={site.node}")
    step = ("--nodes=1", "--ntasks=1", "--cpus-per-task=2", f"--mem={MEM_MB}M", f"--account={SLURM_ACCOUNT}")
    srun = (
        "/usr/bin/env",
        f"SLURM_CONF={SLURM}/etc/slurm.conf",
        "/usr/bin/srun",
        *step,
        "--chdir=/",
        "--mpi=none",
    )
    submit = site.submit

    def through_slurm(*words: Any, **named: Any) -> None:
        site._as_account = lambda: [*real(), *srun, *inside]  # type: ignore[method-assign]
        submit(*words, **named)
        site._as_account = real  # type: ignore[method-assign]

    site.submit = through_slurm  # type: ignore[method-assign]
    closing = attempt(site, TAKING[kind])
    with capsys.disabled():
        print(f"\nSlurm {kind}: mem {MEM_MB} MiB, {closing.workload.ending}, {closing.workload.memory}")
    if kind in FILES_ONLY and closing.workload.ending == "exited":
        return
    assert closing.workload.ending == "out-of-memory"
    assert closing.workload.memory is not None
    assert closing.workload.memory.wall == "cgroup"
