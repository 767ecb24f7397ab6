"""A real sshd of our own for tests, on a port of its own, as the user who runs them."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.pacs import free_port, running

SSHD = "/usr/sbin/sshd"


@dataclass(frozen=True)
class SftpServer:
    port: int
    user: str
    host_key: str
    identity: Path


@contextlib.contextmanager
def sftp_server(folder: Path) -> Iterator[SftpServer]:
    for name in ("host", "user", "other"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / name]
        subprocess.run(keygen, check=True, timeout=30)
    shutil.copy(folder / "user.pub", folder / "authorized")
    port = free_port()
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 50\n"
        "Subsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd refuses to start as root without it
    with running([SSHD, "-D", "-e", "-f", folder / "config"], port, folder):
        host_key = " ".join((folder / "host.pub").read_text().split()[:2])
        yield SftpServer(port, getpass.getuser(), host_key, folder / "user")
