"""The throw-away Slurm of deploy/slurm as a site for whole lives: each test session has a scratch of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hdrs_hpc.node.runtime.build import RuntimeFile
from hdrs_hpc.node.runtime.flavour import FlavourFile
from hdrs_hpc.protocol import layout

STATE = Path(os.environ.get("HDRS_SLURM_DIR", "/var/lib/hdrs-hpc-slurm"))


def running() -> bool:
    """Whether the cluster is up and we may use the broker's key to it."""
    return (STATE / "site.toml").is_file() and os.access(STATE / "broker_ssh_key", os.R_OK)


def settings() -> dict[str, Any]:
    return tomllib.loads((STATE / "site.toml").read_text())


def project(name: str) -> dict[str, str]:
    """User, account and scratch of a project there."""
    found: dict[str, str] = settings()["projects"][name]
    return found


def port() -> int:
    """Where its sshd listens."""
    return int(settings()["ssh"]["port"])


def conf() -> str:
    return str(settings()["slurm"]["conf"])


@dataclass(frozen=True)
class Scratch:
    """A folder below the first project's scratch that belongs to its account (0700)."""

    account: Path
    folder: Path
    user: str

    @classmethod
    def make(cls, runtime: RuntimeFile, *flavours: FlavourFile) -> Scratch:
        first = next(iter(settings()["projects"].values()))
        account = Path(first["scratch"])
        made = cls(account, account / f"t-{secrets.token_hex(4)}", first["user"])
        target = made.folder.joinpath(*layout.runtime_parts(runtime.digest))
        target.parent.mkdir(parents=True)
        shutil.copyfile(runtime.path, target)
        for flavour in flavours:
            shutil.copyfile(flavour.path, made.folder.joinpath(*layout.flavour_parts(flavour.digest)))
        made._give_away()
        return made

    def beside(self) -> Scratch:
        """Another one, empty but for the runtime and flavours."""
        made = replace(self, folder=self.account / f"t-{secrets.token_hex(4)}")
        parts = layout.runtime_parts("")[:-1]
        made.folder.joinpath(*parts).mkdir(parents=True)
        for file in self.folder.joinpath(*parts).iterdir():
            os.link(file, made.folder.joinpath(*parts, file.name))
        made._give_away()
        return made

    def _give_away(self) -> None:
        subprocess.run(["chown", "-R", f"{self.user}:", str(self.folder)], check=True)
        subprocess.run(["chmod", "-R", "go-rwx", str(self.folder)], check=True)

    def settings(self, through: int | None = None) -> str:
        """The cluster's settings with this folder as the project's scratch, reached ``through`` another port."""
        text = (STATE / "site.toml").read_text()
        text = text.replace(f'scratch = "{self.account}"', f'scratch = "{self.folder}"')
        return text if through is None else text.replace(f"port = {port()}", f"port = {through}")

    def remove(self) -> None:
        shutil.rmtree(self.folder)
