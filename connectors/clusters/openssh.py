"""SFTP to a site through this machine's OpenSSH client: encryption in C, the packets are ours.

The same promises as :mod:`connectors.clusters.ssh`: one pinned host key, one identity, nothing read from this
machine's SSH configuration, agent or known hosts, no forwarding, no sharing of connections.  Keys are in files
that ssh reads by itself; neither argv nor environment holds one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from connectors.clusters.port import ClusterUnreachableError, HostKeyMismatchError, SiteCommandError
from connectors.clusters.settings import SshSettings
from connectors.clusters.ssh import KEEPALIVE_S, BackOff, check_identity
from hdrs_hpc.core import die_with_parent
from hdrs_hpc.sealing.objects.sftp_session import SftpSession

CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr"
"""The fastest first, on processors with instructions for AES."""
UNANSWERED_KEEPALIVES = 4
_PROGRAM_PLACES = "/usr/bin:/usr/local/bin:/bin"
_ENDING_S = 1.0
_COMPLAINT_BYTES = 4096
_SOCKET_BYTES = 1 << 20
_OTHER_HOST_KEY = re.compile(
    r"host key verification failed|no matching host key type|identification has changed"
)
_KEY_REFUSED = re.compile(r"permission denied")


class SshClientMissingError(SiteCommandError):
    code = "ssh-client-missing"
    meaning = "This machine has no OpenSSH client, which carries data to the site."
    remedy = "Install openssh-client (Debian) or openssh-clients (Red Hat) on the broker's machine."
    retry = False


class OpenSsh:
    """The source of SFTP sessions for one account; each is one connection, made by one ``ssh`` process."""

    def __init__(self, settings: SshSettings, user: str, back_off: BackOff | None = None) -> None:
        self._settings = settings
        self._user = user
        self._back_off = back_off or BackOff()

    def open_session(self) -> SftpSession:
        """A new connection.

        Raises ClusterUnreachableError, HostKeyMismatchError, IdentityError, SshClientMissingError.
        """
        self._back_off.check()
        check_identity(self._settings.identity)
        with _known_hosts(self._settings) as known_hosts:
            process, line = _start(self.argv(known_hosts))
            try:
                session = SftpSession(
                    line, self._settings.read_timeout_s, process.end, self._settings.connect_timeout_s
                )
            except OSError:
                self._back_off.grow()
                raise self._failure(process.end()) from None
        self._back_off.reset()
        return session

    def argv(self, known_hosts: Path) -> tuple[str, ...]:
        settings = self._settings
        key_type = settings.host_key.partition(" ")[0]
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "UpdateHostKeys": "no",
            "VerifyHostKeyDNS": "no",
            "CheckHostIP": "no",
            "HostKeyAlgorithms": "rsa-sha2-512,rsa-sha2-256" if key_type == "ssh-rsa" else key_type,
            "IdentityFile": settings.identity,
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PreferredAuthentications": "publickey",
            "ControlMaster": "no",
            "ControlPath": "none",
            "ProxyCommand": "none",
            "ClearAllForwardings": "yes",
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "PermitLocalCommand": "no",
            "Compression": "no",
            "Ciphers": CIPHERS,
            "ConnectTimeout": str(settings.connect_timeout_s),
            "ServerAliveInterval": str(KEEPALIVE_S),
            "ServerAliveCountMax": str(UNANSWERED_KEEPALIVES),
            "TCPKeepAlive": "yes",
            "EscapeChar": "none",
            "LogLevel": "INFO",
        }
        program = shutil.which("ssh", path=_PROGRAM_PLACES)
        if program is None:
            raise SshClientMissingError()
        words = [word for option, value in options.items() for word in ("-o", f"{option}={value}")]
        target = ("-l", self._user, "-p", str(settings.port), "-s", "--", settings.host, "sftp")
        return (program, "-F", "none", "-T", "-x", "-a", *words, *target)

    def _failure(self, complaint: str) -> ClusterUnreachableError:
        if _OTHER_HOST_KEY.search(complaint.lower()):
            return HostKeyMismatchError()
        if _KEY_REFUSED.search(complaint.lower()):
            return ClusterUnreachableError(f"the login node refused the broker's key for {self._user}")
        return ClusterUnreachableError(complaint or "the login node gave no SFTP")


@contextlib.contextmanager
def _known_hosts(settings: SshSettings) -> Iterator[Path]:
    """A file with the pinned key alone, for as long as a connection is being made."""
    host = settings.host if settings.port == 22 else f"[{settings.host}]:{settings.port}"
    with tempfile.TemporaryDirectory(prefix="hdrs-hpc-") as folder:
        path = Path(folder) / "known_hosts"
        path.write_text(f"{host} {settings.host_key}\n")
        yield path


class _Process:
    """One ``ssh``, from its start to its end."""

    def __init__(self, argv: tuple[str, ...], line: socket.socket) -> None:
        self._lock = threading.Lock()
        self._said = b""
        self._process = subprocess.Popen(
            die_with_parent.guarded(argv),
            stdin=line.fileno(),
            stdout=line.fileno(),
            stderr=subprocess.PIPE,
            env={"LC_ALL": "C", "PATH": os.defpath},
            cwd="/",
            start_new_session=True,
        )
        # Read on, since a server that says much would stall the line; banners come first, reasons last.
        self._listener = threading.Thread(target=self._listen, name="ssh-says", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        said = self._process.stderr
        assert said is not None
        with said:
            while block := os.read(said.fileno(), _COMPLAINT_BYTES):
                self._said = (self._said + block)[-_COMPLAINT_BYTES:]

    def end(self) -> str:
        """What it complained of: the last line, printable, at most 200 characters.

        ssh ends by itself once its input ends; one that hangs on a dead network is not waited for.
        """
        with self._lock:
            for ask_again in (self._process.terminate, self._process.kill):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_ENDING_S)
                    break
                ask_again()
            self._process.wait()
            self._listener.join(_ENDING_S)  # not for ever: a child of ssh could hold the other end
            lines = self._said.decode("utf-8", "replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "")
            return "".join(sign if sign.isprintable() else " " for sign in last).strip()[:200]


def _start(argv: tuple[str, ...]) -> tuple[_Process, socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
        try:
            return _Process(argv, theirs), ours
        except OSError as error:
            ours.close()
            raise SshClientMissingError(f"ssh can't be started: {error.strerror}") from None
