"""What a workload can reach, and where keys are while it runs."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hdrs_hpc.confined.running import SandboxFailedError
from hdrs_hpc.core import seccomp
from hdrs_hpc.core.die_with_parent import descendants
from hdrs_hpc.node import probe_inside
from hdrs_hpc.node.probe import probe
from hdrs_hpc.node.sandbox import Places, Sandbox
from hdrs_hpc.protocol.handover import OutputOrder, satisfies

from .conftest import CANARY, Site, Work

WAITING = """
import pickle, time
def run(ctx):
    ct = ctx.data["ct"]
    kept = ct.read("report.json")
    ctx.client.gather(ctx.client.map(read, ct.series(), copy=ct))
    ctx.output("result").write_bytes(pickle.dumps([ct, ct.volume(ct.series()[0])]))
    ctx.output("ready").write_text("1")
    time.sleep(600)

def read(item, copy):
    return copy.volume(item)[:].sum()
"""


def key_forms(key: bytes) -> list[bytes]:
    return [key, base64.b64encode(key), base64.urlsafe_b64encode(key).rstrip(b"="), key.hex().encode()]


def holds(pid: int, needles: list[bytes]) -> bool:
    """Whether any needle is in the memory, environment or command line of a process; None is unreadable."""
    base = Path("/proc", str(pid))
    with contextlib.suppress(OSError):
        if any(needle in (base / name).read_bytes() for name in ("environ", "cmdline") for needle in needles):
            return True
    with (base / "mem").open("rb", 0) as memory:
        for line in (base / "maps").read_text().splitlines():
            span, mode, *_, name = [*line.split(maxsplit=5), ""][:6]
            if "r" not in mode or "[v" in name:
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            for at in range(start, end, 1 << 24):
                with contextlib.suppress(OSError):
                    memory.seek(at)
                    data = memory.read(min(1 << 24, end - at) + 64)
                    if any(needle in data for needle in needles):
                        return True
    return False


@pytest.mark.skipif(os.getuid() != 0, reason="only root can look into the memory of all processes")
def test_keys_are_in_the_agent_and_in_no_process_of_the_workload(site: Site) -> None:
    inputs = {"ct": site.stage(2)}
    work = Work(site.seal_bundle({"mine.py": WAITING}))
    site.submit()
    hello = site.hello()
    outputs = (OutputOrder("result", "metrics", "r", 1 << 20), OutputOrder("ready", "metrics", "ready", 10))
    order = site.order(inputs, work, outputs=outputs)
    site.deliver(site.answer(order, hello), hello)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        progress = site.progress()
        if progress is not None and progress.items_read == 2:
            break
        time.sleep(0.2)
    time.sleep(1.5)
    agent = agent_of(site)
    workload = descendants(agent)
    assert len(workload) >= 7  # launcher, scheduler, client, two workers; the memory watch and its guard
    needles = [form for key in (site.copy_key, site.output_key, site.bundle_key) for form in key_forms(key)]
    assert holds(agent, [site.copy_key])  # the search finds what is there
    assert [pid for pid in workload if holds(pid, needles)] == []
    assert any(holds(pid, [CANARY.encode()]) for pid in workload)  # and it does look into workloads
    pickles = Path(
        f"/proc/{agent}/root{site.node_tmp}/{site.attempt}-{site.node}/memory/files/out/r"
    ).read_bytes()
    assert b"StagedStore" in pickles
    assert not any(needle in pickles for needle in needles)


def agent_of(site: Site) -> int:
    assert site.process is not None
    named = b"\0-m\0hdrs_hpc.node.agent\0"
    below = descendants(site.process.pid)
    (agent,) = [pid for pid in below if named in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return agent


def test_the_agent_can_be_neither_dumped_nor_traced_by_its_own_account(site: Site) -> None:
    site.submit()
    assert site.hello().probe.not_dumpable
    agent = agent_of(site)
    found = Path(f"/proc/{agent}")
    assert (found / "mem").stat().st_uid == 0  # what the kernel gives to processes that are not dumpable
    assert "Max core file size        1                    1" in (found / "limits").read_text()


LOOKING = """
import json, os, socket
from pathlib import Path

def run(ctx):
    asked = ctx.parameters
    found = {
        "top": sorted(os.listdir("/")),
        "paths": [path for path in asked["paths"] if os.path.exists(path)],
        "network": [name for _, name in socket.if_nameindex()],
        "connected": [place for place in asked["places"] if reaches(place)],
        "processes": sorted({Path(f"/proc/{p}/comm").read_text().strip() for p in os.listdir("/proc") if p.isdigit()}),
        "environment": sorted(os.environ),
        "user": os.getuid(),
        "writable": [place for place in ("/", "/usr", "/opt/hdrs", "/etc", "/plan") if os.access(place, os.W_OK)],
        "status": Path("/proc/self/status").read_text(),
    }
    ctx.output("result").write_text(json.dumps(found))

def reaches(place):
    try:
        if place.startswith("/"):
            socket.socket(socket.AF_UNIX).connect(place)
        else:
            socket.create_connection((place.split(":")[0], int(place.split(":")[1])), 2)
    except OSError:
        return False
    return True
