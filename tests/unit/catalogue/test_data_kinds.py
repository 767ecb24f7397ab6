"""The kinds of data: one table, and no other list of them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

from hdrs_hpc.catalogue import data_kinds
from hdrs_hpc.catalogue.data_kinds import DATA_KINDS
from imaging.deid import profiles
from imaging.staging import engine

ROOT = Path(__file__).parents[3]
HOME = ROOT / "hdrs_hpc/catalogue/data_kinds.py"
AMBIGUOUS = {"table"}
"""Also a class of outputs and a kind of item, so it tells nothing when it stands alone."""
ALLOWED = {
    "hdrs_hpc/cli/demo/play.py": "registers two datasets",
    "hdrs_hpc/cli/demo/archive.py": "names two folders",
}


def test_the_type_and_the_rows_name_the_same_kinds() -> None:
    assert list(DATA_KINDS) == list(get_args(data_kinds.DataKind))


def test_each_kind_can_be_staged_and_has_a_profile_of_its_own() -> None:
    assert engine.KINDS.keys() == DATA_KINDS.keys()
    found = {kind.name: profiles.load(kind.profile).kind for kind in DATA_KINDS.values()}
    assert found == {name: name for name in DATA_KINDS}


def _named(source: str) -> set[str]:
    constants = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return (set(DATA_KINDS) - AMBIGUOUS).intersection(constants)


def test_no_other_module_names_a_kind_of_data() -> None:
    naming = {
        str(path.relative_to(ROOT))
        for top in ("hdrs_hpc", "connectors", "imaging")
        for path in sorted((ROOT / top).rglob("*.py"))
        if path != HOME and _named(path.read_text("utf-8"))
    }
    assert naming == ALLOWED.keys(), "ask hdrs_hpc.catalogue.data_kinds instead"


@pytest.mark.parametrize("source", ['KINDS = ("radiology", "table")', 'if kind == "pathology": pass'])
def test_the_search_finds_a_list_that_is_written_elsewhere(source: str) -> None:
    assert _named(source)


def test_the_table_needs_the_standard_library_only() -> None:
    tree = ast.parse(HOME.read_text("utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "dataclasses", "typing"}
