"""``command``: a program of the bundle, run once on every node.  Not built yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from hdrs_hpc.catalogue.workloads.kind import Example, Fault, Kind
from hdrs_hpc.catalogue.workloads.plan import Given, Plan
from hdrs_hpc.core.errors import InternalError
from hdrs_hpc.core.wire import Between


@dataclass(frozen=True)
class CommandFields:
    run: Annotated[tuple[Annotated[str, Between(1, 1000)], ...], Between(1, 64)]
    """Program and arguments, no shell between; the program is a path in the bundle or a name of the runtime."""


def rules(fields: CommandFields, has_bundle: bool) -> Iterator[Fault]:
    if not has_bundle:
        yield Fault("workload-ambiguous", "a command needs a bundle that holds it")


def plan(fields: CommandFields, given: Given) -> Plan:
    raise InternalError("a workload of kind command is not built yet, and must have been refused before")


EXAMPLE = Example(
    fields={"run": ["python3", "mine.py"]},
    bundle={"mine.py": '"""Run once on every node; see docs/ai-developer.md."""\n\nprint("hello")\n'},
)

KIND = Kind(
    name="command",
    built=False,
    summary="A program of the bundle, run once on every node.",
    fields=CommandFields,
    rules=rules,
    example=EXAMPLE,
    plan=plan,
)
