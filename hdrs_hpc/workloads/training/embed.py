"""``embed@1``: one vector an item, the mean of its patches' features, for later jobs of the project.

Output ``embeddings``: safetensors with ``items`` (ids, rows of bytes), ``features`` (n, width) and ``patches`` (n).
It stays in the project: a vector a patient is about that patient.

Parameters: those of :class:`…training.parameters.Parameters` about data and model.  The input ``encoder`` of the spec
is the model's weights; without it they are random, and so is what they say.
"""

from __future__ import annotations

from typing import Any

import torch

from hdrs_hpc.workloads.training import fitting, models, writing
from hdrs_hpc.workloads.training.parameters import Parameters
from hdrs_hpc.workloads.training.patches import images, patches, rows, scaled


def run(context: Any) -> None:
    """The entry, on every rank."""
    told = Parameters.of_spec(context.parameters)
    fitting.begin(told)
    copy = images(context, told)
    data = patches(copy, rows(copy, told), told, "grid")
    items = sorted({image.item for image in data.plan.images})
    number = {item: place for place, item in enumerate(items)}
    model = models.encoder(told, context.inputs.get("encoder")).to(context.device).eval()
    sums = torch.zeros(len(items), model.width, device=context.device)
    counts = torch.zeros(len(items), device=context.device)
    # Each rank takes every n-th patch; a Subset is read in batches too.
    mine = torch.utils.data.Subset(data, range(context.rank, len(data), context.world_size))
    with torch.inference_mode():
        for batch in torch.utils.data.DataLoader(mine, told.batch_size, num_workers=told.workers):
            with fitting.precision(context.device):
                features = model(scaled(batch["image"], told, context.device)).float()
            at = torch.tensor([number[item] for item in batch["item"]], device=context.device)
            sums.index_add_(0, at, features)
            counts.index_add_(0, at, torch.ones_like(at, dtype=counts.dtype))
    sums, counts = fitting.sum_of_ranks(context, sums), fitting.sum_of_ranks(context, counts)
    means = sums / counts.clamp_min(1)[:, None]
    writing.by_item(
        context,
        "embeddings",
        items,
        features=means.cpu().numpy(),
        patches=counts.to(torch.int64).cpu().numpy(),
    )
