"""The table of events holds what is written and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import hdrs_hpc
from hdrs_hpc.audit.events import EVENTS

ROOT = Path(hdrs_hpc.__file__).parent
MOVED = {"project-moved", "copy-moved", "job-moved"}


def texts() -> dict[str, set[str]]:
    """Every string of the code that may append to the log, with the files it stands in."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "broker").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.setdefault(node.value, set()).add(path.name)
    return found


def test_every_event_has_a_writer() -> None:
    written = set(texts())
    assert "-moved" in written  # the three of them come from store/transition.py, as f"{life}-moved"
    assert {name for name in EVENTS if name not in written | MOVED} == set()


def test_every_kind_of_life_that_moves_has_its_event() -> None:
    assert {name for name in EVENTS if name.endswith("-moved")} == MOVED
