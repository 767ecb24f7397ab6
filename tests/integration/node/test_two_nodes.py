"""Two agents of one attempt: nothing starts before both have their keys, then one Dask cluster spans them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from hdrs_hpc.protocol import handover
from hdrs_hpc.protocol.handover import Request

from .conftest import Site, Work

NODES = ("n1", "n2")
SPANNING = """
import json
def run(ctx):
    workers = ctx.client.scheduler_info(n_workers=-1)["workers"]
    sums = ctx.client.map(total, ctx.data["ct"].series(), copy=ctx.data["ct"], workers=list(workers))
    addresses = sorted(worker.split(":")[0] for worker in workers)
    ctx.output("result").write_text(json.dumps([len(ctx.client.gather(sums)), len(workers), addresses[0]]))

def total(item, copy):
    return int(copy.volume(item)[:].sum())
"""


def test_both_nodes_get_keys_and_one_dask_cluster_spans_them(make_site: Callable[..., Site]) -> None:
    site = make_site("cooperative")
    inputs = {"ct": site.stage(4)}
    work = Work(site.seal_bundle({"mine.py": SPANNING}))
    site.submit(nodes=NODES)
    hellos = {}
    for node in NODES:
        hello = site.courier(Request("hello"), node=node).hello
        assert hello is not None
        hellos[node] = hello
    assert hellos["n1"].public_key != hellos["n2"].public_key
    order = site.order(inputs, work, cpus=1)
    nodes = handover.list_nodes(list(hellos.values()))
    answers = {node: site.answer(order, hello, nodes) for node, hello in hellos.items()}
    both = list(hellos.values())

    alone = site.answer(order, hellos["n1"], handover.list_nodes([hellos["n1"]]))
    refused = site.deliver(alone, hellos["n1"], node="n1")
    assert (refused.state, refused.refused) == ("waiting", "handover-incomplete")
    assert site.deliver(answers["n2"], *both, node="n1").refused == "handover-answer-refused"

    assert site.deliver(answers["n1"], *both, node="n1").state == "accepted"
    time.sleep(3)
    progress = site.progress()
    assert progress is not None
    assert progress.items_read == 0  # the client waits for the other node's workers
    assert site.deliver(answers["n2"], *both, node="n2").state == "accepted"
    assert site.wait() == 0
    assert site.closing().workload.ending == "exited", site.closing()
    assert site.closing().node == "n1"
    assert json.loads(site.output()) == [4, 2, "tls"]
