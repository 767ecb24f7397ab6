"""The throw-away Slurm of deploy/slurm as a site for whole lives: each test session has a scratch of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

from hdrs_hpc.node.runtime.build import RuntimeFile
from hdrs_hpc.protocol import layout

STATE = Path(os.environ.get("HDRS_SLURM_DIR", "/var/lib/hdrs-hpc-slurm"))


def running() -> bool:
    """Whether the cluster is up and we may use the broker's key to it."""
    return (STATE / "site.toml").is_file() and os.access(STATE / "broker_ssh_key", os.R_OK)


def site() -> dict[str, object]:
    return tomllib.loads((STATE / "site.toml").read_text())


@dataclass(frozen=True)
class Scratch:
    """A folder below the first project's scratch that belongs to its account (0700)."""

    account: Path
    folder: Path
    user: str

    @classmethod
    def make(cls, runtime: RuntimeFile) -> Scratch:
        projects = tomllib.loads((STATE / "site.toml").read_text())["projects"]
        first = next(iter(projects.values()))
        account = Path(first["scratch"])
        made = cls(account, account / f"t-{secrets.token_hex(4)}", first["user"])
        target = made.folder.joinpath(*layout.runtime_parts(runtime.digest))
        target.parent.mkdir(parents=True)
        shutil.copyfile(runtime.path, target)
        subprocess.run(["chown", "-R", f"{made.user}:", str(made.folder)], check=True)
        subprocess.run(["chmod", "-R", "go-rwx", str(made.folder)], check=True)
        return made

    def settings(self) -> str:
        """The cluster's settings with this folder as the project's scratch."""
        text = (STATE / "site.toml").read_text()
        return text.replace(f'scratch = "{self.account}"', f'scratch = "{self.folder}"')

    def remove(self) -> None:
        shutil.rmtree(self.folder)
