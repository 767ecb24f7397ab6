"""What `spec new` writes for each kind runs on real Slurm too, in a sandbox, on the flavour of its kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hdrs_hpc.catalogue import workloads
from hdrs_hpc.node.runtime.flavour import FlavourFile
from tests.integration.made_up_kind.life import begin, released
from tests.support.world import World

pytestmark = [pytest.mark.root_parts, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("desk")


@pytest.fixture(scope="module")
def world(make_slurm_world: Callable[..., World], torch_flavour: FlavourFile, desk: Path) -> World:
    made = make_slurm_world(flavours=(torch_flavour,))
    begin(made, desk)
    return made


@pytest.mark.parametrize("kind", workloads.built())
def test_a_new_spec_of_each_kind_runs_on_slurm_and_is_released(world: World, desk: Path, kind: str) -> None:
    (found,) = released(world, desk, kind)
    assert (found["n_patients"], found["n_series"]) == (35, 65)
