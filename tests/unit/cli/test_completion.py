"""Completion is click's own, and lands where each shell looks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hdrs_hpc import __version__
from hdrs_hpc.cli import main

PROGRAM = Path(sys.executable).parent / "hdrs-hpc"


def test_a_shell_is_told_the_commands_that_fit() -> None:
    asked = {"_HDRS_HPC_COMPLETE": "bash_complete", "COMP_WORDS": "hdrs-hpc job w", "COMP_CWORD": "2"}
    done = subprocess.run([PROGRAM], env=os.environ | asked, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["plain,watch"]


@pytest.mark.parametrize(
    ("shell", "place"),
    [
        ("bash", "data/bash-completion/completions/hdrs-hpc"),
        ("zsh", "data/zsh/site-functions/_hdrs-hpc"),
        ("fish", "config/fish/completions/hdrs-hpc.fish"),
    ],
)
def test_it_is_installed_where_the_shell_looks(
    shell: str,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    assert main.run(["completion", "--install"]) == 0
    assert "_HDRS_HPC_COMPLETE" in (tmp_path / place).read_text()
    assert str(tmp_path / place) in capsys.readouterr().out
    assert main.run(["completion", shell]) == 0
    assert capsys.readouterr().out.strip() == (tmp_path / place).read_text().strip()


def test_an_unknown_shell_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/nologin")
    assert main.run(["completion"]) == 2


def test_both_ways_of_asking_for_the_version_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert main.run(["version"]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == f"hdrs-hpc {__version__}"
    assert second.startswith(f"{first} on Python")
