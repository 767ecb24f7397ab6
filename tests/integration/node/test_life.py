"""One attempt on one node with the real runtime: keys in, sealed outputs out."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from hdrs_hpc.broker.workers.airlock.check import check_set
from hdrs_hpc.broker.workers.airlock.rules import OutputRules
from hdrs_hpc.catalogue.outputs.checking import declared_columns
from hdrs_hpc.catalogue.outputs.checking.declared import Declared
from hdrs_hpc.catalogue.outputs.checking.input_facts import InputFacts
from hdrs_hpc.catalogue.workloads.builtin import numbers
from hdrs_hpc.protocol.handover import OutputOrder
from tests.support.world import COHORT, SPACING_BINS

from .conftest import Site, series

COUNTING = """
import json

def run(ctx):
    ct = ctx.data["ct"]
    totals = ctx.client.gather(ctx.client.map(total, ct.series(), copy=ct))
    ctx.output("result").write_text(json.dumps({"totals": totals, "workers": len(ctx.client.ncores())}))

def total(item, copy):
    return int(copy.volume(item)[:].sum())
"""


def test_a_bundle_reads_volumes_on_dask_workers_and_its_output_comes_back_sealed(site: Site) -> None:
    closing = site.run({"code_of_mine.py": COUNTING})
    assert closing.workload.ending == "exited", closing
    assert json.loads(site.output()) == {
        "totals": [int(series(number).sum()) for number in range(4)],
        "workers": 2,
    }
    assert (closing.items_read, closing.undeclared) == (4, 0)
    progress = site.progress()
    assert progress is not None
    assert (progress.phase, progress.alarms, progress.items_total) == ("done", 0, 4)
    assert site.wait() == 0
    assert list(site.node_tmp.iterdir()) == []


def test_cohort_summary_passes_the_airlock_with_its_figure(make_site: Callable[..., Site]) -> None:
    site = make_site()
    declared = (
        OutputOrder("cohort", "table", "cohort.csv", 1 << 20),
        OutputOrder("spacing", "image", "spacing.png", 2 << 20),
        OutputOrder("spacing-bins", "table", "spacing-bins.csv", 1 << 20),
        OutputOrder("summary", "metrics", "summary.json", 64 << 10),
    )
    closing = site.run(builtin="cohort-summary@1", volumes=24, outputs=declared)
    assert closing.workload.ending == "exited", closing
    cohort = site.output("cohort").decode().splitlines()
    assert cohort == [
        "modality,body_part,n_patients,n_series",
        "CT,CHEST,12,12",
        "CT,HEAD,12,12",
        "CT,TOTAL,24,24",
        "TOTAL,TOTAL,24,24",
    ]
    assert site.output("spacing-bins").decode().splitlines() == [
        "group,spacing_mm,n_patients,n_series",
        "CT,0 to 1.5,12,12",
        "CT,1.5 and over,12,12",
    ]
    summary = json.loads(site.output("summary"))
    voxels = np.stack([series(number) for number in range(24)]).astype(float) - 1024
    assert summary["CT.intensity.mean"] == pytest.approx(voxels.mean())
    assert summary["CT.intensity.sd"] == pytest.approx(voxels.std())
    assert (summary["n_patients"], summary["n_series"]) == (24, 24)

    rules = OutputRules.from_dict({"table": {"min-count": 10, "round": 5}, "image": {}, "metrics": {}})
    known = numbers("cohort-summary@1", "summary")
    columns = {"cohort": COHORT, "spacing-bins": SPACING_BINS}
    checked = check_set(
        [
            (
                Declared(
                    order.name,
                    order.output_class,
                    order.path,
                    declared_columns.from_pairs(columns.get(order.name, {}).items()),
                    "spacing-bins" if order.name == "spacing" else None,
                    order.max_size_bytes,
                    known_counts=known.counts if order.name == "summary" else (),
                    measures=known.measures if order.name == "summary" else (),
                ),
                site.output(order.name),
            )
            for order in declared
        ],
        rules,
        b"salt" * 8,
        InputFacts(people=24, items=24, instances=24, real=False),
    )
    assert [case.refused for case in checked] == [None] * 4
