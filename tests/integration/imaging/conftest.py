import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))
from staged_copies import small_archive, stage_archive


@pytest.fixture(scope="session")
def small_copy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A standalone copy of ``small_archive`` and its secret's file: read only."""
    root = tmp_path_factory.mktemp("small-copy")
    stage_archive(small_archive(root / "archive"), root / "copy", root / "secret")
    return root / "copy", root / "secret"
