"""What a confined process is shown of the machine's Python, and of nobody's home."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hdrs_hpc.confined import interpreter


def test_a_link_to_the_interpreter_shows_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    (home / "broker").mkdir()
    link, start = home / "bin/python3", tmp_path / "start"
    link.symlink_to(Path(sys.executable).resolve())
    start.symlink_to(link)
    monkeypatch.setattr(sys, "executable", str(start))
    shown = [item.inside for item in interpreter.shown()]
    assert link in shown
    assert not [place for place in shown if (home / "broker").is_relative_to(place)]
    assert any(Path(sys.base_prefix).resolve() == place or place.is_relative_to("/usr") for place in shown)
