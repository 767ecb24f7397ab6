"""SQL stands in the store, and keyd's own in keyd: nowhere else is a statement built or run."""

from __future__ import annotations

import ast
from pathlib import Path

import hdrs_hpc

ROOT = Path(hdrs_hpc.__file__).parent
HOMES = (ROOT / "broker" / "store", ROOT / "broker" / "keyd")
BUILDERS = {"select", "insert", "update", "delete", "text"}
RUNNERS = {"execute", "executemany", "exec_driver_sql", "scalars"}


def _statements(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sqlalchemy":
            found += [f"{node.lineno}: imports {a.name}" for a in node.names if a.name in BUILDERS | {"func"}]
        if isinstance(node, ast.ImportFrom) and node.module == "hdrs_hpc.broker.store.schema":
            found.append(f"{node.lineno}: imports tables")
        if isinstance(node, ast.Import) and any(a.name == "sqlite3" for a in node.names):
            found.append(f"{node.lineno}: imports sqlite3")
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr in RUNNERS:
            found.append(f"{called.lineno}: runs a statement")
    return found


def test_no_statement_stands_outside_the_store_and_keyd() -> None:
    files = [path for path in ROOT.rglob("*.py") if not any(path.is_relative_to(home) for home in HOMES)]
    assert len(files) > 100
    assert {str(path.relative_to(ROOT)): said for path in files if (said := _statements(path))} == {}


def test_the_search_finds_statements_where_they_are() -> None:
    assert _statements(ROOT / "broker" / "store" / "jobs.py")
    assert _statements(ROOT / "broker" / "keyd" / "keystore.py")
