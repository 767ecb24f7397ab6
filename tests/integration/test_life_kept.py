"""Pretrain, embed, fine-tune: jobs that keep what they made for later ones, until their project ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.audit import places
from hdrs_hpc.broker.filing import cancellation
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.store import jobs, kept
from hdrs_hpc.broker.store.kept import KeptOutput
from tests.support import proofs
from tests.support.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SLIDES = {"slides": {"dataset": "demo-he"}}
ENCODER = {"class": "weights", "keep": "project", "path": "encoder.safetensors", "max-size": "1MiB"}
METRICS = {"class": "metrics", "path": "m.json", "max-size": "1KiB"}
WRITING = """
import json, struct

def tensors(path, **named):
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, numbers in named.items():
        raw = struct.pack(f"<{len(numbers)}f", *numbers)
        header[name] = {"dtype": "F32", "shape": [len(numbers)], "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)

def numbers(path):
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + length])
    assert "__metadata__" not in header, "it was not built anew"
    body = raw[8 + length:]
    return {n: struct.unpack(f"<{t['shape'][0]}f", body[slice(*t["data_offsets"])]) for n, t in header.items()}
"""
PRETRAIN = f"""{WRITING}
def run(context):
    tensors(context.output("encoder"), w=[1.0, 2.0, 3.0], b=[0.5])
"""
EMBED = f"""{WRITING}
def run(context):
    found = numbers(context.inputs["start"])
    assert found == {{"w": (1.0, 2.0, 3.0), "b": (0.5,)}}, found
    try:
        open(context.inputs["start"], "r+b")
    except OSError:
        pass
    else:
        raise AssertionError("an input can be changed")
    tensors(context.output("head"), h=[sum(found["w"])])
"""
FINETUNE = f"""{WRITING}
def run(context):
    both = numbers(context.inputs["encoder"]) | numbers(context.inputs["head"])
    share = both["h"][0] / 12 + both["b"][0] / 2
    context.output("m").write_text(json.dumps({{"share": share}}))
"""


def grant_value(world: World, size: str | None = "8MiB", **more: Any) -> dict[str, Any]:
    value = world.grant_value()
    if size is not None:
        value["limits"] |= {"kept-size": size}
    value["outputs"] |= {"weights": {"keep": "project"}}
    return value | more


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    made: World = make_world(isolation="sandboxed")
    made.file("grant", grant_value(made), "abara", "bell")
    return made


def run(world: World, code: str, outputs: dict[str, Any], **inputs: Any) -> str:
    more = {"inputs": inputs} if inputs else {}
    return world.submit_bundle({"mine.py": code}, "mine:run", data=SLIDES, outputs=outputs, **more)


def rows(world: World, job: str) -> list[KeptOutput]:
    with world.ctx.db.read() as tx:
        return kept.of_job(tx, job)


def folder(world: World, row: KeptOutput) -> Path:
    cluster = world.ctx.cluster(world.cluster, world.project)
    return Path(cluster.scratch_path("hdrs-hpc", world.project, "kept", row.id))


def pretrained(world: World) -> str:
    job = run(world, PRETRAIN, {"encoder": ENCODER})
    ended = world.run_job(job, "PURGED")
    assert (ended.outcome, ended.reason) == ("SUCCEEDED", "kept"), world.describe()
    return job


def test_three_jobs_hand_weights_on_and_nothing_of_them_is_left_at_the_end(world: World) -> None:
    first = pretrained(world)
    (row,) = rows(world, first)
    assert (row.state, row.output, row.cls) == ("kept", "encoder", "weights")
    assert proofs.live_keys(world).count("kept") == 1
    assert any(folder(world, row).iterdir())
    start = {"job": first, "output": "encoder"}
    second = run(world, EMBED, {"head": ENCODER | {"path": "h.safetensors"}}, start=start)
    assert world.run_job(second, "PURGED").reason == "kept", world.describe()
    third = run(world, FINETUNE, {"m": METRICS}, encoder=start, head={"job": second, "output": "head"})
    assert world.run_job(third, "IN_REVIEW", "PURGED").state == "IN_REVIEW", world.describe()
    world.review(third)
    assert world.run_job(third, "PURGED").reason == "released"
    released = (world.home.released_dir(third) / "m").read_text()
    assert "0.75" in released
    proofs.check_places(world, "scratch", "home")
    world.close()
    live = [key.role for key in world.ctx.ask(m.Inspect(world.project)).live]
    assert "kept" not in live, "dead at once, before the controller did anything"
    world.run_until(lambda: world.project_state() == "CLOSED", 60)
    proofs.check_closed(world)
    told = {entry["place"]: entry for entry in proofs.details(world, "place-verified")}
    assert told["kept-outputs"]["result"] == "key-gone-and-empty"
    assert told["kept-outputs"]["count"] == sum(d["objects"] for d in proofs.details(world, "kept-tried"))
    assert all(entry["samples"] for entry in proofs.details(world, "kept-tried")), "manifests were tried"
    assert not folder(world, row).exists()
    assert "kept-outputs" in places.PLACES


def running(world: World, job: str) -> bool:
    with world.ctx.db.read() as tx:
        attempts = jobs.attempts_of(tx, job)
    return bool(attempts) and (attempts[-1].progress or {}).get("phase") == "running"


FAILING = f"""{WRITING}
def run(context):
    tensors(context.output("encoder"), w=[1.0])
    raise ValueError
"""
ENDLESS = f"""{WRITING}
import time
def run(context):
    tensors(context.output("encoder"), w=[1.0])
    time.sleep(3600)
"""


def test_a_job_that_fails_or_is_cancelled_keeps_nothing(world: World) -> None:
    failed = run(world, FAILING, {"encoder": ENCODER})
    cancelled = run(world, ENDLESS, {"encoder": ENCODER})
    world.run_job(cancelled, "RUNNING")
    world.run_until(lambda: running(world, cancelled), 90)
    cancellation.request(world.ctx.db, "okafor", cancelled)
    assert world.run_job(failed, "PURGED").outcome == "FAILED"
    assert world.run_job(cancelled, "PURGED").outcome == "CANCELLED"
    for job in (failed, cancelled):
        (row,) = rows(world, job)
        assert (row.state, row.unlinked is not None) == ("destroyed", True)
        assert not folder(world, row).exists()
    assert proofs.live_keys(world).count("kept") == 0
    assert proofs.events(world)["artefact-kept"] == 0
    named = {"job": failed, "output": "encoder"}
    refused = run(world, EMBED, {"head": ENCODER}, start=named)
    assert world.run_job(refused, "PURGED").reason == "input-destroyed"
    world.close()
    world.run_until(lambda: world.project_state() == "CLOSED", 60)
    proofs.check_closed(world)
