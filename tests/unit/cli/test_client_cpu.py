"""Commands answer at once: they import little.  `job show` is measured against a broker, beside its other tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from hdrs_hpc.cli.main import COMMANDS
from tests.support.client_cpu import COMMAND_S, HELP_S, assert_cheap

JOBSPECS = Path(__file__).parents[3] / "jobspecs"


def test_spec_check_is_cheap() -> None:
    assert_cheap(COMMAND_S, "spec", "check", "cohort-summary.yaml", cwd=JOBSPECS)


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS)], ids=lambda words: " ".join(words))
def test_help_is_cheap(words: tuple[str, ...]) -> None:
    assert_cheap(HELP_S, *words, "--help", runs=1)
