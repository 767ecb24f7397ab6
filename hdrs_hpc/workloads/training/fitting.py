"""The loop of all built-in trainings: AdamW, a cosine schedule, bfloat16 where there is it, gradients accumulated.

One file to read and to change.  What a kept library has is taken from it: torch (AdamW, autocast, DDP), timm (the
schedule), the context (the loader and its order).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler.cosine_lr import CosineLRScheduler
from timm.utils import random_seed

from hdrs_hpc.workloads.training.parameters import Parameters
from imaging.reading.torch_data import PatchDataset


@dataclass(frozen=True)
class Epoch:
    """``loss``: mean over the epoch's batches of all ranks."""

    number: int
    loss: float


def fit(
    context: Any,
    told: Parameters,
    model: Any,
    loss_of: Callable[[Any, Any], Any],
    data: PatchDataset,
    after_step: Callable[[float], None] | None = None,
    after_epoch: Callable[[int], None] | None = None,
) -> list[Epoch]:
    """Train ``model``, which is on the device, on all ranks.

    ``loss_of(model, batch)`` gives the mean loss of a batch; ``after_step`` hears how much of the training is
    done (0 to 1).  Raises FloatingPointError where the loss is no number: on every rank at once.
    """
    trained = model
    if context.world_size > 1:
        trained = torch.nn.parallel.DistributedDataParallel(model)
    loader = context.loader(data, told.batch_size, seed=told.seed, num_workers=told.workers)
    whole = max(1, len(loader) // told.accumulate)
    steps = min(told.steps or whole, whole)
    optimiser = create_optimizer_v2(model, opt="adamw", lr=told.lr, weight_decay=told.weight_decay)
    schedule = CosineLRScheduler(
        optimiser,
        t_initial=told.epochs * steps,
        warmup_t=round(told.warmup * told.epochs * steps),
        warmup_lr_init=told.lr / 100,
        t_in_epochs=False,
    )
    batches = _endless(loader)
    random_seed(told.seed, context.rank + 1)  # ranks draw different masks and views
    done, epochs = 0, []
    schedule.step_update(0)
    for number in range(1, told.epochs + 1):
        model.train()
        total = torch.zeros((), device=context.device)
        for _ in range(steps):
            for part, batch in enumerate(itertools.islice(batches, told.accumulate), 1):
                last = part == told.accumulate
                alone = nullcontext() if last or trained is model else trained.no_sync()
                with alone:
                    with precision(context.device):
                        loss = loss_of(trained, batch)
                    (loss / told.accumulate).backward()
                total += loss.detach() / (steps * told.accumulate)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            done += 1
            schedule.step_update(done)
            if after_step is not None:
                after_step(done / (told.epochs * steps))
        loss_of_all = mean_of_ranks(context, total)
        if not torch.isfinite(loss_of_all):
            raise FloatingPointError(
                f"the loss of epoch {number} is no number: take a lower lr, or look at the data"
            )
        epochs.append(Epoch(number, float(loss_of_all)))
        if context.rank == 0:
            print(f"epoch {number} of {told.epochs}: loss {epochs[-1].loss:.4f}", flush=True)
        if after_epoch is not None:
            after_epoch(number)
    return epochs


def begin(told: Parameters) -> None:
    """Seed what is made next, such as weights: equal on all ranks."""
    random_seed(told.seed)


def precision(device: Any) -> Any:
    """bfloat16 where the device computes in it."""
    here = device.type != "cpu" and (device.type != "cuda" or torch.cuda.is_bf16_supported())
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=here)


def mean_of_ranks(context: Any, value: Any) -> Any:
    return sum_of_ranks(context, value) / context.world_size


def sum_of_ranks(context: Any, value: Any) -> Any:
    if context.world_size > 1:
        torch.distributed.all_reduce(value)
    return value


def _endless(loader: Any) -> Any:
    """Epochs of the loader one after the other; an epoch of ours may end in the middle of one of its."""
    while True:
        yield from loader
