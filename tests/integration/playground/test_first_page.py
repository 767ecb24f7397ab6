"""The first page of ``docs/ai-developer.md``: every command of it, as written, in the order in which it stands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import has_bubblewrap, require

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/ai-developer.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MOST_S = 15 * 60
pytestmark = [pytest.mark.slow, pytest.mark.timeout(MOST_S + 60)]


def blocks() -> list[str]:
    text = PAGE.read_text("utf-8")
    part = text[text.index("## Fifteen minutes") : text.index("### What `try` does")]
    return BLOCK.findall(part)


@pytest.fixture
def home() -> Iterator[Path]:
    """With a short name, since sockets lie below it."""
    require(has_bubblewrap(), "bubblewrap is missing")
    with tempfile.TemporaryDirectory(prefix="hdrs-") as folder:
        (Path(folder) / "bin").mkdir()
        program = Path(folder) / "bin/hdrs-hpc"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m hdrs_hpc.cli.main "$@"\n')
        program.chmod(0o755)
        yield Path(folder)


def typed(home: Path, lines: str) -> subprocess.CompletedProcess[str]:
    """In one shell, which ends at the first command that fails; whoever is asked says yes."""
    return subprocess.run(
        ["/bin/bash", "-eu", "-c", lines],
        cwd=home,
        env={"HOME": str(home), "PATH": f"{home}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"},
        input="y\n" * 10,
        capture_output=True,
        text=True,
        check=False,
        timeout=MOST_S,
    )


def test_the_first_page_leads_to_a_result_in_a_quarter_of_an_hour(home: Path) -> None:
    install, *rest = blocks()
    assert install.startswith("git clone"), "which this test leaves out"
    assert rest[-1] == "hdrs-hpc playground down\n"
    began = time.monotonic()
    try:
        done = typed(home, "".join(rest[:-1]))
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
        assert time.monotonic() - began < MOST_S
        assert "measured" in done.stdout, "what the code prints is shown"
        released = json.loads((home / "first/released/summary.json").read_text())
        assert set(released) == {"n_patients", "n_series", "mean_hu"}
        assert -1024 < released["mean_hu"] < 0
        again = typed(home, "hdrs-hpc playground up; hdrs-hpc playground status")
        assert again.returncode == 0 and again.stdout.startswith("✓ it is up"), (
            "a second `up` makes nothing anew"
        )
    finally:
        ended = typed(home, rest[-1])
    assert ended.returncode == 0, ended.stderr
    left = home / ".local/state/hdrs-hpc"
    assert [path.name for path in left.iterdir()] == [], "all of it is gone"
    assert not _processes_that_name(str(home))


def _processes_that_name(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode("utf-8", "replace").replace("\0", " ")
        except OSError:
            continue
        if text in words and "pytest" not in words:
            found.append(words)
    return found
