"""What the agent's runtime and a flavour hold, and that building each twice gives the same bytes."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from hdrs_hpc.node.runtime import build, contents, flavour
from hdrs_hpc.node.runtime.contents import Entry

KEYS_ONLY = ("hdrs_hpc/node/agent.py", "hdrs_hpc/sealing/", "hdrs_hpc/protocol/handover.py", "cryptography/")
"""What a sandbox must not have, since it has no business with keys."""


def texts(entries: list[Entry]) -> list[str]:
    return [str(entry.path) for entry in entries]


def sandbox() -> list[Entry]:
    return [*contents.of_a_flavour(), *contents.ours(contents.OURS_OF_A_SANDBOX, flavour.OURS)]


def test_the_agents_runtime_holds_no_library_but_cryptography() -> None:
    site = contents.SITE
    below = {
        entry.path.relative_to(site).parts[0]
        for entry in contents.of_the_agent()
        if site in entry.path.parents
    }
    packages = {name.partition(".")[0] for name in below if not name.endswith(".dist-info")}
    assert packages == {"cryptography", "cffi", "_cffi_backend", "pycparser", "hdrs_hpc"}


def test_a_flavour_holds_the_node_extra_and_nothing_of_the_broker() -> None:
    names = set(contents.packages_of())
    assert {"zarr", "dask", "distributed", "dask-jobqueue", "pyarrow", "imagecodecs"} <= names
    assert not names & {"paramiko", "sqlalchemy", "fastapi", "pydantic", "pydicom", "pytest", "cryptography"}


def test_each_holds_interpreter_stdlib_and_its_side_of_ours() -> None:
    agent, inside = texts(contents.of_the_agent()), texts(sandbox())
    site, stdlib = str(contents.SITE), str(contents.STDLIB)
    for wanted in ("bin/python3", f"{stdlib}/os.py"):
        assert wanted in agent
        assert wanted in inside
    for wanted in ("hdrs_hpc/node/agent.py", "hdrs_hpc/node/courier.py", "hdrs_hpc/node/flavour_image.py"):
        assert f"{site}/{wanted}" in agent
    for wanted in (
        "hdrs_hpc/node/launch/__main__.py",
        "hdrs_hpc/workloads/entry.py",
        "imaging/reading/staged.py",
    ):
        assert f"ours/{wanted}" in inside
        assert f"{site}/{wanted}" not in agent
    for unwanted in (
        "hdrs_hpc/broker/",
        "hdrs_hpc/cli/",
        "imaging/staging/",
        "/tests/",
        ".pyc",
        "..",
        "idlelib",
    ):
        assert not [text for text in (*agent, *inside) if unwanted in text], unwanted
    for unwanted in KEYS_ONLY:
        assert not [text for text in inside if unwanted in text], unwanted


@pytest.mark.parametrize("side", ["agent", "sandbox"])
def test_what_our_code_there_imports_of_ours_is_there(side: str) -> None:
    patterns = contents.OURS_OF_THE_AGENT if side == "agent" else contents.OURS_OF_A_SANDBOX
    files = {str(entry.path): entry.source for entry in contents.ours(patterns, PurePosixPath())}
    left_out = {"hdrs_hpc/sealing/objects/sftp.py"}  # what only the broker imports of a folder that both have
    for path, source in files.items():
        tree = ast.parse(source.read_text("utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in (
                "hdrs_hpc",
                "imaging",
            ):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                for name in (node.module or "", *(n for n in names if _is_module(n))):
                    found = name.replace(".", "/")
                    there = {f"{found}.py", f"{found}/__init__.py"} & set(files)
                    assert there or path in left_out, f"{path} imports {name}"


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_glibc_is_the_nodes_own() -> None:
    for found in (contents.of_the_agent(), contents.of_a_flavour()):
        names = {entry.path.name for entry in (*found, *contents.system_libraries(found))}
        assert not names & {"libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-x86-64.so.2", "libdl.so.2"}


def test_the_agent_brings_the_programs_that_show_a_flavour_with_their_libraries() -> None:
    found = contents.of_the_agent()
    names = {entry.path.name for entry in (*found, *contents.system_libraries(found))}
    assert {*contents.PROGRAMS, "libfuse3.so.3", "libzstd.so.1"} <= names


def test_the_same_sources_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = [entry for entry in contents.of_the_agent() if "hdrs_hpc/core" in str(entry.path)]
    monkeypatch.setattr(contents, "of_the_agent", lambda: ours)
    monkeypatch.setattr(build, "_check_compiled", lambda root: None)
    one, two = build.build(tmp_path / "one"), build.build(tmp_path / "two")
    assert one.digest == two.digest
    assert one.path.read_bytes() == two.path.read_bytes()
    stamp = one.path.stat().st_mtime_ns
    assert build.build(tmp_path / "one") == one
    assert one.path.stat().st_mtime_ns == stamp
    assert sorted(path.suffix for path in (tmp_path / "one").iterdir()) == [".json", ".tar"]


@pytest.fixture
def few_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [entry for entry in contents.of_a_flavour() if "site-packages/toolz" in str(entry.path)]
    monkeypatch.setattr(contents, "of_a_flavour", lambda fetched: chosen)


@pytest.mark.usefixtures("few_packages")
def test_the_same_packages_give_the_same_flavour(tmp_path: Path) -> None:
    one, two = (flavour.build(tmp_path / name, "base", "x86_64") for name in ("one", "two"))
    assert one.digest == two.digest
    assert one.path.read_bytes() == two.path.read_bytes()
    stamp = one.path.stat().st_mtime_ns
    assert flavour.build(tmp_path / "one", "base", "x86_64") == one
    assert one.path.stat().st_mtime_ns == stamp


@pytest.mark.usefixtures("few_packages")
def test_a_flavour_says_what_it_holds_beside_itself_and_inside(tmp_path: Path) -> None:
    made = flavour.build(tmp_path, "base", "x86_64")
    done = subprocess.run(
        ["unsquashfs", "-cat", str(made.path), "flavour.json"], capture_output=True, check=True
    )
    inside = json.loads(done.stdout)
    assert (inside["flavour"], inside["platform"], inside["packages"]) == ("base", "x86_64", made.packages)
    assert made.packages["toolz"] == importlib.metadata.version("toolz")
    listed = subprocess.run(
        ["unsquashfs", "-lln", str(made.path)], capture_output=True, check=True, text=True
    )
    rows = [line.split(None, 5) for line in listed.stdout.splitlines() if line[:1] in "-d"]
    assert {(row[0], row[1]) for row in rows} == {("-rw-r--r--", "0/0"), ("drwxr-xr-x", "0/0")}
    assert {row[3] for row in rows} == {"1970-01-01"}


@pytest.mark.usefixtures("few_packages")
def test_a_change_of_our_own_code_keeps_the_packages_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = flavour.build(tmp_path, "base", "x86_64")
    (kept,) = tmp_path.glob("packages-*")
    stamp = kept.stat().st_mtime_ns
    changed = tmp_path / "changed.py"
    changed.write_text("NEW = 1\n")
    ours = contents.ours
    monkeypatch.setattr(
        contents, "ours", lambda *given: [*ours(*given), Entry(flavour.OURS / "imaging/new.py", changed)]
    )
    two = flavour.build(tmp_path, "base", "x86_64")
    assert two.digest != one.digest
    assert kept.stat().st_mtime_ns == stamp
