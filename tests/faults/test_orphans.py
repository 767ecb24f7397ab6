"""No process of ours outlives the one that started it: killed at random moments of a start, then counted.

``HDRS_FAULT_TRIALS`` says how often for each kind (``make faults`` says many); the control shows that it can be seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).parents[2]
TRIALS = int(os.environ.get("HDRS_FAULT_TRIALS", "25"))


def killed_while_starting(kind: str, kill: str, trials: int, settle_s: float = 20) -> dict[str, Any]:
    argv = [sys.executable, "-m", "tests.support.orphans", kind, str(trials), kill, str(settle_s)]
    done = subprocess.run(argv, cwd=REPO, stdout=subprocess.PIPE, check=True, timeout=60 + 50 * trials)
    found: dict[str, Any] = json.loads(done.stdout)
    print(kind, kill, found)
    return found


@pytest.mark.parametrize(
    ("kind", "kill"),
    [
        pytest.param("sandboxed", "parent", marks=pytest.mark.root_parts),
        pytest.param("sandboxed", "guard", marks=pytest.mark.root_parts),
        pytest.param("workload", "parent", marks=pytest.mark.root_parts),
        pytest.param("workload", "guard", marks=pytest.mark.root_parts),
        pytest.param("parsers", "parent", marks=pytest.mark.root_parts),
        pytest.param("parsers", "guard", marks=pytest.mark.root_parts),
        pytest.param("checker", "parent", marks=pytest.mark.root_parts),
        ("plain", "parent"),
        ("command", "parent"),
        ("worker", "parent"),
        ("job", "parent"),
    ],
)
def test_nothing_is_left_of_what_was_starting_when_its_parent_was_killed(kind: str, kill: str) -> None:
    found = killed_while_starting(kind, kill, TRIALS)
    assert found["begun"] >= TRIALS  # else the kills came before there was anything to lose
    assert found["left"] == 0


def test_the_trials_count_a_child_that_outlives_its_parent() -> None:
    """The control.  That bubblewrap alone leaves such children is a race that a quiet machine may never lose."""
    found = killed_while_starting("orphaned", "parent", 40, settle_s=0.1)
    assert found["begun"] >= 40
    assert found["left"] >= found["begun"]
