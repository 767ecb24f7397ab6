"""A new kind of workload is one module and one row: every process takes it, from ``spec new`` to the certificate."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import grown_package

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_of_a_made_up_kind_lives_in_the_real_processes(tmp_path: Path, short_tmp: Path) -> None:
    """The package is copied with one more kind, and the copy's own keyd, workers and node runtime are started."""
    house = tmp_path / "house"
    kind = (HERE / "made_up_kind/script.py").read_text("utf-8")
    grown_package.copy_with_row(house, "workloads", "script", kind, before="command.KIND")
    grown_package.live(house, "tests.integration.made_up_kind.life", short_tmp / "made-up-kind")
