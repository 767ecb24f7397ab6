"""The batch script: only narrow values get in, and they come out as they went in."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hdrs_hpc.core.errors import InternalError
from hdrs_hpc.protocol.batch import BatchPlan, render

PLAN = BatchPlan(
    attempt="hdrs-0123456789abcdefghjkmnpqrs",
    project="lung-fm",
    audience="north",
    scratch="/scratch/lung-fm",
    node_tmp="/tmp",
    runtime_digest="sha256:" + "ab" * 32,
    flavour_digest="sha256:" + "cd" * 32,
    broker_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJyb2tlcmJyb2tlcmJyb2tlcmJyb2tlcmJyb2tl handover",
    isolation="sandboxed",
    memory_mb=4096,
    lifetime_s=3600,
    nodes=2,
    launch_prefix=("/usr/bin/srun", "--nodes=2", "--ntasks-per-node=1"),
)


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_shells_accept_it(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    script = tmp_path / "script"
    script.write_bytes(render(PLAN))
    subprocess.run([shell, "-n", str(script)], check=True)


def test_every_marker_is_filled_and_nothing_secret_has_a_place() -> None:
    text = render(PLAN).decode()
    assert "@attempt@" not in text and "@scratch@" not in text
    assert "/usr/bin/srun --nodes=2 --ntasks-per-node=1 /bin/sh -c" in text
    assert "#SBATCH" not in text
    assert "--lifetime-s 3600" in text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attempt", "hdrs-short"),
        ("project", "lung-fm; rm -rf /"),
        ("project", "lung-fm\n#SBATCH --wrap=x"),
        ("audience", "north$(id)"),
        ("scratch", "relative"),
        ("scratch", "/scratch/`id`"),
        ("scratch", "/scratch/a b"),
        ("node_tmp", "/tmp'"),
        ("runtime_digest", "sha256:xyz"),
        ("flavour_digest", "sha256:xyz"),
        ("broker_key", "ssh-ed25519 AAAA'; id; '"),
        ("isolation", "none"),
        ("memory_mb", -1),
        ("launch_prefix", ("/usr/bin/srun", "--x=$(id)")),
    ],
)
def test_a_value_of_another_form_is_our_bug_and_never_reaches_a_shell(field: str, value: object) -> None:
    with pytest.raises(InternalError):
        render(replace(PLAN, **{field: value}))


def test_a_value_that_looks_like_a_marker_stays_what_it_is() -> None:
    text = render(replace(PLAN, launch_prefix=("/usr/bin/srun", "--comment=@attempt@"))).decode()
    assert "--comment=@attempt@" in text
