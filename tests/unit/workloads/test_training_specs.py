"""The specs of the built-in trainings: what they declare is what is written, and what they tell is understood."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hdrs_hpc.catalogue.workloads.builtin import BUILT_IN
from hdrs_hpc.cli.spec import spec
from hdrs_hpc.core import strict_yaml
from hdrs_hpc.workloads.training.parameters import SIZES, Parameters

SPECS = sorted((Path(__file__).parents[3] / "jobspecs" / "training").glob("*.yaml"))
TRAININGS = {name for name, row in BUILT_IN.items() if row.kind == "torch"}


def named(path: Path) -> str:
    return strict_yaml.load(path.read_bytes())[0]["workload"]["builtin"]


def own(builtin: str) -> tuple[str, ...]:
    """``OWN`` of its module, read without importing it: that needs PyTorch."""
    module = BUILT_IN[builtin].entry.partition(":")[0]
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    for line in ast.parse(Path(found.origin).read_text("utf-8")).body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "OWN":
            return tuple(ast.literal_eval(line.value))
    return ()


def test_each_training_has_a_spec() -> None:
    assert {named(path) for path in SPECS} == TRAININGS


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_spec_declares_what_its_training_writes(path: Path) -> None:
    report = json.loads(CliRunner().invoke(spec, ["check", str(path), "--json"]).stdout)
    assert report["findings"] == []
    outputs = strict_yaml.load(path.read_bytes())[0]["outputs"]
    assert set(outputs) == set(BUILT_IN[named(path)].outputs)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_parameters_of_a_spec_are_understood(path: Path) -> None:
    given = strict_yaml.load(path.read_bytes())[0]["workload"].get("parameters", {})
    told = Parameters.of_spec(given, own(named(path)))
    assert len(told.shape) == told.dimensions
    assert all(side % told.token == 0 for side in told.shape)


def test_a_misspelt_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no parameter epoch$"):
        Parameters.of_spec({"epoch": 3})
    with pytest.raises(ValueError, match="model is one of vit-tiny"):
        Parameters.of_spec({"model": "vit-huge"})
    assert Parameters.of_spec({"batch-size": 8, "spacing": [2, 1, 1]}).spacing == (2.0, 1.0, 1.0)


def test_every_size_of_model_can_be_made() -> None:
    for size in SIZES.values():
        assert size.width % size.heads == 0
        assert size.decoder_width % size.decoder_heads == 0
        assert size.decoder_width % 4 == 0  # MONAI's table of sines
