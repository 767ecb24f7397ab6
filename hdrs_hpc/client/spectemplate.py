"""What ``spec new`` writes: a whole spec to begin with, filled in from the grant where one is at hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hdrs_hpc.catalogue import outputs
from hdrs_hpc.catalogue.flavours import Flavour
from hdrs_hpc.catalogue.workloads import dask
from hdrs_hpc.catalogue.workloads.builtin import TO_BEGIN_WITH
from hdrs_hpc.catalogue.workloads.kind import Kind
from hdrs_hpc.core.capacity import Capacity
from hdrs_hpc.documents import unfilled
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.forms.words import NAME_PATTERN, memory_text, walltime_text

CODE = "code"
"""The folder of the example's code, beside the spec."""
_RESOURCES = """\
resources:                        # Slurm's words, per node
  nodes: 1{nodes}
  cpus-per-task: {cpus}
  mem: {mem}
{gpus}  time: "{time}"{most}
"""
_FIRST_RUN_S = 30 * 60
_FIRST_RUN_CPUS = 4


def render(
    name: str,
    *,
    grant: Grant | None,
    kind: Kind | None = None,
    purpose: str | None = None,
    project: str | None = None,
    real: bool = False,
    capacity: Capacity | None = None,
) -> str:
    """YAML text of a new spec that passes ``spec check`` for this grant's data, workloads, limits and outputs with a
    purpose.

    ``kind``: whose example to begin with, code of one's own; None: a workload that is built in.
    ``real``: where any of the data are real, of which no output of some classes is made.  ``capacity``: what the
    cluster's nodes have, where that is known.
    """
    return (
        "schema: hdrs-hpc/job-spec/2\n"
        f"project: {grant.project if grant else project or unfilled.PROJECT}\n"
        f"name: {name}\n"
        f"purpose: {json.dumps(purpose, ensure_ascii=False) if purpose else unfilled.PURPOSE}\n"
        "data:                             # the name by which your code opens it: the dataset granted\n"
        f"{_data(grant)}"
        f"{_workload(kind)}"
        f"{_resources(grant, capacity, kind.flavour if kind else dask.KIND.flavour)}"
        "outputs:                          # what is not declared is never collected\n"
        f"{_outputs(grant, real, kind.example.writes if kind else None)}"
    )


def _data(grant: Grant | None) -> str:
    datasets = tuple(grant.data) if grant else (unfilled.DATASET,)
    short = [_short(dataset) for dataset in datasets]
    names = short if len(set(short)) == len(short) else datasets
    return "".join(
        f"  {name}: {{dataset: {dataset}}}\n" for name, dataset in zip(names, datasets, strict=True)
    )


def _workload(kind: Kind | None) -> str:
    if kind is None:
        rows = {"kind": dask.KIND.name, "builtin": TO_BEGIN_WITH}
    else:
        rows = {
            "kind": kind.name,
            **({"bundle": f"./{CODE}"} if kind.example.bundle else {}),
            **kind.example.fields,
        }
    lines = [
        f"  {name}: {value if isinstance(value, str) else json.dumps(value)}" for name, value in rows.items()
    ]
    return "\n".join(["workload:", *lines, ""])


def _resources(grant: Grant | None, capacity: Capacity | None, flavour: Flavour) -> str:
    sizes = {
        "cpus": min(_FIRST_RUN_CPUS, capacity.most_cpus) if capacity else _FIRST_RUN_CPUS,
        "mem": memory_text(min(flavour.mem_mb, capacity.most_mem_mb) if capacity else flavour.mem_mb),
        "gpus": "" if capacity and not capacity.gres else "  # gres: gpu:1\n",
    }
    if grant is None:
        return _RESOURCES.format(nodes="", time=walltime_text(_FIRST_RUN_S), most="", **sizes)
    limits = grant.limits
    return _RESOURCES.format(
        **sizes,
        nodes=f"{' ' * 24}# up to {limits.nodes}; on {', '.join(limits.clusters)}",
        time=walltime_text(min(_FIRST_RUN_S, limits.time)),
        most=f"{' ' * 16}# up to {walltime_text(limits.time)} a job",
    )


def _outputs(grant: Grant | None, real: bool, writes: tuple[str, ...] | None) -> str:
    """The outputs of the classes that may leave; what shows another output needs that one's class as well.

    ``writes``: how the files end that the example's code writes, where it is no built-in workload.
    """
    rows = [row for row in outputs.BUILT if not (real and "real" in row.refused_sensitivities)]
    if grant is not None:
        rows = [row for row in rows if grant.outputs.rule(row.name) is not None]
    if writes is not None:
        rows = [row for row in rows if set(row.declaration.ENDS_IN) & set(writes)] or rows
    names = {row.name for row in rows}
    return "".join(
        f"  {line}\n" for row in rows if row.needs is None or row.needs in names for line in row.spec_example
    )


def write_code(kind: Kind, folder: Path) -> list[Path]:
    """Write the code of the kind's example below ``folder``, where its spec lies; nothing if some is there."""
    if (folder / CODE).exists():
        return []
    written = [folder / CODE / name for name in kind.example.bundle]
    for path, text in zip(written, kind.example.bundle.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return written


def first_purpose(title: str) -> str:
    """A purpose that is true of a spec nobody has changed yet, in a project of this title."""
    return f"A first run of the example that hdrs-hpc brings, before work on: {title}"


def name_from(stem: str) -> str:
    """A spec's name made of a file's, or ``first-look`` where that can't be one."""
    made = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40]
    return made if re.fullmatch(NAME_PATTERN.strip("^$"), made) else "first-look"


def _short(dataset: str) -> str:
    return dataset.rsplit("-", 1)[-1] if dataset.rsplit("-", 1)[-1][:1].isalpha() else dataset
