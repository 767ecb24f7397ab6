"""``pretrain-mae@1``: a masked autoencoder (He et al. 2022) of slides or volumes, by MONAI.

Outputs: ``encoder``, weights for ``finetune@1`` and ``embed@1``, and ``training``, a table of the loss.

Parameters: those of :class:`…training.parameters.Parameters`, ``mask`` (0.75, the share of tokens hidden) and
``normalise`` (true: targets by their own token's mean and deviation, as the paper found best).
"""

from __future__ import annotations

from typing import Any

import einops
import torch

from hdrs_hpc.workloads.training import fitting, models, writing
from hdrs_hpc.workloads.training.parameters import Parameters
from hdrs_hpc.workloads.training.patches import images, patches, people, rows, scaled

OWN = ("mask", "normalise")
"""Parameters of this workload alone."""
COLUMNS = ("epoch", "n_patients", "loss")
"""Of ``training``."""

_TOKENS = {
    2: "b c (h p) (w q) -> b (h w) (p q c)",
    3: "b c (d o) (h p) (w q) -> b (d h w) (o p q c)",
}


def run(context: Any) -> None:
    """The entry, on every rank."""
    told = Parameters.of_spec(context.parameters, OWN)
    normalise = bool(context.parameters.get("normalise", True))
    fitting.begin(told)
    copy = images(context, told)
    data = patches(copy, rows(copy, told), told)
    model = models.masked_autoencoder(told, float(context.parameters.get("mask", 0.75))).to(context.device)

    def loss_of(model: Any, batch: Any) -> Any:
        inputs = scaled(batch["image"], told, context.device)
        predicted, hidden = model(inputs)
        sides = dict(zip("opq"[3 - told.dimensions :], [told.token] * told.dimensions, strict=True))
        target = einops.rearrange(inputs, _TOKENS[told.dimensions], **sides)
        if normalise:
            target = torch.nn.functional.layer_norm(target, target.shape[-1:])
        chosen = hidden.bool()
        return torch.nn.functional.mse_loss(predicted[chosen].float(), target[chosen])

    epochs = fitting.fit(context, told, model, loss_of, data)
    writing.table(context, "training", COLUMNS, [(each.number, people(data), each.loss) for each in epochs])
    if context.rank == 0 and "encoder" in context.output_names:
        models.save(models.encoder_weights(model), context.output("encoder"))
