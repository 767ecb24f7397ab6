"""``torch``: one function of a bundle, started by torchrun once a GPU on every node.  Not built yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hdrs_hpc.catalogue.flavours import TORCH
from hdrs_hpc.catalogue.workloads.kind import (
    Entry,
    Example,
    Fault,
    Kind,
    Parameters,
    check_entry,
    check_parameters,
)
from hdrs_hpc.catalogue.workloads.plan import Given, Plan
from hdrs_hpc.core.errors import InternalError


@dataclass(frozen=True)
class TorchFields:
    entry: Entry
    """The function that every process calls, in the bundle."""
    parameters: Parameters = field(default_factory=dict)


def rules(fields: TorchFields, has_bundle: bool) -> Iterator[Fault]:
    if not has_bundle:
        yield Fault("workload-ambiguous", "training needs a bundle with your code")
    yield from check_entry(fields.entry)
    yield from check_parameters(fields.parameters)


def plan(fields: TorchFields, given: Given) -> Plan:
    raise InternalError("a workload of kind torch is not built yet, and must have been refused before")


EXAMPLE = Example(
    fields={"entry": "mine:train", "parameters": {"epochs": 1}},
    bundle={
        "mine.py": '''"""Called by every process of the training; see docs/ai-developer.md."""


def train(context):
    raise NotImplementedError
''',
    },
)

KIND = Kind(
    name="torch",
    built=False,
    summary="PyTorch training: one process a GPU on every node, by torchrun.",
    fields=TorchFields,
    rules=rules,
    example=EXAMPLE,
    plan=plan,
    flavour=TORCH,
)
