"""``command``: a program of the bundle, run once, with arguments that name inputs and outputs.

A program is a file of the bundle, or an interpreter of the flavour with a file of the bundle: what a reviewer of the
bundle did not see never runs, so no code stands in arguments.  What runs it is ``hdrs_hpc/workloads/command_run``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Literal

from hdrs_hpc.catalogue.workloads.kind import Example, Fault, Kind, Use
from hdrs_hpc.catalogue.workloads.plan import Given, Plan, Process
from hdrs_hpc.core import wire
from hdrs_hpc.core.wire import Between, Count, Name, Pattern

INTERPRETERS = ("python3",)
"""Programs of a flavour; each runs a file of the bundle, which its first argument names."""
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_PLACEHOLDER = re.compile(r"\{(inputs|outputs)\.([a-z][a-z0-9-]{0,39})\}", re.ASCII)
_MEANT_AS_ONE = re.compile(r"\{(inputs?|outputs?)[.}][^{}]*\}?")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)
_ELF = b"\x7fELF\x02\x01"
"""Of 64 bits, the lower byte first: every kind of node that there is."""


@dataclass(frozen=True)
class CommandTold:
    """What the process that runs the program is told."""

    run: tuple[str, ...]
    materialise: dict[str, str]
    most_bytes: Count


@dataclass(frozen=True)
class CommandFields:
    run: Annotated[tuple[Annotated[str, Between(1, 1000)], ...], Between(1, 64)]
    """Program and arguments, no shell between: a file of the bundle, or python3 and a file of the bundle.
    ``{inputs.NAME}`` and ``{outputs.NAME}`` are replaced by paths."""
    materialise: Annotated[dict[Name, Literal["zarr", "nifti"]], Between(0, 16)] = field(default_factory=dict)
    """Names of ``data`` that the program needs as files, in private memory; others are read by the socket."""
    materialise_size: Annotated[str, Pattern(r"[1-9][0-9]{0,5}(KiB|MiB|GiB)")] | None = None
    """How large these files may be together; they count as memory of the job."""


def rules(fields: CommandFields, has_bundle: bool) -> Iterator[Fault]:
    if not has_bundle:
        yield Fault("workload-ambiguous", "a command needs a bundle that holds its program")
    program = program_file(fields.run)
    if program is None:
        names = " or ".join(INTERPRETERS)
        yield Fault("bad-program", f"{names} is followed by a file of the bundle, and by no option", "run")
    elif not _is_path(program):
        yield Fault("bad-program", "a program is a path in the bundle, such as bin/segment", "run")
    for word in fields.run:
        for found in _MEANT_AS_ONE.finditer(word):
            if not _PLACEHOLDER.fullmatch(found[0]):
                sentence = f"{found[0][:60]} is no placeholder; write {{inputs.NAME}} or {{outputs.NAME}}"
                yield Fault("bad-placeholder", sentence, "run")
    if bool(fields.materialise) != (fields.materialise_size is not None):
        yield Fault(
            "bad-value",
            "materialise and materialise-size go together: which inputs, and how many bytes at most",
            "materialise-size" if fields.materialise_size else "materialise",
        )


def uses(fields: CommandFields) -> Iterator[Use]:
    """What the placeholders name: data that are materialised, files of ``inputs``, outputs."""
    for word in fields.run:
        for section, name in _PLACEHOLDER.findall(word):
            if section == "outputs" or name not in fields.materialise:
                yield Use(section, name, "run")
    for name in fields.materialise:
        yield Use("data", name, "materialise")


def program_file(run: tuple[str, ...]) -> str | None:
    """The file of the bundle that runs; None where an interpreter is given none."""
    if run[0] not in INTERPRETERS:
        return run[0]
    return run[1] if len(run) > 1 and not run[1].startswith("-") else None


def filled(run: tuple[str, ...], paths: Mapping[tuple[str, str], str]) -> tuple[str, ...]:
    """``run`` with its placeholders replaced; ``paths`` by section and name.  Raises KeyError."""
    return tuple(_PLACEHOLDER.sub(lambda found: paths[found[1], found[2]], word) for word in run)


def check_bundle(
    fields: CommandFields, files: Mapping[str, bytes], executable: Collection[str]
) -> Iterator[Fault]:
    """What can be known of the program before it runs; whether an ELF file is for its node, only that one knows."""
    program = program_file(fields.run)
    if program is None:
        return
    program = str(PurePosixPath(program))
    if program not in files:
        yield Fault("program-not-in-bundle", f"the bundle has no file {program[:100]}", "run")
    elif fields.run[0] in INTERPRETERS:
        return
    elif not files[program].startswith((b"#!", _ELF)):
        yield Fault(
            "program-not-runnable", f"{program[:100]} is neither a script that begins with #! nor ELF", "run"
        )
    elif program not in executable:
        yield Fault("program-not-runnable", f"{program[:100]} may not be executed: `chmod +x` it", "run")


def _is_path(text: str) -> bool:
    return all(_PART.fullmatch(part) for part in PurePosixPath(text).parts)


def plan(fields: CommandFields, given: Given) -> Plan:
    """One process, which puts files where they are asked for and then waits for the program."""
    size = fields.materialise_size
    told = CommandTold(
        run=fields.run,
        materialise=dict(fields.materialise),
        most_bytes=int(size[:-3]) * _UNITS[size[-3:]] if size else 0,
    )
    threads = str(max(1, given.cpus))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return Plan(
        module="hdrs_hpc.workloads.command_run",
        processes=(Process("command", 0),),
        told=wire.to_value(told),
        ends_with="command",
        environment=dict.fromkeys(names, threads),
    )


EXAMPLE = Example(
    fields={"run": ["python3", "mine.py"]},
    bundle={
        "mine.py": '''"""Run once, as a program; `run` of the spec may give it arguments.  See docs/ai-developer.md."""

import json
import os
from pathlib import Path

from imaging.reading import open_staged

rows = [row for name in os.environ["HDRS_INPUTS"].split() for row in open_staged(name).index().to_pylist()]
found = {
    "n_patients": len({row["patient"] for row in rows} - {None}),  # a slide may name none
    "n_series": sum(row["kind"] == "volume" for row in rows),
}
for name, path in os.environ.items():
    if name.startswith("HDRS_OUTPUT_"):
        Path(path).write_text(json.dumps(found))
''',
    },
)

KIND = Kind(
    name="command",
    built=True,
    summary="A program of the bundle, run once, with arguments that name inputs and outputs.",
    fields=CommandFields,
    rules=rules,
    example=EXAMPLE,
    plan=plan,
    one_node=True,
    uses=uses,
    check_bundle=check_bundle,
)
