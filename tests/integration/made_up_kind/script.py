"""``script``: one Python file of the bundle, run once on every node.  Made up: only a copy of the package has it."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from hdrs_hpc.catalogue.workloads.kind import Example, Fault, Kind
from hdrs_hpc.catalogue.workloads.plan import Given, Plan, Process
from hdrs_hpc.core.wire import Between


@dataclass(frozen=True)
class ScriptFields:
    file: Annotated[str, Between(1, 200)]
    shares: tuple[Annotated[int, Between(1, 9)], ...] = ()
    """What the file finds as ``SHARES``."""


def rules(fields: ScriptFields, has_bundle: bool) -> Iterator[Fault]:
    if not has_bundle:
        yield Fault("workload-ambiguous", "a script needs a bundle that holds it")
    if not fields.file.endswith(".py"):
        yield Fault("bad-entry", "a script ends in .py", "file")


def plan(fields: ScriptFields, given: Given) -> Plan:
    return Plan(
        module=__name__,
        processes=(Process("script", 0),),
        told={"file": fields.file, "shares": list(fields.shares), "nodes": len(given.nodes)},
        ends_with="script",
        environment={"SCRIPTED": "yes"},
        files={"address.txt": given.address},
    )


def run(launch, process):
    """In the sandbox: run the file of the bundle as it stands."""
    from hdrs_hpc.node.launch.crash import write_report
    from hdrs_hpc.node.launch.plan import EXIT_EXCEPTION
    from imaging.reading import open_staged

    told = launch.plan.told
    try:
        found = {
            "SHARES": told["shares"],
            "ITEMS": {name: open_staged(name).index().num_rows for name in launch.inputs},
            "OUT": {name: str(Path(launch.out, path)) for name, path in launch.outputs.items()},
            "ADDRESS": Path(launch.folder, "address.txt").read_text(),
        }
        runpy.run_path(str(Path(launch.bundle, told["file"])), found)
    except Exception as error:
        write_report(Path(launch.report), error, Path(launch.bundle))
        return EXIT_EXCEPTION
    return 0


EXAMPLE = Example(
    fields={"file": "mine.py", "shares": [3, 4]},
    bundle={
        "mine.py": """import json, os
assert os.environ["SCRIPTED"] == "yes" and ADDRESS and all(ITEMS.values())
for path in OUT.values():
    with open(path, "w") as file:
        json.dump({"n_patients": 10, "n_series": 18, "share": SHARES[0] / SHARES[1]}, file)
"""
    },
)

KIND = Kind(
    name="script",
    built=True,
    summary="One Python file of the bundle, run once on every node.",
    fields=ScriptFields,
    rules=rules,
    example=EXAMPLE,
    plan=plan,
)
