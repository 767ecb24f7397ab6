"""No list of output classes is written anywhere but in ``hdrs_hpc/catalogue/outputs/``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hdrs_hpc.catalogue import outputs

ROOT = Path(__file__).resolve().parents[3]
HOME = ROOT / "hdrs_hpc/catalogue/outputs"
NAMES = {row.name for row in outputs.CLASSES}
AMBIGUOUS = {"table"}
"""Also a kind of data, so it tells nothing when it stands alone."""
ALLOWED = {
    ("hdrs_hpc/broker/web/app.py", "metrics"): "the broker's own metrics",
}
PRODUCT = [
    path
    for folder in ("hdrs_hpc", "connectors")  # imaging knows no outputs: its images are pixels
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not path.is_relative_to(HOME)
    and not path.is_relative_to(ROOT / "hdrs_hpc" / "workloads" / "training")  # nor do samples of a training
]


def _alone(tree: ast.AST) -> Iterator[str]:
    """Every string that is the name of a class and of nothing else."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in NAMES - AMBIGUOUS:
            yield node.value


def _in_yaml(tree: ast.AST) -> Iterator[str]:
    """Names of classes inside longer texts that are pieces of a spec or a grant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = re.findall(r"\bclass: ([a-z]+)|^ *([a-z]+): \{", node.value, re.MULTILINE)
            yield from (name for pair in found for name in pair if name in NAMES)


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_module_names_a_class(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    name = str(path.relative_to(ROOT))
    found = {word for word in (*_alone(tree), *_in_yaml(tree)) if (name, word) not in ALLOWED}
    assert not found, f"{name} names {', '.join(sorted(found))}: ask the row in {HOME.relative_to(ROOT)}"


def test_the_search_finds_a_list_that_is_written_elsewhere() -> None:
    for text in (
        'SUFFIX = {"table": ".csv", "metrics": ".json"}',
        'if output.class_ == "image": pass',
        'EXAMPLE = """outputs:\\n  table: {min-count: 10}\\n"""',
        'CLASSES = Literal["table", "weights"]',
    ):
        tree = ast.parse(text)
        assert [*_alone(tree), *_in_yaml(tree)]


def test_names_and_endings_of_classes_are_unique() -> None:
    endings = [suffix for row in outputs.CLASSES for suffix in row.suffixes]
    assert len(outputs.BY_NAME) == len(outputs.CLASSES)
    assert len(set(endings)) == len(endings)
