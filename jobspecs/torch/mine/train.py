"""A small autoencoder of CT patches, trained on all ranks together: the smallest useful training.

It runs inside the sandbox, in every rank, once torchrun has brought them together.  `context.data` holds the inputs by
the names that the spec gives them, and `context.output(name)` is where a declared output goes; one rank writes it.
"""

import json

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from imaging.reading.torch_data import VolumePatches


def model(width=8):
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, width, 3, stride=2, padding=1),
        torch.nn.GELU(),
        torch.nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        torch.nn.GELU(),
        torch.nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
        torch.nn.GELU(),
        torch.nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
    )


def main(context):
    """Called once in every rank."""
    steps, batch, side = (context.parameters[name] for name in ("steps", "batch", "side"))
    (copy,) = context.data.values()
    patches = VolumePatches(copy, patch=(1, side, side))
    loader = context.loader(patches, batch)  # each rank gets its own part of one order
    torch.manual_seed(0)
    net = DistributedDataParallel(model().to(context.device))
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    while len(losses) < steps:
        for samples in loader:
            image = samples["image"][:, :, 0].to(context.device).clamp(-1000, 1000) / 1000
            loss = (net(image) - image).square().mean()
            optimiser.zero_grad()
            loss.backward()  # gradients are averaged over all ranks
            optimiser.step()
            shown = loss.detach().clone()
            dist.all_reduce(shown)
            losses.append(float(shown) / context.world_size)
            if len(losses) == steps:
                break
    if context.rank == 0:
        patients = {row["patient"] for row in copy.index().to_pylist()}
        tenth = max(1, steps // 10)
        told = {
            "n_patients": len(patients),
            "loss_at_first": round(sum(losses[:tenth]) / tenth, 3),
            "loss_at_last": round(sum(losses[-tenth:]) / tenth, 3),
        }
        context.output("curve").write_text(json.dumps(told))
