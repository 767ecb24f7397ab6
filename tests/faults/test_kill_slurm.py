"""kill -9 of the broker around sbatch, hand-over and collection on real Slurm: one job, one key, one result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.faults.test_kill_local import SMALL, check_ended_as_if_nothing_had_been, live_on
from tests.support.trials import killed_again_and_again
from tests.support.world import World

pytestmark = [pytest.mark.root_parts, pytest.mark.slow, pytest.mark.timeout(900)]

AROUND = (
    "Submit",
    "Adopt",
    "Started",
    "Bind",
    "Deliver",
    "Ended",
    "StartCollector",
    "Show",
    "DestroyKeys",
    "Remove",
)


def test_broker_killed_around_sbatch_handover_and_collection(make_slurm_world: Callable[..., World]) -> None:
    world = make_slurm_world()
    world.grant()
    job = world.submit(**SMALL)
    with killed_again_and_again(world, "controller", only=AROUND, settle_s=3) as diary:
        live_on(world, job, timeout_s=250)
    boundaries = Counter((act.split()[0], boundary) for act, boundary in diary.deaths())
    assert boundaries["Submit", "submit"] == 1, "sbatch had accepted, and nobody had noted it"
    assert boundaries["Bind", "run_in_job"] == 1, "the agent had said who it is, and nobody had noted it"
    assert boundaries["Deliver", "run_in_job"] == 1, "the keys were there, and nobody had noted it"
    assert boundaries["StartCollector", "before"] == 1
    assert sum(boundaries["StartCollector", within] for within in ("start", "rename")) >= 1
    died = {act for act, _ in boundaries}
    assert died == set(AROUND) - {"Adopt"} or died == set(AROUND)
    check_ended_as_if_nothing_had_been(world, job, 1)
