"""A sparse artefact of 1 GiB passes from node to release, and no process holds it in memory.

Measured is ``RssAnon`` of ``/proc/PID/status`` (anonymous memory, without pages of files), of each process and all its
descendants, every 5 ms; the class that takes so much is made up and stands in a copy of the package.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.catalogue import test_made_up_class as made_up

SIZE = 1 << 30
MOST_MIB = 256
MODULE = '''
"""Blobs: any bytes, passed on as they come."""

from typing import Literal

from hdrs_hpc.catalogue.outputs.checking.contract import Checking, NoRule
from hdrs_hpc.catalogue.outputs.output_class import GrantRule, OutputClass, WrittenDeclaration


class TallyRule(GrantRule):
    def sentence(self):
        return "blobs"


class TallyDeclaration(WrittenDeclaration):
    ENDS_IN = (".tally",)
    MOST_BYTES = 2 << 30

    class_: Literal["tally"]


class Passed:
    findings = ()

    def sheet(self):
        return None

    def compare(self, neighbours):
        pass

    def rebuild(self, rule, pattern, out):
        return {}


def read(declared, source, seen, rule, inputs, out):
    while piece := source.read(1 << 20):
        out.write(piece)
    return Passed()


CLASS = OutputClass(
    name="tally", rule=TallyRule, declaration=TallyDeclaration,
    checking=lambda: Checking("application/x-blob", lambda granted: NoRule(), read),
    sentences=lambda report: [], written_in=frozenset({"tally"}), begins_with=b"BLOB", preview="file",
    format="bytes", holds="", comes_out_as="", paragraph="", grant_example="{}", spec_example=(),
)
'''
WATCH = """
import json, os, sys, threading, time
from pathlib import Path
FOLDER, SIZE = Path(sys.argv[1]), int(sys.argv[2])
PEAKS, DONE = {}, threading.Event()

def family(pid):
    yield pid
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in open(f"/proc/{pid}/task/{task}/children").read().split():
                yield from family(int(child))
    except OSError:
        return

def look():
    while not DONE.wait(0.005):
        for pid in family(os.getpid()):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\\0")
            except OSError:
                continue
            for line in status.splitlines():
                if line.startswith("RssAnon:"):
                    who = "checker" if b"hdrs_hpc.broker.workers.airlock.checker" in name else "main"
                    PEAKS[who] = max(PEAKS.get(who, 0), int(line.split()[1]))

thread = threading.Thread(target=look)
thread.start()
try:
    work()
finally:
    DONE.set()
    thread.join()
print(json.dumps(PEAKS))
"""
STEPS = {
    "node": """
def work():
    from hdrs_hpc.node import collect
    from hdrs_hpc.protocol.handover import OutputOrder
    from hdrs_hpc.sealing.copy_builder import CopyBuilder
    from hdrs_hpc.sealing.objects.directory import DirectoryStore
    out = FOLDER / "out"
    out.mkdir()
    with (out / "a.tally").open("wb") as file:
        file.write(b"BLOB")
        file.truncate(SIZE)
    builder = CopyBuilder(DirectoryStore(FOLDER / "site"), bytes(32), "output", "lung-fm", "a1", FOLDER / "journal")
    (found,) = collect.collect(out, (OutputOrder("a", "tally", "a.tally", SIZE),), builder)
    assert found.problem is None, found
    ref = builder.seal()
    (FOLDER / "told.json").write_text(json.dumps([ref.manifest_digest, found.path, found.digest]))
""",
    "collector": """
def work():
    import functools
    from hdrs_hpc.broker.workers import collector
    from hdrs_hpc.broker.workers.airlock.rules import OutputRules
    from hdrs_hpc.broker.workers.airlock.run import CheckRequest, Sent
    from hdrs_hpc.catalogue.outputs.checking.declared import Declared
    from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
    from hdrs_hpc.protocol.outputs import CollectedOutput
    from hdrs_hpc.sealing.objects.directory import DirectoryStore
    from hdrs_hpc.sealing.reader import SealedCopy
    digest, path, content = json.loads((FOLDER / "told.json").read_text())
    away, here = DirectoryStore(FOLDER / "site"), DirectoryStore(FOLDER / "quarantine")
    for name, size in away.sizes():
        here.put(name, collector._ranges(functools.partial(away.get, name), size))
        away.delete(name)
    copy = SealedCopy.open(here, bytes(32), "output", "lung-fm", "a1", digest)
    item = CollectedOutput("a", path, SIZE, content, None)
    sent = Sent(SIZE, functools.partial(collector._pieces, copy, item))
    declared = Declared("a", "tally", "a.tally", max_size=SIZE)
    rules = OutputRules.from_dict({"tally": {}})
    request = CheckRequest(((declared, sent),), rules, bytes(16), InputFacts(1, 1, 1, False))
    (checked,) = collector._check(FOLDER / "artefacts", request)
    assert checked.refused is None, checked.report
    assert (checked.rebuilt_bytes, checked.rebuilt_digest) == (SIZE, content)
""",
    "release": """
def work():
    from types import SimpleNamespace
    from hdrs_hpc.broker.controller.steps import release
    from hdrs_hpc.core.durable_files import replace_file
    content = json.loads((FOLDER / "told.json").read_text())[2]
    item = SimpleNamespace(name="a", rebuilt=content)
    replace_file(FOLDER / "released", release._unchanged(FOLDER / "artefacts/a", item))
    assert (FOLDER / "released").stat().st_size == SIZE
""",
}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_gibibyte_passes_every_process_in_bounded_memory(tmp_path: Path) -> None:
    house, folder = tmp_path / "house", tmp_path / "outputs"
    folder.mkdir()
    made_up.add_class(house, MODULE)
    peaks: dict[str, int] = {}
    for step, source in STEPS.items():
        done = subprocess.run(
            [sys.executable, "-B", "-c", source + WATCH, str(folder), str(SIZE)],
            env={**os.environ, "PYTHONPATH": str(house)},
            cwd=house,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        peaks |= {step if who == "main" else who: kib // 1024 for who, kib in found.items()}
    print(f"anonymous memory at its peak, MiB: {peaks}")
    assert set(peaks) == {"node", "collector", "checker", "release"}
    assert max(peaks.values()) <= MOST_MIB, peaks
