"""What ``spec new`` writes: a whole spec to begin with, filled in from the grant where one is at hand."""

from __future__ import annotations

import re

from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.words import NAME_PATTERN

_BUILTIN = """\
workload:
  kind: dask
  builtin: cohort-summary@1
"""
_OWN_CODE = """\
workload:
  kind: dask
  bundle: ./code                  # a folder; its content is pinned by digest when you sign
  entry: cohort.main:run          # code/cohort/main.py, function run
  parameters: {bins: 64}
"""
_REST = """\
resources:                        # Slurm's words, per node
  nodes: 1
  cpus-per-task: 4
  mem: 8G
  # gres: gpu:1
  time: "00:30:00"
outputs:                          # what is not declared is never collected
  cohort:       {class: table, path: cohort.csv, counts: [n_patients, n_series], max-size: 1MiB}
  spacing-bins: {class: table, path: spacing-bins.csv, counts: [n_patients, n_series], max-size: 1MiB}
  spacing:      {class: figure, path: spacing.png, data: spacing-bins, max-size: 2MiB}
  summary:      {class: metrics, path: summary.json, counts: [n_patients, n_series], max-size: 64KiB}
"""


def render(name: str, *, grant: Grant | None, own_code: bool, project: str | None = None) -> str:
    """YAML text of a new spec that passes ``spec check`` for this grant's data."""
    datasets = tuple(grant.data) if grant else ("your-dataset",)
    uses = "".join(f"  {_short(dataset)}: {{dataset: {dataset}}}\n" for dataset in datasets)
    return (
        "schema: hdrs-hpc/job-spec/1\n"
        f"project: {project or (grant.project if grant else 'your-project')}\n"
        f"name: {name}\n"
        "purpose: Say in a sentence what this run is for; custodians and checkers read it\n"
        "data:                             # the name by which your code opens it: the dataset granted\n"
        f"{uses}"
        f"{_OWN_CODE if own_code else _BUILTIN}"
        f"{_REST}"
    )


def name_from(stem: str) -> str:
    """A spec's name made of a file's, or ``first-look`` where that can't be one."""
    made = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40]
    return made if re.fullmatch(NAME_PATTERN.strip("^$"), made) else "first-look"


def _short(dataset: str) -> str:
    return dataset.rsplit("-", 1)[-1] if dataset.rsplit("-", 1)[-1][:1].isalpha() else dataset
