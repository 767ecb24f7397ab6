"""A training in the real runtime and flavour, in the sandbox and without one: ranks on gloo."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from hdrs_hpc.catalogue.workloads import torch
from hdrs_hpc.node.runtime.flavour import FlavourFile
from hdrs_hpc.protocol.outputs import BundleLine

from .conftest import CANARY, Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MEMORY_MB = 10240


@pytest.fixture(params=["cooperative", pytest.param("sandboxed", marks=pytest.mark.root_parts)])
def site(request: pytest.FixtureRequest, torch_flavour: FlavourFile, make_site: Callable[..., Site]) -> Site:
    return make_site(request.param, memory_mb=MEMORY_MB, on=torch_flavour)


def test_the_example_of_a_new_spec_trains_on_two_ranks(site: Site) -> None:
    own = {"kind": "torch", **torch.EXAMPLE.fields}
    closing = site.run(dict(torch.EXAMPLE.bundle), own=own, mem_mb=MEMORY_MB, time_s=240)
    assert closing.workload.ending == "exited", closing
    told = json.loads(site.output())
    assert (told["n_patients"], told["n_series"]) == (4, 4)
    assert 0 <= told["loss"] < 1


KILLED = f"""
import os, signal
import torch
import torch.distributed as dist

def main(context):
    print(context.data["ct"].read("report.json"))  # goes nowhere: {len(CANARY)} characters
    if context.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.all_reduce(torch.ones(1))
"""


def test_a_killed_rank_ends_the_attempt_and_nothing_of_the_data_leaves(site: Site) -> None:
    own = {"kind": "torch", "entry": "mine:main", "nproc-per-node": 2}
    closing = site.run({"mine.py": KILLED}, own=own, mem_mb=MEMORY_MB, time_s=240)
    assert (closing.workload.ending, closing.workload.signal) == ("process-killed", 9)
    assert closing.running_s < 200  # a collective would wait for half an hour
    assert CANARY not in repr(closing) and CANARY not in repr(site.progress())


RAISING = """
import torch, torch.distributed as dist
class Unstable(Exception): pass
def main(context):
    loss = torch.tensor(float("nan") if context.rank else 1.0)
    if torch.isnan(loss):
        raise Unstable(context.data["ct"].read("report.json"))
    dist.all_reduce(loss)
"""


def test_the_first_exception_of_a_rank_is_told_with_its_line(site: Site) -> None:
    own = {"kind": "torch", "entry": "mine:main", "nproc-per-node": 2}
    closing = site.run({"mine.py": RAISING}, own=own, mem_mb=MEMORY_MB, time_s=240)
    assert (closing.workload.ending, closing.workload.exception_type) == ("crashed", "Unstable")
    assert closing.workload.bundle_line == BundleLine("mine.py", 7)
    assert CANARY not in repr(closing)
