"""THE table of workload kinds: one module and one row each.  Imported on the laptop, in the broker and on nodes.

Standard library only (and ours), since the node agent reads it with keys in its memory.  keyd does not import it:
it gives a node the signed spec, and the node's own copy of this table says what to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hdrs_hpc.catalogue.workloads import command, dask, torch
from hdrs_hpc.catalogue.workloads.kind import Kind
from hdrs_hpc.core.errors import BadDocumentError

_ROWS = (dask.KIND, torch.KIND, command.KIND)

KINDS: dict[str, Kind] = {row.name: row for row in _ROWS}


class WorkloadKindError(BadDocumentError):
    code = "workload-kind-unknown"
    meaning = "The job spec's kind of workload is none that this version runs."
    remedy = "`hdrs-hpc spec new --help` names the kinds; those not built yet are refused by name."


def built() -> tuple[str, ...]:
    """Names of the kinds that this version runs."""
    return tuple(kind.name for kind in KINDS.values() if kind.built)


def of(workload: Mapping[str, Any]) -> Kind:
    """The kind of ``workload`` in a signed job spec, to be run; raises WorkloadKindError."""
    kind = KINDS.get(str(workload.get("kind")))
    if kind is None or not kind.built:
        raise WorkloadKindError(f"kind {str(workload.get('kind'))[:40]!r}", where="workload.kind")
    return kind
