"""What the node runtime holds, and that building it twice gives the same bytes."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from hdrs_hpc.node.runtime import build, contents


def test_it_holds_the_node_extra_and_nothing_of_the_broker() -> None:
    names = set(contents.distributions())
    assert {"zarr", "dask", "distributed", "dask-jobqueue", "pyarrow", "cryptography", "imagecodecs"} <= names
    assert not names & {"paramiko", "sqlalchemy", "fastapi", "pydantic", "pydicom", "pytest", "psutil-extra"}


def test_it_holds_interpreter_stdlib_and_our_node_side() -> None:
    paths = {entry.path for entry in contents.entries()}
    site = contents.SITE
    for wanted in (
        PurePosixPath("bin/python3"),
        contents.STDLIB / "os.py",
        site / "hdrs_hpc/node/agent.py",
        site / "hdrs_hpc/workloads/cohort_summary.py",
        site / "imaging/reading/staged.py",
        site / "numpy/__init__.py",
    ):
        assert wanted in paths
    texts = [str(path) for path in paths]
    for unwanted in (
        "hdrs_hpc/broker/",
        "hdrs_hpc/cli/",
        "imaging/staging/",
        "/tests/",
        ".pyc",
        "..",
        "idlelib",
    ):
        assert not [text for text in texts if unwanted in text], unwanted
    assert not [text for text in texts if text.startswith("/")]


def test_glibc_is_the_nodes_own() -> None:
    found = contents.entries()
    names = {entry.path.name for entry in (*found, *contents.system_libraries(found))}
    assert not names & {"libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-x86-64.so.2", "libdl.so.2"}


def test_the_same_sources_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = [entry for entry in contents.entries() if "hdrs_hpc/core" in str(entry.path)]
    monkeypatch.setattr(contents, "entries", lambda: ours)
    monkeypatch.setattr(build, "_check_compiled", lambda tree: None)
    one, two = build.build(tmp_path / "one"), build.build(tmp_path / "two")
    assert one.digest == two.digest
    assert one.path.read_bytes() == two.path.read_bytes()
    stamp = one.path.stat().st_mtime_ns
    assert build.build(tmp_path / "one") == one
    assert one.path.stat().st_mtime_ns == stamp
    assert sorted(path.suffix for path in (tmp_path / "one").iterdir()) == [".json", ".tar"]
