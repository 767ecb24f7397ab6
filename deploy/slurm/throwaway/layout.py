"""Where everything of the throw-away cluster lies: one state folder, private ports, its own names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

CLUSTER = "testsite"
DEFAULT_STATE = "/var/lib/hdrs-hpc-slurm"
PARTITION = "main"
BRIDGE = "hdrsbr0"
CONTROL_ADDRESS = "10.77.0.1"
PREFIX_BITS = 24

DATABASE_PORT = 26816
SLURMCTLD_PORT = 26817
SLURMD_PORT = 26818
SLURMDBD_PORT = 26819
SSHD_PORT = 26822


@dataclass(frozen=True)
class Node:
    """A compute node: a network namespace, a host name, two devices that pass for GPUs."""

    name: str
    address: str
    gpus: int = 2

    @property
    def namespace(self) -> str:
        return f"hdrs-{self.name}"

    @property
    def outer_link(self) -> str:
        return f"hdrsv-{self.name}"


NODES = (Node("n1", "10.77.0.11"), Node("n2", "10.77.0.12"))
NODE_CPUS = 4
NODE_MEMORY_MB = 16_000


@dataclass(frozen=True)
class Account:
    """One project on this site: a UNIX user and a Slurm account of its own."""

    project: str
    user: str
    slurm_account: str


ACCOUNTS = (
    Account("lung-demo", "hdrs-p1", "lung-demo"),
    Account("heart-demo", "hdrs-p2", "heart-demo"),
)


@dataclass(frozen=True)
class Layout:
    """Paths below the state folder; only root writes in it, except where a daemon or account must."""

    state: Path

    @classmethod
    def from_environment(cls) -> Layout:
        return cls(Path(os.environ.get("HDRS_SLURM_DIR", DEFAULT_STATE)).absolute())

    @property
    def etc(self) -> Path:
        return self.state / "etc"

    @property
    def run(self) -> Path:
        return self.state / "run"

    @property
    def log(self) -> Path:
        return self.state / "log"

    @property
    def slurm_conf(self) -> Path:
        return self.etc / "slurm.conf"

    @property
    def munge(self) -> Path:
        return self.state / "munge"

    @property
    def munge_socket(self) -> Path:
        return self.run / "munge" / "munge.socket"

    @property
    def database(self) -> Path:
        return self.state / "mysql"

    @property
    def database_socket(self) -> Path:
        return self.run / "mysql" / "mysql.sock"

    @property
    def slurmctld_state(self) -> Path:
        return self.state / "slurmctld"

    @property
    def spool(self) -> Path:
        return self.state / "spool"

    @property
    def broker_key(self) -> Path:
        return self.state / "broker_ssh_key"

    @property
    def host_key(self) -> Path:
        return self.etc / "ssh_host_ed25519_key"

    @property
    def fuse_mode(self) -> Path:
        """The mode that /dev/fuse had before ``up``."""
        return self.run / "fuse-mode"

    @property
    def site_toml(self) -> Path:
        return self.state / "site.toml"

    def scratch(self, account: Account) -> Path:
        return self.state / "scratch" / account.user

    def home(self, account: Account) -> Path:
        return self.state / "home" / account.user

    def gpu(self, node: Node, index: int) -> Path:
        return self.state / "dev" / node.name / f"gpu{index}"
