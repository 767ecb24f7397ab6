"""``make demo`` as a stranger runs it: every actor through the commands, then what is left verifies offline."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require
from tests.support import slurm_site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def hdrs_hpc(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hdrs_hpc.cli.main", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def play(folder: Path, cluster: str) -> None:
    done = hdrs_hpc("demo", "--dir", folder / "site", "--cluster", cluster, cwd=folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert ", 0 elsewhere" in done.stdout
    site = folder / "site"
    trust = ("--trust", site / "trust-root.json")
    certificate = ("certificate", "verify", site / "certificate.json", *trust)
    log = ("audit", "verify", site / "audit", *trust)
    for command in (certificate, log):
        good = hdrs_hpc(*command, cwd=folder)
        assert good.returncode == 0, good.stderr
    for changed, command in ((site / "certificate.json", certificate), (site / "audit/entries.jsonl", log)):
        raw = bytearray(changed.read_bytes())
        raw[len(raw) // 2] ^= 1
        changed.write_bytes(raw)
        assert hdrs_hpc(*command, cwd=folder).returncode != 0
    names = {path.name for path in (site / "released").iterdir()}
    assert {"cohort.csv", "spacing.png", "spacing-bins.csv", "summary.json"} <= names
    assert (site / "released/own-code/depth.csv").is_file()
    suppressed = re.search(r"(\d+) cells under 10 suppressed", done.stdout)
    assert suppressed is not None and int(suppressed[1]) > 0, "something small was there"


def test_the_demo_on_the_embedded_cluster(tmp_path: Path) -> None:
    play(tmp_path, "local")


@pytest.mark.root_parts
def test_the_demo_on_real_slurm_over_ssh(tmp_path: Path) -> None:
    require(slurm_site.running(), "no throw-away Slurm: make slurm-up (as root)")
    play(tmp_path, "slurm")
