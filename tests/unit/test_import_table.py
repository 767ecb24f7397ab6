"""The tables of folders in docs/developer.md, row by row: what modules really import, and what the contracts hold."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("hdrs_hpc", "connectors", "imaging", "benchmarks")
BROKER = ROOT / "hdrs_hpc/broker"
PAGE = (ROOT / "docs/developer.md").read_text("utf-8")
CONTRACTS: dict[str, dict[str, Any]] = {
    contract["name"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
}


def module(path: str) -> str:
    """The module that a path of the table means; those of ``hdrs_hpc`` may leave that out."""
    name = path.removesuffix("/").removesuffix(".py").replace("/", ".")
    return name if name.split(".")[0] in PACKAGES else f"hdrs_hpc.{name}"


def table(header: str) -> list[list[str]]:
    _, _, below = PAGE.partition(header + "\n")
    assert below, f"docs/developer.md lost its table {header}"
    lines = below.split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


ROWS = {row[0].strip("`"): row for row in table("| folder | what | imports of ours | contract |")}


def test_every_folder_of_the_broker_has_its_row() -> None:
    folders = {f"hdrs_hpc/broker/{path.parent.name}/" for path in BROKER.glob("*/__init__.py")}
    assert ROWS.keys() == folders


@pytest.mark.parametrize("folder", ROWS)
def test_a_row_says_what_its_contract_holds(folder: str) -> None:
    allowed = {module(path) for path in re.findall(r"`([^`]+)`", ROWS[folder][2])}
    contract = CONTRACTS[ROWS[folder][3]]
    assert contract["source_modules"] == [module(folder)]
    forbidden = set(contract["forbidden_modules"])
    exceptions = {line.split(" -> ")[1] for line in contract.get("ignore_imports", [])}
    assert {line.split(" -> ")[0] for line in contract.get("ignore_imports", [])} <= {module(folder) + ".**"}
    assert not allowed & forbidden
    assert exceptions <= allowed
    within = {name for name in allowed if any(name.startswith(other + ".") for other in forbidden)}
    assert within == exceptions


@pytest.mark.parametrize("folder", ROWS)
def test_what_of_the_broker_a_row_does_not_name_is_forbidden_to_it(folder: str) -> None:
    allowed = {module(path) for path in re.findall(r"`([^`]+)`", ROWS[folder][2])}
    forbidden = set(CONTRACTS[ROWS[folder][3]]["forbidden_modules"])
    folders = {path.parent.name for path in BROKER.glob("*/__init__.py")}
    modules = {path.stem for path in BROKER.glob("*.py")} - {"__init__"}
    parts = {f"hdrs_hpc.broker.{name}" for name in folders | modules}
    assert parts - {module(folder)} - allowed <= forbidden


FOLDERS = {row[0]: row[2] for row in table("| folder | what | may import of ours | must not import |")}


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES)


def below(name: str, module_: str) -> bool:
    return module_ == name or module_.startswith(name + ".")


def modules_of(cell: str) -> list[str]:
    """The modules that the code spans of a cell name; a bare file lies beside the folder before it."""
    first, *others = re.findall(r"`([^`]+)`", cell)
    beside = [f"hdrs_hpc/catalogue/{other}" if other.endswith(".py") else other for other in others]
    return [module(path) for path in (first, *beside)]


def test_every_folder_has_its_row() -> None:
    rows = {name for cell in FOLDERS for name in modules_of(cell)}
    folders = {f"hdrs_hpc.{path.parent.name}" for path in (ROOT / "hdrs_hpc").glob("*/__init__.py")}
    assert folders | {"connectors", "imaging", "benchmarks"} <= rows


@pytest.mark.parametrize("folder", [name for name, allowed in FOLDERS.items() if allowed != "all"])
def test_a_folder_imports_what_its_row_says_and_nothing_else(folder: str, imports: grimp.ImportGraph) -> None:
    own = modules_of(folder)
    allowed = [] if FOLDERS[folder] == "nothing" else modules_of(FOLDERS[folder])
    inside = {name for name in imports.modules if any(below(one, name) for one in own)}
    reached = {other for name in inside for other in imports.find_modules_directly_imported_by(name)} - inside
    strangers = {name for name in reached - {"hdrs_hpc"} if not any(below(one, name) for one in allowed)}
    assert not strangers
    assert not [one for one in allowed if not any(below(one, name) for name in reached)], "said, and not used"


def test_every_contract_that_the_page_names_is_there() -> None:
    named = {row[0] for row in table("| contract | what it holds |")}
    assert named <= CONTRACTS.keys()