"""


@pytest.mark.root_parts
def test_a_sandboxed_workload_sees_neither_home_nor_scratch_nor_run_nor_network(
    make_site: Callable[..., Site],
) -> None:
    site = make_site("sandboxed")
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind("\0hdrs-abstract-probe")
        unix.listen()
        work = {
            "paths": [str(site.scratch), str(site.node_tmp), "/home", "/root", "/run", "/var", "/etc/slurm"],
            "places": [
                f"127.0.0.1:{tcp.getsockname()[1]}",
                "/run/munge/munge.socket.2",
                "/run/dbus/system_bus_socket",
                str(Path(site.node_tmp, f"{site.attempt}-{site.node}", "agent.sock")),
            ],
        }
        closing = site.run({"mine.py": LOOKING}, "mine:run", parameters=work, volumes=1)
    assert closing.workload.ending == "exited", closing
    found = json.loads(site.output())
    assert (found["paths"], found["connected"], found["writable"]) == ([], [], [])
    assert found["network"] == ["lo"]
    assert set(found["processes"]) <= {"bwrap", "python3"}
    assert not set(found["top"]) & {"home", "root", "run", "var", "srv", "mnt", "media", "sys", "boot"}
    assert "NoNewPrivs:\t1" in found["status"]
    assert "CapEff:\t0000000000000000" in found["status"]
    assert not [name for name in found["environment"] if name.startswith("SLURM") or "KEY" in name]


def test_each_level_reports_itself_and_only_the_sandbox_satisfies_sandboxed(site: Site) -> None:
    site.submit()
    found = site.hello().probe
    # Among what was tried and not reached: vsock, the kernel's keyring, a user namespace in the sandbox.
    assert (found.level, found.reached, found.private_memory) == (site.isolation, (), True)
    assert satisfies(found, "cooperative")
    assert satisfies(found, "sandboxed") == (site.isolation == "sandboxed")


@pytest.mark.root_parts
def test_a_sandbox_without_its_filter_is_told_in_the_hello(
    make_site: Callable[..., Site],
) -> None:
    """The probe itself, in a bubblewrap that does everything but filter."""
    folder = make_site("sandboxed").root  # another account can look into it
    (folder / "question.json").write_text(json.dumps({"paths": [], "namespaces": {}}))
    folder.chmod(0o777)
    probe = [sys.executable, "-I", "-S", "-B", probe_inside.__file__]
    bare = ["/usr/bin/bwrap", "--unshare-all", "--bind", "/", "/", "--", *probe]
    command = [*bare, str(folder / "question.json"), str(folder / "found.json")]
    subprocess.run(command, check=True)
    unfiltered = set(json.loads((folder / "found.json").read_text()))
    program = seccomp.program()
    assert program is not None
    fd = seccomp.memory_file(program)
    subprocess.run([command[0], "--seccomp", str(fd), *command[1:]], check=True, pass_fds=(fd,))
    os.close(fd)
    found = set(json.loads((folder / "found.json").read_text()))
    assert "nested-user-namespace" in unfiltered
    assert not found & {"vsock", "kernel-keyring", "nested-user-namespace"}


def test_a_node_with_an_unknown_processor_offers_no_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tmp_path / "start.py"
    start.write_text(
        "import platform, runpy, sys\nplatform.machine = lambda: 'ppc64le'\n"
        "sys.argv[1:] = sys.argv[5:]\nrunpy.run_module('hdrs_hpc.node.confine', None, '__main__', True)\n"
    )
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {start} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    places = Places(*[tmp_path] * 10)
    sandbox = Sandbox("sandboxed")
    found = probe(
        *("sandboxed", sandbox, places, ()),
        private_memory=True,
        not_dumpable=True,
        gpus=0,
        memory_wall="watched",
    )
    assert (found.level, found.reached) == ("cooperative", ("processor-without-filter",))
    assert not satisfies(found, "sandboxed")
    with pytest.raises(SandboxFailedError):
        sandbox.start(("/bin/true",), {}, places, gpus="")


def test_an_order_that_requires_more_than_the_node_gives_starts_nothing(
    make_site: Callable[..., Site],
) -> None:
    site = make_site("cooperative")
    inputs = {"ct": site.stage(1)}
    work = Work(site.seal_bundle({"mine.py": LOOKING}))
    site.submit()
    hello = site.hello()
    site.deliver(site.answer(site.order(inputs, work, isolation="sandboxed"), hello), hello)
    assert site.wait(30) == 75
    progress = site.progress()
    assert progress is not None
    assert (progress.stop, progress.running_s) == ("isolation", 0)


def test_outputs_and_temporary_files_lie_in_no_file_system_that_others_see(site: Site) -> None:
    inputs = {"ct": site.stage(1)}
    work = Work(site.seal_bundle({"mine.py": WAITING}))
    site.submit()
    hello = site.hello()
    outputs = (OutputOrder("result", "metrics", "r", 1 << 20), OutputOrder("ready", "metrics", "ready", 10))
    site.deliver(site.answer(site.order(inputs, work, outputs=outputs), hello), hello)
    deadline = time.monotonic() + 60
    while (progress := site.progress()) is None or progress.items_read < 1:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    folder = Path(site.node_tmp, f"{site.attempt}-{site.node}")
    assert sorted(path.name for path in folder.iterdir() if path.name not in ("fifo", "sum")) == [
        "agent.sock",
        "flavour",
        "memory",
        "rt",
    ]
    for mounted in ("flavour", "memory"):
        assert list((folder / mounted).iterdir()) == []  # the mount is in the agent's namespace only
