"""Fixtures: a whole signed life of one project, see audit_life.py."""

from __future__ import annotations

import pytest
from audit_life import Life, begin, close, review, run, stage


@pytest.fixture
def life() -> Life:
    """Everything up to the released artefact."""
    made = Life()
    begin(made)
    stage(made)
    run(made)
    review(made)
    return made


@pytest.fixture
def closed(life: Life) -> tuple[Life, bytes]:
    """The whole life, and its certificate's envelope."""
    return life, close(life).to_bytes()
