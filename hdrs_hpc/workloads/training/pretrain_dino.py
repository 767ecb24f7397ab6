"""``pretrain-dino@1``: DINO (Caron et al. 2021) of slides, with timm's backbone and lightly's views, heads and loss.

Outputs: ``encoder``, the teacher's weights for ``finetune@1`` and ``embed@1``, and ``training``, a table of the loss.

Parameters: those of :class:`…training.parameters.Parameters`, ``prototypes`` (4096, the head's width), ``local-views``
(6) and ``momentum`` (0.996, of the teacher at the beginning; it ends at 1).
"""

from __future__ import annotations

from typing import Any

import torch
from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import DINOTransform
from lightly.utils.scheduler import cosine_schedule
from torchvision.transforms.functional import to_pil_image

from hdrs_hpc.workloads.training import fitting, models, writing
from hdrs_hpc.workloads.training.parameters import SIZES, Parameters
from hdrs_hpc.workloads.training.patches import images, patches, people, rows

OWN = ("prototypes", "local-views", "momentum")
"""Parameters of this workload alone."""
COLUMNS = ("epoch", "n_patients", "loss")
"""Of ``training``."""


class Branch(torch.nn.Module):  # type: ignore[misc]  # torch is unknown to the type checker
    """Backbone and head.  All views in one call: DistributedDataParallel wants one forward for a backward."""

    def __init__(self, told: Parameters, prototypes: int) -> None:
        super().__init__()
        self.backbone = models.backbone(told)
        width = SIZES[told.model].width
        self.head = DINOProjectionHead(width, 2048, 256, prototypes)

    def forward(self, views: list[Any]) -> list[Any]:
        return [self.head(self.backbone(view)).float() for view in views]


class Views:
    """A sample with ``views`` instead of its image: two large ones, then small ones."""

    def __init__(self, size: int, local_views: int) -> None:
        half = (0.5, 0.5, 0.5)
        # Tissue has no up and down; colour is jittered less than in photographs, for stain carries meaning.
        self._make = DINOTransform(
            global_crop_size=size,
            local_crop_size=max(32, size * 3 // 7 // 16 * 16),
            n_local_views=local_views,
            vf_prob=0.5,
            rr_prob=0.5,
            cj_strength=0.25,
            random_gray_scale=0.0,
            solarization_prob=0.0,
            normalize={"mean": list(half), "std": list(half)},
        )

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        views = self._make(to_pil_image(sample["image"]))
        return {"views": views, "item": sample["item"]}


def run(context: Any) -> None:
    """The entry, on every rank."""
    told = Parameters.of_spec(context.parameters, OWN, lr=5e-4, weight_decay=0.04)
    if told.of != "slides":
        raise ValueError("DINO takes slides here: its views are of colour pictures")
    momentum = float(context.parameters.get("momentum", 0.996))
    prototypes = int(context.parameters.get("prototypes", 4096))
    fitting.begin(told)
    copy = images(context, told)
    views = Views(told.size, int(context.parameters.get("local-views", 6)))
    data = patches(copy, rows(copy, told), told, transform=views)
    student = Branch(told, prototypes).to(context.device)
    teacher = Branch(told, prototypes).to(context.device)
    teacher.load_state_dict(student.state_dict())
    deactivate_requires_grad(teacher)
    criterion = DINOLoss(output_dim=prototypes).to(context.device)

    def loss_of(model: Any, batch: Any) -> Any:
        given = [view.to(context.device, non_blocking=True) for view in batch["views"]]
        with torch.no_grad():
            wanted = teacher(given[:2])
        return criterion(wanted, model(given))

    def after_step(done: float) -> None:
        update_momentum(student, teacher, cosine_schedule(round(done * 1000), 1001, momentum, 1.0))

    epochs = fitting.fit(context, told, student, loss_of, data, after_step)
    writing.table(context, "training", COLUMNS, [(each.number, people(data), each.loss) for each in epochs])
    if context.rank == 0 and "encoder" in context.output_names:
        models.save(teacher.backbone.state_dict(), context.output("encoder"))
