"""``torch``: one function called by every rank of a PyTorch training, or a workload of that kind that we built in.

All ranks live in the one sandbox of the node, as torchrun starts them; what imports PyTorch is
``hdrs_hpc/workloads/torch_ranks``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from hdrs_hpc.catalogue.flavours import TORCH
from hdrs_hpc.catalogue.workloads.kind import (
    Builtin,
    Entry,
    Example,
    Fault,
    Kind,
    Parameters,
    check_code,
    check_parameters,
)
from hdrs_hpc.catalogue.workloads.plan import Given, Plan, Process, Rendezvous
from hdrs_hpc.core import wire
from hdrs_hpc.core.wire import Between, Count

MAX_RANKS = 64
JOIN_TIMEOUT_S = 300
"""Importing a bundle's libraries is part of it, which takes a minute on a busy node."""


@dataclass(frozen=True)
class TorchTold:
    """What torchrun and the ranks are told."""

    address: str
    """Where the ranks meet: loopback, since all of them are on this node."""
    port: Count
    ranks: Count
    gpus: Count
    join_timeout_s: Count
    builtin: str | None
    entry: str | None
    parameters: dict[str, Any]


@dataclass(frozen=True)
class TorchFields:
    builtin: Builtin | None = None
    """A workload of ours (``catalogue/workloads/builtin.py``); instead of a bundle."""
    entry: Entry | None = None
    """The function that every rank calls with a context, in the bundle."""
    parameters: Parameters = field(default_factory=dict)
    nproc_per_node: Annotated[int, Between(1, MAX_RANKS)] | None = None
    """Ranks on a node; absent: one for each of its GPUs, and one where it has none."""


def rules(fields: TorchFields, has_bundle: bool) -> Iterator[Fault]:
    yield from check_code(fields.builtin, fields.entry, has_bundle)
    yield from check_parameters(fields.parameters)


def plan(fields: TorchFields, given: Given) -> Plan:
    """One process, torchrun, which starts the ranks; they share the node's CPUs out among themselves."""
    ranks = fields.nproc_per_node or given.gpus or 1
    told = TorchTold(
        address=given.address,
        port=Rendezvous.read(given.first_told).port,
        ranks=ranks,
        gpus=given.gpus,
        join_timeout_s=JOIN_TIMEOUT_S,
        builtin=fields.builtin,
        entry=fields.entry,
        parameters=fields.parameters,
    )
    threads = str(max(1, given.cpus // ranks))
    return Plan(
        module="hdrs_hpc.workloads.torch_ranks",
        processes=(Process("torchrun", 0),),
        told=wire.to_value(told),
        ends_with="torchrun",
        environment={
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads),
            # Names of hosts and other interfaces mean nothing in a sandbox, and asking for them takes seconds.
            **dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "TP_SOCKET_IFNAME"), "lo"),
        },
    )


EXAMPLE = Example(
    fields={"entry": "mine:train", "parameters": {"steps": 20}, "nproc-per-node": 2},
    bundle={
        "mine.py": '''"""Called in every rank of a training, once they have met; see docs/ai-developer.md."""

import json

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def volumes(context):
    """One number in the middle of each series: put your own reading here."""
    found = []
    for copy in context.data.values():
        for row in copy.index().to_pylist():
            if row["kind"] == "volume":
                middle = copy.volume(row["item"])
                found.append(float(middle[tuple(side // 2 for side in middle.shape)]))
    return torch.tensor(found or [0.0])


def train(context):
    torch.manual_seed(0)  # every rank begins with the same weights
    seen = volumes(context)[context.rank :: context.world_size].to(context.device)
    seen = seen / seen.abs().max().clamp(min=1) if len(seen) else torch.zeros(1, device=context.device)
    model = DistributedDataParallel(torch.nn.Linear(1, 1).to(context.device))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(context.parameters["steps"]):
        loss = ((model(seen[:, None]) - seen[:, None]) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()  # gradients are averaged over all ranks
        optimiser.step()
    loss = loss.detach()
    dist.all_reduce(loss)
    rows = [row for copy in context.data.values() for row in copy.index().to_pylist()]
    if context.rank == 0:  # one rank writes what leaves
        told = {
            "n_patients": len({row["patient"] for row in rows}),
            "n_series": sum(row["kind"] == "volume" for row in rows),
            "loss": round(float(loss) / context.world_size, 3),
        }
        for name in context.output_names:
            context.output(name).write_text(json.dumps(told))
''',
    },
)

KIND = Kind(
    name="torch",
    built=True,
    summary="PyTorch training: one function called by every rank, one rank a GPU, by torchrun.",
    fields=TorchFields,
    rules=rules,
    example=EXAMPLE,
    plan=plan,
    flavour=TORCH,
    one_node=True,
)
