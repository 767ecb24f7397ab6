"""A throw-away sshd on loopback, as the user who runs the benchmark, with keys of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import program
from hdrs_hpc.core.errors import SiteError

START_S = 15.0


class NoSshdError(SiteError):
    code = "benchmark-sshd"
    meaning = "The benchmark's own sshd did not start."
    remedy = "Look whether sshd runs here at all: `sshd -t`."


@dataclass(frozen=True, slots=True)
class Sshd:
    port: int
    user: str
    host_key: str
    identity: Path
    known_hosts: Path


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Sshd]:
    """Until the block ends; its files lie in ``folder``.  Raises :class:`NoSshdError`."""
    sshd = program("sshd")
    assert sshd is not None
    folder.mkdir(mode=0o700, parents=True)
    for name in ("host", "user"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)]
        subprocess.run(keygen, check=True, timeout=30)
    port = _free_port()
    host_key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 50\n"
        "Subsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd refuses to start as root without it
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "config")], stderr=log, stdout=log)
    try:
        _wait_for(port, server)
        yield Sshd(port, getpass.getuser(), host_key, folder / "user", folder / "known_hosts")
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise NoSshdError()
