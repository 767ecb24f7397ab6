"""What a sandbox runs on: the file that the order names, read-only, mounted or unpacked; and attacks on it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hdrs_hpc.node.runtime.build import RuntimeFile
from hdrs_hpc.protocol import layout
from hdrs_hpc.protocol.handover import FlavourOrder, LaunchOrder
from hdrs_hpc.protocol.progress import Phase, Stop
from tests.integration.node.conftest import Site, Work

MakeSite = Callable[..., Site]
LOOK = """
import json, os, sys

def run(context):
    held = {"runtime": sys.prefix, "agent": 0, "written": 0}
    for module in ("cryptography", "hdrs_hpc.sealing", "hdrs_hpc.node.agent", "hdrs_hpc.protocol.handover"):
        try:
            __import__(module)
            held["agent"] += 1
        except ImportError:
            pass
    for folder, _, names in os.walk("/"):
        if folder.startswith(("/proc", "/usr", "/opt/hdrs/lib")):
            continue
        held["agent"] += sum(name in ("squashfuse_ll", "unsquashfs", "agent.sock") for name in names)
    with open("/proc/self/mountinfo") as mounts:
        held["fuse"] = sum(" fuse.squashfuse " in line for line in mounts)
    try:
        open(os.path.join(sys.prefix, "bin", "mine"), "w")
        held["written"] = 1
    except OSError:
        pass
    with context.output("result").open("w") as out:
        json.dump(held, out)
"""


def sent(site: Site, **changes: object) -> LaunchOrder:
    """A job that does nothing is submitted and handed an order with ``changes``; gives the order once it is over."""
    work = Work(
        bundle=site.seal_bundle({"code_of_mine.py": "def run(context): pass\n"}), entry="code_of_mine:run"
    )
    order = replace(site.order({"ct": site.stage(1)}, work), **changes)
    site.submit()
    hello = site.hello()
    assert site.deliver(site.answer(order, hello), hello).refused is None
    site.wait()
    return order


def stopped(site: Site) -> Stop:
    told = site.progress()
    assert told is not None
    assert told.phase is Phase.STOPPED
    assert not site.scratch.joinpath(*layout.closing_parts("lung-fm", site.attempt)).exists()
    return told.stop


def on_scratch(site: Site) -> Path:
    """The flavour's file, as a copy that may be changed."""
    path = site.scratch.joinpath(*layout.flavour_parts(site.flavour.digest))
    raw = path.read_bytes()
    path.unlink()
    path.write_bytes(raw)
    return path


@pytest.mark.root_parts
def test_the_sandbox_sees_its_flavour_read_only_and_no_trace_of_the_agents_runtime(
    make_site: MakeSite,
) -> None:
    site = make_site("sandboxed")
    site.run({"code_of_mine.py": LOOK})
    fuse = os.access("/dev/fuse", os.R_OK | os.W_OK)
    held = {"runtime": "/opt/hdrs", "agent": 0, "written": 0, "fuse": int(fuse)}
    assert site.output() == json.dumps(held).encode()


def test_a_flavour_that_was_changed_on_scratch_is_refused(make_site: MakeSite) -> None:
    site = make_site("cooperative")
    path = on_scratch(site)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    sent(site)
    assert stopped(site) is Stop.FLAVOUR_MISMATCH


def test_a_flavour_that_was_cut_short_or_is_gone_is_refused(make_site: MakeSite) -> None:
    for change in (lambda path: os.truncate(path, path.stat().st_size - 4096), Path.unlink):
        site = make_site("cooperative")
        change(on_scratch(site))
        sent(site)
        assert stopped(site) is Stop.FLAVOUR_MISMATCH


def test_the_order_says_which_file_is_taken_and_not_the_batch_script(
    make_site: MakeSite, tmp_path: Path
) -> None:
    """Whoever submits the job could name another file of their own making, beside which the right one lies."""
    site = make_site("cooperative")
    other = tmp_path / "other"
    other.mkdir()
    (other / "evil").touch()
    image = tmp_path / "evil.squashfs"
    subprocess.run(
        ["mksquashfs", str(other), str(image), "-quiet", "-no-progress"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    digest = "sha256:" + hashlib.sha256(image.read_bytes()).hexdigest()
    site.scratch.joinpath(*layout.flavour_parts(digest)).write_bytes(image.read_bytes())
    real = site.flavour
    site.flavour = replace(real, digest=digest)
    order = FlavourOrder("base", real.digest, real.size_bytes)
    sent(site, flavour=order)
    assert site.closing().workload.exit_code == 0

    site = make_site("cooperative")
    sent(site, flavour=FlavourOrder("base", digest, 4096))
    assert stopped(site) is Stop.FLAVOUR_MISMATCH, "it is not on this site's scratch"


def test_a_job_whose_memory_is_too_small_for_its_flavour_ends_under_a_reason_of_its_own(
    make_site: MakeSite,
) -> None:
    site = make_site("cooperative", memory_mb=2 * (make_site("cooperative").flavour.size_bytes >> 20))
    sent(site, mem_mb=site.memory_mb)
    assert stopped(site) is Stop.FLAVOUR_TOO_LARGE


@pytest.mark.parametrize("level", ["cooperative", pytest.param("sandboxed", marks=pytest.mark.root_parts)])
def test_where_nothing_can_be_mounted_it_is_unpacked(
    level: str, make_site: MakeSite, runtime: RuntimeFile, tmp_path: Path
) -> None:
    site = make_site(level)
    without = without_fuse(runtime, tmp_path)
    os.link(without.path, site.scratch.joinpath(*layout.runtime_parts(without.digest)))
    site.runtime = without
    site.run({"code_of_mine.py": LOOK})
    told = json.loads(site.output())
    assert (told["fuse"], told["written"]) == (0, 0 if level == "sandboxed" else 1)


def without_fuse(runtime: RuntimeFile, folder: Path) -> RuntimeFile:
    """The runtime of a machine that has no squashfuse."""
    path = folder / "runtime.tar"
    with tarfile.open(runtime.path) as given, tarfile.open(path, "w") as made:
        for item in given:
            if item.name != "bin/squashfuse_ll":
                made.addfile(item, given.extractfile(item) if item.isfile() else None)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return RuntimeFile(path, f"sha256:{digest}", path.stat().st_size, 0)
