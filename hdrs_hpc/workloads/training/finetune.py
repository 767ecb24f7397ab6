"""``finetune@1``: a classifier of patches on pretrained weights, of items with labels.

Outputs: ``model``, weights of encoder and head, and ``training``, a table of loss and accuracy on the patients trained
on and on others.

Parameters: those of :class:`…training.parameters.Parameters`; ``label``, a column; ``table``, the input that has it as
a linked table (without: the index has it); ``classes``, its values in their order; ``validation`` (0.2, the share of
patients held out); ``frozen`` (false: the encoder learns too).  The input ``encoder`` of the spec, where there is one,
is what it begins with.
"""

from __future__ import annotations

from typing import Any

import torch

from hdrs_hpc.workloads.training import fitting, models, writing
from hdrs_hpc.workloads.training.parameters import Parameters
from hdrs_hpc.workloads.training.patches import images, patches, people, rows, scaled
from imaging.reading import split_by_patient
from imaging.reading.labels import labels_of

OWN = ("label", "table", "classes", "validation", "frozen")
"""Parameters of this workload alone."""
COLUMNS = ("part", "epoch", "n_patients", "loss", "accuracy")
"""Of ``training``."""


class Classifier(torch.nn.Module):  # type: ignore[misc]  # torch is unknown to the type checker
    def __init__(self, encoder: models.Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = torch.nn.Linear(encoder.width, classes)

    def forward(self, inputs: Any) -> Any:
        return self.head(self.encoder(inputs))


def run(context: Any) -> None:
    """The entry, on every rank."""
    given = context.parameters
    told = Parameters.of_spec(given, OWN, lr=3e-4)
    fitting.begin(told)
    copy = images(context, told)
    chosen = rows(copy, told)
    linked = context.data[given["table"]].table() if given.get("table") else None
    labels = labels_of(chosen, given["label"], linked, given.get("classes"))
    held_out = float(given.get("validation", 0.2))
    shares = {"training": 1 - held_out, "validation": held_out}
    parts = split_by_patient(chosen, shares, str(told.seed), unknown_apart=True)
    if empty := [name for name, share in shares.items() if share and not parts[name].num_rows]:
        raise ValueError(
            f"no patient of these few falls into {empty[0]}: give another validation, or 0, or a seed"
        )
    data = patches(copy, parts["training"], told, labels=labels)
    others = patches(copy, parts["validation"], told, "grid", labels=labels) if held_out else None

    model = Classifier(models.encoder(told, context.inputs.get("encoder")), len(labels.names))
    if given.get("frozen", False):
        model.encoder.requires_grad_(False)
    model.to(context.device)
    right = torch.zeros(2, device=context.device)
    made: list[tuple[object, ...]] = []

    def loss_of(model: Any, batch: Any) -> Any:
        wanted = batch["label"].to(context.device)
        guessed = model(scaled(batch["image"], told, context.device)).float()
        right.add_(
            torch.stack([(guessed.argmax(1) == wanted).sum(), torch.tensor(len(wanted)).to(right.device)])
        )
        return torch.nn.functional.cross_entropy(guessed, wanted)

    accuracies: list[float] = []

    def after_epoch(number: int) -> None:
        found = fitting.sum_of_ranks(context, right.clone()).tolist()
        right.zero_()
        accuracies.append(found[0] / max(1.0, found[1]))
        if others is not None:
            loss, accuracy = _judged(context, told, model, others)
            made.append(("validation", number, people(others), loss, accuracy))

    epochs = fitting.fit(context, told, model, loss_of, data, after_epoch=after_epoch)
    for each, accuracy in zip(epochs, accuracies, strict=True):
        made.append(("training", each.number, people(data), each.loss, accuracy))
    writing.table(context, "training", COLUMNS, sorted(made, key=lambda row: row[:2]))  # type: ignore[arg-type, return-value]  # part, epoch
    if context.rank == 0 and "model" in context.output_names:
        models.save(model.state_dict(), context.output("model"))


def _judged(context: Any, told: Parameters, model: Any, data: Any) -> tuple[float, float]:
    """Mean loss and accuracy on a grid of patches, which ranks share."""
    mine = torch.utils.data.Subset(data, range(context.rank, len(data), context.world_size))
    sums = torch.zeros(3, device=context.device)
    model.eval()
    with torch.inference_mode():
        for batch in torch.utils.data.DataLoader(mine, told.batch_size, num_workers=told.workers):
            wanted = batch["label"].to(context.device)
            with fitting.precision(context.device):
                guessed = model(scaled(batch["image"], told, context.device)).float()
            loss = torch.nn.functional.cross_entropy(guessed, wanted, reduction="sum")
            sums += torch.stack([loss, (guessed.argmax(1) == wanted).sum(), loss.new_tensor(len(wanted))])
    loss, right, count = fitting.sum_of_ranks(context, sums).tolist()
    return loss / max(1.0, count), right / max(1.0, count)
