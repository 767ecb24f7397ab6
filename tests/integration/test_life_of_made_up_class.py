"""A new class of outputs is one module and one row: grant, node, airlock, review, release and certificate take it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import has_bubblewrap, require
from tests.support import grown_package
from tests.unit.catalogue import test_made_up_class as made_up


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_output_of_a_made_up_class_is_checked_reviewed_and_released(
    tmp_path: Path, short_tmp: Path
) -> None:
    """None is made at ``cooperative``, says the class; so the job runs in a sandbox."""
    require(has_bubblewrap(), "bubblewrap: sandboxed jobs can't run here")
    house = tmp_path / "house"
    made_up.add_class(house, made_up.MODULE)
    grown_package.live(house, "tests.integration.made_up_class.life", short_tmp / "made-up-class")
