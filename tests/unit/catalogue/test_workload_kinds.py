"""The table of workload kinds: what each tells of itself, and that documents need no second list of its fields."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ConfigDict, ValidationError, create_model

from hdrs_hpc.catalogue import workloads
from hdrs_hpc.catalogue.workloads import dask, torch
from hdrs_hpc.catalogue.workloads.builtin import BUILT_IN
from hdrs_hpc.catalogue.workloads.kind import Kind
from hdrs_hpc.catalogue.workloads.plan import Given, Peer, Rendezvous
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.protocol.certificates import NodeCertificate

HOUSE = Path(workloads.__file__).parents[2]
KINDS = pytest.mark.parametrize("kind", workloads.KINDS.values(), ids=lambda kind: kind.name)


def given(
    node: str = "n1", nodes: tuple[str, ...] = ("n1",), cpus: int = 2, memory_mb: int = 2048, gpus: int = 0
) -> Given:
    peers = tuple(Peer(name, f"10.0.0.{at}") for at, name in enumerate(nodes, 1))
    told = Rendezvous(8786).to_bytes()
    return Given(node, peers, told, cpus, memory_mb, gpus, NodeCertificate("ca", "cert", "key"))


def fields(**changes: Any) -> dask.DaskFields:
    return dask.DaskFields(**({"builtin": "cohort-summary@1"} | changes))


def test_the_kinds_that_this_version_runs() -> None:
    assert set(workloads.KINDS) == {"dask", "torch", "command"}
    assert workloads.built() == ("dask", "torch", "command")


@KINDS
def test_the_example_of_a_kind_keeps_its_own_rules(kind: Kind) -> None:
    bundle = {"bundle": {"digest": "sha256:" + "0" * 64, "size": 1}} if kind.example.bundle else {}
    read = kind.read({"kind": kind.name, **bundle, **kind.example.fields})
    assert list(kind.rules(read, bool(bundle))) == []


@KINDS
def test_a_document_model_is_made_of_the_fields_as_they_are(kind: Kind) -> None:
    kebab = ConfigDict(extra="forbid", alias_generator=lambda name: name.replace("_", "-"))
    fields: dict[str, Any] = {"kind": (Literal[kind.name], ...), **kind.own_fields()}
    model: Any = create_model(kind.name, __config__=kebab, **fields)
    made = model.model_validate({"kind": kind.name, **kind.example.fields})
    names = {name.replace("_", "-") for name in kind.own_fields()}
    assert set(model.model_json_schema()["properties"]) == {"kind", *names}
    assert made.kind == kind.name
    with pytest.raises(ValidationError):
        model.model_validate({"kind": kind.name, **kind.example.fields, "more": 1})


@pytest.mark.parametrize("builtin", ["Cohort@1", "cohort-summary", "cohort-summary@1\n", "x" * 60 + "@1"])
def test_bounds_hold_in_the_model_as_on_the_node(builtin: str) -> None:
    model: Any = create_model("dask", **dict[str, Any](workloads.KINDS["dask"].own_fields()))
    with pytest.raises(ValidationError):
        model(builtin=builtin)
    with pytest.raises(BadDocumentError):
        workloads.KINDS["dask"].read({"kind": "dask", "builtin": builtin})


@pytest.mark.parametrize(
    ("changes", "has_bundle", "code"),
    [
        ({"builtin": None}, False, "workload-ambiguous"),
        ({}, True, "workload-ambiguous"),
        ({"builtin": None}, True, "missing-field"),
        ({"entry": "mine:run"}, False, "workload-ambiguous"),
        ({"builtin": None, "entry": "mine run"}, True, "bad-entry"),
        ({"parameters": {"p": "x" * (64 << 10)}}, False, "parameters-too-large"),
    ],
)
def test_a_broken_rule_is_told_by_its_code(changes: dict[str, Any], has_bundle: bool, code: str) -> None:
    assert [fault.code for fault in dask.rules(fields(**changes), has_bundle)] == [code]


@pytest.mark.parametrize("kind", ["mpi", None, ["dask"]])
def test_a_kind_that_is_not_built_is_refused_on_the_node_by_name(kind: Any) -> None:
    with pytest.raises(workloads.WorkloadKindError):
        workloads.of({"kind": kind})


def test_the_first_node_runs_scheduler_and_client_and_all_run_workers() -> None:
    plans = [dask.plan(fields(), given(node, ("n1", "n2"), cpus=16)) for node in ("n1", "n2")]
    roles = [[process.role for process in plan.processes] for plan in plans]
    assert roles == [["scheduler", "client", *["worker"] * 4], ["worker"] * 4]
    assert [plan.ends_with for plan in plans] == ["client", None]
    for plan in plans:
        told = plan.told
        assert (told["scheduler"], told["workers-in-all"], told["threads"]) == ("tls://10.0.0.1:8786", 8, 4)
        assert plan.environment["OMP_NUM_THREADS"] == "4"


def test_few_cpus_are_single_threaded_workers() -> None:
    roles = [process.role for process in dask.plan(fields(), given(cpus=2)).processes]
    assert roles.count("worker") == 2


@pytest.mark.parametrize(
    ("asked", "gpus", "ranks", "threads"),
    [(None, 0, 1, "16"), (None, 4, 4, "4"), (2, 0, 2, "8"), (32, 0, 32, "1")],
)
def test_a_training_has_a_rank_a_gpu_unless_told_and_shares_out_the_cpus(
    asked: int | None, gpus: int, ranks: int, threads: str
) -> None:
    made = torch.TorchFields(entry="mine:train", nproc_per_node=asked)
    planned = torch.plan(made, given(cpus=16, gpus=gpus))
    assert [process.role for process in planned.processes] == ["torchrun"] == [planned.ends_with]
    assert (planned.told["ranks"], planned.told["gpus"]) == (ranks, gpus)
    assert (planned.told["address"], planned.told["port"]) == ("10.0.0.1", 8786)
    assert planned.environment["OMP_NUM_THREADS"] == threads


@pytest.mark.parametrize("ranks", [0, 65, True, "2"])
def test_the_number_of_ranks_is_bounded(ranks: Any) -> None:
    with pytest.raises(BadDocumentError):
        torch.KIND.read({"kind": "torch", "entry": "mine:train", "nproc-per-node": ranks})


def test_the_table_needs_nothing_but_the_standard_library() -> None:
    code = (
        "import sys, hdrs_hpc.catalogue.workloads\n"
        "names = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(n for n in names - set(sys.stdlib_module_names) if not n.startswith('_')))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "['hdrs_hpc']"


def _names_a_built_in(path: Path) -> bool:
    """Whether a text in the code, docstrings aside, names a built-in workload."""
    tree = ast.parse(path.read_text("utf-8"))
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in told)
    return any(name in str(text.value) for text in texts for name in BUILT_IN)


def test_no_other_module_names_a_built_in_workload() -> None:
    naming = [str(path.relative_to(HOUSE)) for path in HOUSE.rglob("*.py") if _names_a_built_in(path)]
    assert naming == ["catalogue/workloads/builtin.py"]


OTHER_MEANINGS = {
    "hdrs_hpc/catalogue/flavours.py": "a flavour has the name of a kind that runs on it",
    "hdrs_hpc/catalogue/flavour_packages.py": "distributions that flavours hold",
    "hdrs_hpc/client/bundlecheck.py": "libraries that nodes have",
    "hdrs_hpc/cli/demo/play.py": "libraries that the demo needs",
}


def _names_a_kind(source: str) -> bool:
    constants = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    inside = (text for text in constants if isinstance(text, str))
    return bool(set(workloads.KINDS) & set(constants)) or any(
        re.search(r"(?m)^ *kind: [a-z]", text) for text in inside
    )


def test_no_other_module_names_a_kind_of_workload() -> None:
    naming = {
        str(path.relative_to(HOUSE.parent))
        for path in HOUSE.rglob("*.py")
        if not path.is_relative_to(HOUSE / "catalogue/workloads") and _names_a_kind(path.read_text("utf-8"))
    }
    assert naming == OTHER_MEANINGS.keys(), "ask hdrs_hpc.catalogue.workloads instead"


@pytest.mark.parametrize("source", ['KINDS = ("dask", "torch")', 'TEXT = """workload:\n  kind: dask\n"""'])
def test_the_search_finds_a_kind_that_is_named_elsewhere(source: str) -> None:
    assert _names_a_kind(source)
