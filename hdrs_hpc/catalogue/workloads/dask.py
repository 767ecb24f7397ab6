"""``dask``: one function with a Dask cluster of the whole allocation, or a workload that we built in.

The first node also runs the scheduler and the client, which are nearly idle while workers work.  All talk is TLS
under the attempt's own authority, also on loopback; the code that imports Dask is ``hdrs_hpc/workloads/dask_ranks``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hdrs_hpc.catalogue.workloads.kind import (
    Builtin,
    Entry,
    Example,
    Fault,
    Kind,
    Parameters,
    check_code,
    check_parameters,
)
from hdrs_hpc.catalogue.workloads.plan import Given, Plan, Process, Rendezvous
from hdrs_hpc.core import wire
from hdrs_hpc.core.wire import Count

TLS_CA, TLS_CERT, TLS_KEY = "ca.pem", "cert.pem", "key.pem"
CONNECT_TIMEOUT_S = 120
SINGLE_THREADED_CPUS = 8
THREADS = 4


@dataclass(frozen=True)
class DaskTold:
    """What the processes on a node are told."""

    scheduler: str
    """``tls://<address>:<port>``, on the first node."""
    address: str
    """Of this node, where its workers listen."""
    nodes: Count
    workers_in_all: Count
    threads: Count
    """Of each worker."""
    worker_memory_bytes: Count
    connect_timeout_s: Count
    builtin: str | None
    entry: str | None
    parameters: dict[str, Any]


@dataclass(frozen=True)
class DaskFields:
    builtin: Builtin | None = None
    """A workload of ours (``catalogue/workloads/builtin.py``); instead of a bundle."""
    entry: Entry | None = None
    """The function that is called with a context, in the bundle."""
    parameters: Parameters = field(default_factory=dict)


def rules(fields: DaskFields, has_bundle: bool) -> Iterator[Fault]:
    yield from check_code(fields.builtin, fields.entry, has_bundle)
    yield from check_parameters(fields.parameters)


def plan(fields: DaskFields, given: Given) -> Plan:
    """Scheduler and client on the first node, workers on all.

    Up to eight CPUs one single-threaded worker each: Python's own work between numpy calls then scales.  Beyond
    that four threads a worker, since every process costs some 150 MB and connections to all others.
    """
    threads = 1 if given.cpus <= SINGLE_THREADED_CPUS else THREADS
    workers = max(1, given.cpus // threads)
    first = given.nodes[0]
    told = DaskTold(
        scheduler=f"tls://{first.address}:{Rendezvous.read(given.first_told).port}",
        address=given.address,
        nodes=len(given.nodes),
        workers_in_all=workers * len(given.nodes),
        threads=threads,
        # Half of a node's memory is for the workers: the rest holds what is served and what is written.
        worker_memory_bytes=(given.memory_mb // 2 << 20) * 4 // 5 // workers,
        connect_timeout_s=CONNECT_TIMEOUT_S,
        builtin=fields.builtin,
        entry=fields.entry,
        parameters=fields.parameters,
    )
    roles = [*(["scheduler", "client"] if given.is_first else []), *["worker"] * workers]
    return Plan(
        module="hdrs_hpc.workloads.dask_ranks",
        processes=tuple(Process(role, number) for number, role in enumerate(roles)),
        told=wire.to_value(told),
        ends_with="client" if given.is_first else None,
        needs=("scheduler", "worker") if given.is_first else (),
        environment={"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)},
        files={
            TLS_CA: given.certificate.ca,
            TLS_CERT: given.certificate.cert,
            TLS_KEY: given.certificate.key,
        },
    )


EXAMPLE = Example(
    fields={"entry": "mine:run", "parameters": {}},
    bundle={
        "mine.py": '''"""Called once with a Dask cluster of the whole allocation; see docs/ai-developer.md."""

import json


def run(context):
    rows = [row for copy in context.data.values() for row in copy.index().to_pylist()]
    found = {
        "n_patients": len({row["patient"] for row in rows} - {None}),  # a slide may name none
        "n_series": sum(row["kind"] == "volume" for row in rows),
    }
    for path in map(context.output, context.output_names):
        path.write_text(json.dumps(found))  # a table of yours is a CSV file with the columns that the spec declares
''',
    },
)

KIND = Kind(
    name="dask",
    built=True,
    summary="One function with a Dask cluster of the whole allocation, or a built-in workload.",
    fields=DaskFields,
    rules=rules,
    example=EXAMPLE,
    plan=plan,
)
