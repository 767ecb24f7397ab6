from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from party import Party  # found by the line above


@pytest.fixture(scope="session")
def party() -> Party:
    return Party()
