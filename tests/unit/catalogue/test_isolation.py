"""The levels of isolation: their order, and that no other module names, lists or compares them."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import pytest

from hdrs_hpc.catalogue import isolation

ROOT = Path(__file__).parents[3]
HOME = ROOT / "hdrs_hpc/catalogue/isolation.py"
ORDER = ["cooperative", "sandboxed", "fenced"]
CONSTANTS = {"WEAKEST", "SANDBOXED", "LEAST_FOR_REAL_DATA", "LEAST_FOR_UNREAD_CODE"}


@pytest.mark.parametrize("given", ORDER)
@pytest.mark.parametrize("needed", ORDER)
def test_a_level_serves_itself_and_the_weaker_ones(given, needed):
    assert isolation.at_least(given, needed) == (ORDER.index(given) >= ORDER.index(needed))


def test_the_strictest_of_several_is_taken():
    assert isolation.strictest("sandboxed", "cooperative") == "sandboxed"
    assert isolation.strictest("sandboxed", "fenced", "cooperative") == "fenced"


def test_types_and_rows_name_the_same_levels():
    assert [level.name for level in isolation.LEVELS] == ORDER == list(get_args(isolation.Isolation))
    assert [level.name for level in isolation.LEVELS if level.built] == list(isolation.GIVEN)
    assert list(get_args(isolation.GivenIsolation)) == list(isolation.GIVEN)


@pytest.mark.parametrize(
    ("nodes", "cluster", "offered"),
    [
        (1, "cooperative", "cooperative"),
        (1, "sandboxed", "sandboxed"),
        (2, "cooperative", "cooperative"),
        (2, "sandboxed", "cooperative"),
        (2, "fenced", "fenced"),
    ],
)
def test_several_nodes_get_only_a_level_that_joins_them(nodes, cluster, offered):
    assert isolation.offered_to(nodes, cluster) == offered


def test_real_data_and_unread_code_never_run_below_a_sandbox():
    assert isolation.is_contained(isolation.LEAST_FOR_REAL_DATA)
    assert isolation.is_contained(isolation.LEAST_FOR_UNREAD_CODE)
    assert not isolation.is_contained("cooperative")


def _written_by_hand(source: str) -> list[str]:
    """Places that name a level as a string, or compare one with ``==``, ``in`` and the like."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if set(re.split(r"[|,\s]+", node.value)) & set(ORDER) and re.fullmatch(r"[a-z|,\s]+", node.value):
                words = [word for word in re.split(r"[|,\s]+", node.value) if word]
                if all(word in ORDER for word in words):
                    found.append(f"line {node.lineno}: {node.value!r}")
        elif isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                name = getattr(side, "attr", None) or getattr(side, "id", None)
                if name in CONSTANTS:
                    found.append(f"line {node.lineno}: compares {name}")
    return found


def test_no_other_module_names_lists_or_compares_levels():
    found = {
        str(path.relative_to(ROOT)): places
        for top in ("hdrs_hpc", "connectors", "imaging")
        for path in sorted((ROOT / top).rglob("*.py"))
        if path != HOME and (places := _written_by_hand(path.read_text("utf-8")))
    }
    assert found == {}, "ask hdrs_hpc.catalogue.isolation instead"


@pytest.mark.parametrize(
    "source",
    [
        'RANK = {"cooperative": 1}',
        'Isolation = Literal["sandboxed"]',
        'FORM = re.compile(r"cooperative|sandboxed")',
        'if level == "fenced": pass',
        "if level != isolation.WEAKEST: pass",
        "if SANDBOXED in levels: pass",
    ],
)
def test_the_search_finds_each_way_to_write_levels_by_hand(source):
    assert _written_by_hand(source)


def test_a_node_gets_the_levels_with_the_standard_library_only():
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(HOME.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert imported <= {"__future__", "dataclasses", "typing"}
