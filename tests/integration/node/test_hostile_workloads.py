"""Workloads that crash, never end, or leave outputs that are not what was declared."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hdrs_hpc.protocol.handover import OutputOrder
from hdrs_hpc.protocol.outputs import BundleLine

from .conftest import CANARY, Site, Work

HOSTILE_OUTPUTS = f"""
import os
from pathlib import Path

def run(ctx):
    out = ctx.output("good").parent
    (out / "good.csv").write_text("fine")
    (out / "secret").write_text("{CANARY}")
    (out / "symlink.csv").symlink_to("secret")
    (out / "dangling.csv").symlink_to("/etc/passwd")
    os.mkfifo(out / "fifo.csv")
    os.link(out / "secret", out / "hard.csv")
    (out / "large.csv").write_bytes(b"x" * 1001)
    (out / "folder.csv").mkdir()
    (out / "real").mkdir()
    (out / "real/inner.csv").write_text("{CANARY}")
    (out / "way").symlink_to("real")
    (out / "closed.csv").write_text("x")
    (out / "closed.csv").chmod(0)
"""


def test_only_sound_declared_outputs_are_collected(site: Site) -> None:
    names = ("good", "symlink", "dangling", "fifo", "hard", "large", "folder", "absent", "closed")
    declared = tuple(OutputOrder(name, "table", f"{name}.csv", 1000) for name in names)
    through_link = OutputOrder("through", "table", "way/inner.csv", 1000)
    closing = site.run({"mine.py": HOSTILE_OUTPUTS}, "mine:run", volumes=1, outputs=(*declared, through_link))
    assert closing.workload.ending == "exited"
    found = {item.name: item.problem for item in closing.outputs}
    assert found == {
        "good": None,
        "symlink": "output-not-regular",
        "dangling": "output-not-regular",
        "fifo": "output-not-regular",
        "hard": "output-linked",
        "large": "output-too-large",
        "folder": "output-not-regular",
        "absent": "output-missing",
        "closed": "output-unreadable",
        "through": "output-not-regular",
    }
    assert closing.undeclared == 1  # secret, real, real/inner.csv, way: that there are some, not how many
    assert site.output("good") == b"fine"
    assert sorted(site.outputs().paths()) == ["closing-list.json", "output/good"]


CRASHING = f"""
class TooFewSlices(Exception):
    pass

def run(ctx):
    ctx.client.gather(ctx.client.submit(check, ctx.data["ct"].read("report.json").decode()))

def check(text):
    raise TooFewSlices(text)  # the message holds data: {len(CANARY)} characters of it
"""


def test_a_crash_tells_type_and_own_line_and_no_message(site: Site) -> None:
    closing = site.run({"pkg/mine.py": CRASHING}, "pkg.mine:run", volumes=1)
    assert closing.workload.ending == "crashed"
    assert closing.workload.exception_type == "TooFewSlices"
    assert closing.workload.bundle_line == BundleLine("pkg/mine.py", 9)
    assert CANARY not in repr(closing)
    assert CANARY not in repr(site.progress())


SMUGGLING = """
import json, os
def run(ctx):
    name = ctx.data["ct"].read("report.json").decode().replace("-", "_")
    raise type(name, (Exception,), {})
"""


def test_a_type_name_made_from_data_does_not_leave(site: Site) -> None:
    closing = site.run({"mine.py": SMUGGLING}, "mine:run", volumes=1)
    assert (closing.workload.ending, closing.workload.exception_type) == ("crashed", "Exception")
    assert closing.workload.bundle_line == BundleLine("mine.py", 5)


def test_a_killed_client_and_a_missing_entry_are_told_apart(site: Site) -> None:
    killed = "import os, signal\ndef run(ctx):\n    os.kill(os.getpid(), signal.SIGSEGV)\n"
    closing = site.run({"mine.py": killed}, "mine:run", volumes=1)
    assert (closing.workload.ending, closing.workload.signal) == ("crashed", 11)


def test_an_entry_that_is_not_there_is_named(site: Site) -> None:
    closing = site.run({"mine.py": "x = 1\n"}, "mine:run", volumes=1)
    assert (closing.workload.ending, closing.workload.exception_type) == ("crashed", "EntryError")


LINGERING = """
import os, time
def run(ctx):
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                while True:
                    try:
                        open(ctx.output("result"), "a").write("late")
                    except OSError:
                        pass
                    time.sleep(0.001)
            os._exit(0)
    time.sleep(600)
"""


def test_what_never_ends_is_ended_with_everything_it_forked(site: Site) -> None:
    started = time.monotonic()
    closing = site.run({"mine.py": LINGERING}, "mine:run", volumes=1, time_s=6)
    assert closing.workload.ending == "out-of-time"
    assert time.monotonic() - started < 60
    assert b"late" in site.output()  # what was written before the end is still collected, whole
    assert processes_of(site.attempt) == []


def processes_of(attempt: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if attempt.encode() in (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("damage", ["bundle", "copy"])
def test_damaged_inputs_stop_the_attempt_before_anything_runs(site: Site, damage: str) -> None:
    inputs = {"ct": site.stage(1)}
    ordered = site.seal_bundle({"mine.py": "def run(ctx): pass\n"})
    work = Work(ordered)
    target = ordered.sealed if damage == "bundle" else inputs["ct"]
    for path in site.scratch.joinpath(*target.parts).iterdir():
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1] + b"\\0")
    site.submit()
    hello = site.hello()
    site.deliver(site.answer(site.order(inputs, work), hello), hello)
    assert site.wait(60) == 75
    progress = site.progress()
    assert progress is not None
    assert (progress.phase, progress.stop, progress.running_s) == ("stopped", "input-unreadable", 0)
