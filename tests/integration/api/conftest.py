from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hdrs_hpc.broker import setup
from hdrs_hpc.broker.web.app import create
from tests.support.office import Office

CLUSTER = b"""\
name = "isambard-ai"
type = "slurm"
isolation = "sandboxed"
max-nodes = 4

[slurm]
bin = "/usr/bin"
"""


@dataclass
class Open:
    """An office whose API listens on loopback, and its people's keys as files."""

    office: Office
    url: str
    folder: Path

    def key(self, person: str) -> Path:
        """The person's key as ssh-keygen keeps it."""
        path = self.folder / f"key-{person}"
        if not path.exists():
            private = self.office.party.keys[person]
            path.touch(mode=0o600)
            path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
            line = subprocess.run(
                ["ssh-keygen", "-y", "-f", str(path)], capture_output=True, check=True
            ).stdout
            path.with_name(path.name + ".pub").write_bytes(line)
        return path


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "HDRS_HPC_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    office = Office(tmp_path / "office")
    port = setup.free_port()
    server = uvicorn.Server(uvicorn.Config(create(office.web), port=port, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Open(office, f"http://127.0.0.1:{port}", tmp_path)
    server.should_exit = True
    thread.join(10)
    office.db.close()
