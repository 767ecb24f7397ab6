"""What must be trusted before the sandbox stands: which modules, and how much of it is ours."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import hdrs_hpc

ROOT = Path(hdrs_hpc.__file__).parent
MOST_LINES = 1500


def loaded() -> set[str]:
    code = "import json, sys, hdrs_hpc.node.agent; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT.parent, text=True
    )
    return set(json.loads(done.stdout))


def test_the_agent_loads_the_standard_library_cryptography_and_ours_only() -> None:
    names = {name.split(".")[0] for name in loaded()}
    foreign = {name for name in names - set(sys.stdlib_module_names) if not name.startswith("_")}
    # bcrypt: cryptography tries to import it; the node runtime does not hold it.
    assert foreign - {"bcrypt"} == {"cryptography", "hdrs_hpc"}


def test_the_agent_loads_none_of_ours_that_it_has_no_business_with() -> None:
    packages = {name.split(".")[1] for name in loaded() if name.startswith("hdrs_hpc.")}
    assert packages == {"core", "documents", "node", "protocol", "sealing"}
    assert not {name for name in loaded() if "models" in name or "zarr" in name or "sftp" in name}


def code_lines(path: Path) -> int:
    """Lines that hold code: neither blank nor comment nor docstring."""
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    prose: set[int] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            prose.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), start=1)
    return sum(1 for n, line in lines if line.strip() and not line.strip().startswith("#") and n not in prose)


def test_the_agents_own_code_stays_readable_in_an_afternoon() -> None:
    ours = [name for name in loaded() if name.startswith("hdrs_hpc.node")]
    files = []
    for name in ours:
        path = ROOT.parent / Path(*name.split("."))
        files.append(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))
    assert sum(code_lines(path) for path in files) <= MOST_LINES
