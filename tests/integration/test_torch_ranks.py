"""Ranks of a torch workload on gloo: they train as one, and of all that befalls them the first thing is told."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.protocol.outputs import BundleLine, Ending, WorkloadExit
from tests.support.launched import Launched, launch

HERE = importlib.util.find_spec("torch") is not None
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HERE, reason="torch is not here: put it on PYTHONPATH to run these tests"),
]
WELL = WorkloadExit(Ending.EXITED, 0, None, None, None)


def train(
    folder: Path,
    code: str,
    *,
    ranks: int | None = 2,
    parameters: dict[str, Any] | None = None,
    **options: Any,
) -> Launched:
    workload = {"kind": "torch", "entry": "mine.train:main", "parameters": parameters or {}}
    if ranks is not None:
        workload["nproc-per-node"] = ranks
    return launch(folder, workload, {"mine/train.py": code}, {"loss": "loss.json"}, **options)


TRAINING = """
import json
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

def main(context):
    assert (context.rank, context.world_size) == (dist.get_rank(), dist.get_world_size())
    assert context.local_rank == context.rank and context.device == torch.device("cpu")
    assert dist.is_torchelastic_launched()
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
    if context.parameters["with"] == "fsdp2":
        mesh = init_device_mesh("cpu", (context.world_size,))
        for layer in model:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    else:
        model = DistributedDataParallel(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(context.rank)
    losses = []
    for _ in range(60):
        x = torch.randn(32, 8, generator=generator)
        loss = ((model(x) - x.sum(1, keepdim=True)) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        losses.append(float(mean) / context.world_size)
    held = [p.to_local().numel() if hasattr(p, "to_local") else p.numel() for p in model.parameters()]
    told = [None] * context.world_size
    dist.all_gather_object(told, {"losses": losses, "held": sum(held), "threads": torch.get_num_threads()})
    if context.rank == 0:
        context.output("loss").write_text(json.dumps(told))
"""


@pytest.mark.parametrize("how", ["ddp", "fsdp2"])
def test_two_ranks_train_as_one_and_the_loss_falls(tmp_path: Path, how: str) -> None:
    done = train(tmp_path, TRAINING, parameters={"with": how}, cpus=4)
    assert done.ended == WELL, done.printed
    first, second = json.loads((done.out / "loss.json").read_text())
    assert first["losses"] == second["losses"]
    assert first["losses"][-1] < first["losses"][0] / 4
    whole = 8 * 16 + 16 + 16 + 1
    held = first["held"], second["held"]
    assert held == (whole, whole) if how == "ddp" else (sum(held) == whole and max(held) < whole)
    assert first["threads"] == 2  # four CPUs shared out among two


def test_without_gpus_there_is_one_rank_unless_more_are_asked_for(tmp_path: Path) -> None:
    code = """
def main(context):
    assert (context.rank, context.world_size) == (0, 1)
    context.output("loss").write_text("1")
"""
    done = train(tmp_path, code, ranks=None)
    assert done.ended == WELL, done.printed
    assert (done.out / "loss.json").read_text() == "1"


def waiting(*lines: str) -> str:
    """Code whose second rank does as ``lines`` say while the first waits for it in a collective."""
    bad = "\n        ".join(lines)
    return f"""
import os, signal, sys, time
import torch, torch.distributed as dist

class TooFewSlices(Exception):
    pass

def main(context):
    if context.rank == 1:
        {bad}
    dist.all_reduce(torch.ones(1))
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("raise TooFewSlices('P-1 has 9434765919')", ("crashed", "TooFewSlices", 10, None)),
        ("sys.exit('patient P-1')", ("crashed", "SystemExit", 10, None)),
        ("os.kill(os.getpid(), signal.SIGKILL)", ("process-killed", None, None, 9)),
        ("os.kill(os.getpid(), signal.SIGSEGV)", ("process-killed", None, None, 11)),
        ("os._exit(0)", ("process-exited", None, None, None)),
        ("os._exit(71)", ("process-exited", None, None, None)),
        ("return", ("process-ended-early", None, 11, None)),
        ("sys.exit(0)", ("process-ended-early", None, 11, None)),
    ],
)
def test_of_two_ranks_the_first_that_fails_is_told_and_ends_both(
    tmp_path: Path, line: str, told: tuple[Any, ...]
) -> None:
    began = time.monotonic()
    done = train(tmp_path, waiting(line))
    assert time.monotonic() - began < 120  # both would sleep for ten minutes, or wait for half an hour
    place = done.ended.bundle_line
    found = (done.ended.ending, done.ended.exception_type, place and place.line, done.ended.signal)
    assert found == told, done.printed
    assert place is None or place.file == "mine/train.py"


def test_what_befalls_a_rank_while_it_is_imported_is_told_as_well(tmp_path: Path) -> None:
    code = "import os\nif os.environ['RANK'] == '1':\n    raise KeyError('P-1')\ndef main(context): pass\n"
    done = train(tmp_path, code)
    assert (done.ended.ending, done.ended.exception_type) == ("crashed", "KeyError"), done.printed
    assert done.ended.bundle_line == BundleLine("mine/train.py", 3)


def test_an_entry_that_is_no_function_is_named(tmp_path: Path) -> None:
    done = train(tmp_path, "main = 3\n")
    assert (done.ended.ending, done.ended.exception_type) == ("crashed", "EntryError"), done.printed
    assert done.ended.bundle_line == BundleLine("mine/train.py", 1)


def test_an_entry_module_that_is_missing_is_told_by_its_type(tmp_path: Path) -> None:
    done = launch(tmp_path, {"kind": "torch", "entry": "absent:main"}, {"mine.py": "x = 1\n"})
    assert (done.ended.ending, done.ended.exception_type) == ("crashed", "ModuleNotFoundError"), done.printed


def test_a_rank_that_never_joins_ends_the_attempt(tmp_path: Path) -> None:
    code = "import os, time\nif os.environ['RANK'] == '1':\n    time.sleep(600)\ndef main(context): pass\n"
    done = train(tmp_path, code, told={"join-timeout-s": 6})
    assert done.ended.ending == "process-not-joined", done.printed


def test_a_rank_may_end_before_one_that_still_writes(tmp_path: Path) -> None:
    code = """
import time
def main(context):
    if context.rank == 0:
        time.sleep(3)
        context.output("loss").write_text("0.5")
"""
    done = train(tmp_path, code)
    assert done.ended == WELL, done.printed
    assert (done.out / "loss.json").read_text() == "0.5"


def test_a_fault_of_ones_own_after_others_came_back_is_told_as_such(tmp_path: Path) -> None:
    code = """
import time
def main(context):
    if context.rank == 0:
        time.sleep(2)
        raise ValueError("P-1")
"""
    done = train(tmp_path, code)
    assert (done.ended.ending, done.ended.exception_type) == ("crashed", "ValueError"), done.printed
    assert done.ended.bundle_line == BundleLine("mine/train.py", 6)
