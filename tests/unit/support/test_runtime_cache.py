"""Test sessions of one checkout share the runtime that they use, and remove only what none of them uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from hdrs_hpc.node.runtime.build import RuntimeFile
from tests.support import runtime_cache


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The build is made up: its one file is named by the last entry of the list that this gives."""
    names = ["first"]

    def build(folder: Path) -> RuntimeFile:
        path = folder / f"{names[-1]}.tar"
        path.touch()
        return RuntimeFile(path, f"sha256:{names[-1]}", 0, 0)

    monkeypatch.setattr(runtime_cache, "build", build)
    return names


def test_a_session_of_changed_sources_leaves_what_another_uses(tmp_path: Path, sources: list[str]) -> None:
    with runtime_cache.borrowed(tmp_path) as first:
        sources.append("second")
        with runtime_cache.borrowed(tmp_path) as second:
            assert first.path.exists()
            assert second.path.exists()


def test_what_nobody_uses_any_more_is_removed(tmp_path: Path, sources: list[str]) -> None:
    with runtime_cache.borrowed(tmp_path) as first:
        pass
    sources.append("second")
    with runtime_cache.borrowed(tmp_path):
        assert not first.path.exists()
