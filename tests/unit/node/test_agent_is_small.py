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


def loaded(module: str = "hdrs_hpc.node.agent") -> set[str]:
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
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
    assert packages == {"catalogue", "confined", "core", "documents", "node", "protocol", "sealing"}
    catalogue = {name.split(".")[2] for name in loaded() if name.startswith("hdrs_hpc.catalogue.")}
    assert catalogue == {"flavours", "isolation", "workloads"}
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


def agents_own() -> list[Path]:
    """What starts the sandbox counts too, though others use it as well."""
    ours = [name for name in loaded() if name.startswith(("hdrs_hpc.node", "hdrs_hpc.confined"))]
    paths = [ROOT.parent / Path(*name.split(".")) for name in ours]
    return [path / "__init__.py" if path.is_dir() else path.with_suffix(".py") for path in paths]


def test_the_agents_own_code_stays_readable_in_an_afternoon() -> None:
    assert sum(code_lines(path) for path in agents_own()) <= MOST_LINES


def test_the_agent_imports_nothing_late() -> None:
    """Else the count above would leave out what the same process runs, keys in memory."""
    for path in agents_own():
        top = ast.parse(path.read_text("utf-8"))
        imports = {node for node in ast.walk(top) if isinstance(node, ast.Import | ast.ImportFrom)}
        assert imports <= set(top.body), path
        names = {node.id for node in ast.walk(top) if isinstance(node, ast.Name)}
        assert not names & {"__import__", "importlib", "exec", "eval"}, path


def test_the_watch_is_a_process_that_knows_nothing_of_keys() -> None:
    names = loaded("hdrs_hpc.node.memory_watch")
    assert {name.split(".")[0] for name in names} <= {"hdrs_hpc", *sys.stdlib_module_names, "__main__"}
    ours = {name for name in names if name.startswith("hdrs_hpc.")}
    assert ours == {
        *("hdrs_hpc.core", "hdrs_hpc.core.die_with_parent", "hdrs_hpc.node"),
        *("hdrs_hpc.node.memory_watch", "hdrs_hpc.node.processes"),
    }
