"""Whatever a workload leaves in its folder of outputs costs that output and no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hdrs_hpc.catalogue.isolation import GivenIsolation
from hdrs_hpc.protocol.handover import OutputOrder

from .conftest import Site

LEAVING: dict[str, tuple[str, str | None]] = {
    "folder-without-mode": ("(out/'d').mkdir(); (out/'d/x').write_text('x'); (out/'d').chmod(0)", None),
    "file-without-mode": ("(out/'bad').write_text('x'); (out/'bad').chmod(0)", "output-unreadable"),
    "way-without-mode": (
        "(out/'way').mkdir(); (out/'way/bad').write_text('x'); (out/'way').chmod(0)",
        "output-unreadable",
    ),
    "outputs-without-mode": ("(out/'bad').write_text('x'); out.chmod(0)", "collected"),
    "fifo": ("os.mkfifo(out/'bad')", "output-not-regular"),
    "socket": ("socket.socket(socket.AF_UNIX).bind(str(out/'bad'))", "output-not-regular"),
    "link-to-itself": ("(out/'bad').symlink_to('bad')", "output-not-regular"),
    "folder-instead": ("(out/'bad').mkdir(0o000)", "output-not-regular"),
    "two-links": ("(out/'bad').write_text('x'); os.link(out/'bad', out/'other')", "output-linked"),
    "sparse-giant": ("os.truncate(os.open(out/'bad', os.O_CREAT|os.O_RDWR), 1 << 40)", "output-too-large"),
    "names-that-are-no-text": (
        "[open(os.fsencode(out)+b'/'+n,'w') for n in (b'\\xff\\xfe', b'a\\nb', b'n'*255)]",
        None,
    ),
    "deep-tree": (
        "os.chdir(out)\n    for _ in range(3000):\n        os.mkdir('d'*100); os.chdir('d'*100)",
        None,
    ),
    "many-entries": ("fill(out, os.mkdir)", None),
    "no-room-left": ("fill(out)", None),
    "read-only-modes": (
        "(out/'bad').write_text('x'); (out/'bad').chmod(0o400); out.chmod(0o500)",
        "collected",
    ),
    "no-report": ("os.chmod(os.environ.get('R', '/report'), 0)", None),
}
CODE = """
import os, socket
from pathlib import Path

def fill(out, make=lambda path: path.write_bytes(b'x' * (1 << 20))):
    try:
        for number in range(1 << 20):
            make(out / f'fill-{number}')
    except OSError:
        pass

def run(ctx):
    out = Path(ctx.output("good")).parent
    (out / "good").write_text("fine")
    __LEAVE__
"""


@pytest.mark.parametrize("kind", LEAVING)
def test_it_costs_that_output_and_no_other(kind: str, make_site: Callable[..., Site]) -> None:
    code, problem = LEAVING[kind]
    isolation: GivenIsolation = "sandboxed" if Path("/usr/bin/bwrap").exists() else "cooperative"
    site = make_site(isolation, memory_mb=1024)
    bad = "way/bad" if kind == "way-without-mode" else "bad"
    declared = (OutputOrder("good", "table", "good", 1000), OutputOrder("bad", "table", bad, 1000))
    closing = site.run(
        {"mine.py": CODE.replace("__LEAVE__", code)}, "mine:run", volumes=1, mem_mb=1024, outputs=declared
    )
    assert closing.workload.ending == "exited", closing.workload
    found = {item.name: item.problem for item in closing.outputs}
    assert found["good"] is None
    assert site.output("good") == b"fine"
    expected = {"collected": None, None: "output-missing"}.get(problem, problem)
    assert found["bad"] == expected
