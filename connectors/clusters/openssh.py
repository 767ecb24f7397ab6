"""Connections to a site through this machine's OpenSSH client: SFTP for files, one that is kept open for commands.

One pinned host key: no other key, no certificate, no first-use trust.  One identity; nothing is read from this
machine's SSH configuration, agent or known hosts; no forwarding.  Keys are in files that ssh reads by itself; neither
argv nor environment holds one.
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
import time
from collections.abc import Iterator
from pathlib import Path

from connectors.clusters.port import ClusterUnreachableError, HostKeyMismatchError, SiteCommandError
from connectors.clusters.settings import SshSettings
from hdrs_hpc.core import die_with_parent
from hdrs_hpc.sealing.objects.sftp_session import SftpSession

CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr"
"""The fastest first, on processors with instructions for AES."""
KEEPALIVE_S = 15
UNANSWERED_KEEPALIVES = 4
FIRST_BACK_OFF_S = 1.0
LONGEST_BACK_OFF_S = 60.0
_LOOK_S = 0.01
_MAX_IDENTITY_BYTES = 64 * 1024
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
    meaning = "This machine has no OpenSSH client, which makes all connections to sites."
    remedy = "Install openssh-client (Debian) or openssh-clients (Red Hat) on the broker's machine."
    retry = False


class IdentityError(SiteCommandError):
    code = "ssh-identity-unusable"
    meaning = "The broker's SSH identity for this cluster can't be used."
    remedy = "Make one with `ssh-keygen -t ed25519 -N ''`, readable by the broker only; name it in [ssh]."
    retry = False


class BackOff:
    """Spares a site that is down: after each failure the next try is refused for twice as long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wait_s = 0.0
        self._not_before = 0.0

    def check(self) -> None:
        left = self._not_before - time.monotonic()
        if left > 0:
            raise ClusterUnreachableError(f"the last try failed; the next is due in {left:.0f} s")

    def grow(self) -> None:
        with self._lock:
            self._wait_s = min(LONGEST_BACK_OFF_S, max(FIRST_BACK_OFF_S, 2 * self._wait_s))
            self._not_before = time.monotonic() + self._wait_s

    def reset(self) -> None:
        with self._lock:
            self._wait_s = self._not_before = 0.0


class OpenSsh:
    """The source of connections for one account; each is made, and ended, by one ``ssh`` process.

    All raise ClusterUnreachableError, HostKeyMismatchError, IdentityError, SshClientMissingError.
    """

    def __init__(self, settings: SshSettings, user: str) -> None:
        self._settings = settings
        self._user = user
        self._back_off = BackOff()

    @property
    def connect_timeout_s(self) -> float:
        return self._settings.connect_timeout_s

    def open_session(self) -> SftpSession:
        """A new connection for files."""
        with self._try() as known_hosts:
            process, line = _start(self.argv(known_hosts))
            try:
                session = SftpSession(
                    line, self._settings.read_timeout_s, process.end, self._settings.connect_timeout_s
                )
            except OSError:
                raise self._failure(process.end()) from None
        return session

    def keep_open(self, control: Path) -> SshProcess:
        """A new connection that takes sessions on the socket ``control``, in a folder that is nobody else's."""
        with self._try() as known_hosts:
            process = _started(self.argv(known_hosts, control), None)
            # ssh binds the socket once it is logged in; connecting and logging in have a limit each.
            until = time.monotonic() + 2 * self._settings.connect_timeout_s
            while not control.exists():
                if not process.alive:
                    raise self._failure(process.end())
                if time.monotonic() > until:
                    process.end(at_once=True)
                    raise ClusterUnreachableError("the login node did not let the broker in within its time")
                time.sleep(_LOOK_S)
        return process

    @contextlib.contextmanager
    def _try(self) -> Iterator[Path]:
        """Making one connection: the file with the pinned key, and whether the site is to be spared afterwards."""
        self._back_off.check()
        check_identity(self._settings.identity)
        with _known_hosts(self._settings) as known_hosts:
            try:
                yield known_hosts
            except ClusterUnreachableError:
                self._back_off.grow()
                raise
        self._back_off.reset()

    def argv(self, known_hosts: Path, control: Path | None = None) -> tuple[str, ...]:
        """For files, or with ``control`` for keeping a connection that takes sessions there."""
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
            "ControlMaster": "no" if control is None else "yes",
            "ControlPath": "none" if control is None else str(control),
            "ControlPersist": "no",
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
        there = ("-l", self._user, "-p", str(settings.port))
        target = ("-s", "--", settings.host, "sftp") if control is None else ("-N", "--", settings.host)
        return (program, "-F", "none", "-T", "-x", "-a", *words, *there, *target)

    def _failure(self, complaint: str) -> ClusterUnreachableError:
        if _OTHER_HOST_KEY.search(complaint.lower()):
            return HostKeyMismatchError()
        if _KEY_REFUSED.search(complaint.lower()):
            return ClusterUnreachableError(f"the login node refused the broker's key for {self._user}")
        return ClusterUnreachableError(complaint or "the login node closed the connection")


@contextlib.contextmanager
def _known_hosts(settings: SshSettings) -> Iterator[Path]:
    """A file with the pinned key alone, for as long as a connection is being made."""
    host = settings.host if settings.port == 22 else f"[{settings.host}]:{settings.port}"
    with tempfile.TemporaryDirectory(prefix="hdrs-hpc-") as folder:
        path = Path(folder) / "known_hosts"
        path.write_text(f"{host} {settings.host_key}\n")
        yield path


class SshProcess:
    """One ``ssh``, from its start to its end."""

    def __init__(self, argv: tuple[str, ...], line: socket.socket | None) -> None:
        self._lock = threading.Lock()
        self._said = b""
        self._process = subprocess.Popen(
            die_with_parent.guarded(argv),
            stdin=line.fileno() if line else subprocess.DEVNULL,
            stdout=line.fileno() if line else subprocess.DEVNULL,
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

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self, *, at_once: bool = False) -> str:
        """What it complained of: the last line, printable, at most 200 characters.

        ssh ends by itself once its input ends, without one it is told to; one that hangs on a dead network is not
        waited for.
        """
        with self._lock:
            if at_once:
                self._process.terminate()
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


def _start(argv: tuple[str, ...]) -> tuple[SshProcess, socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
        try:
            return _started(argv, theirs), ours
        except SshClientMissingError:
            ours.close()
            raise


def _started(argv: tuple[str, ...], line: socket.socket | None) -> SshProcess:
    try:
        return SshProcess(argv, line)
    except OSError as error:
        raise SshClientMissingError(f"ssh can't be started: {error.strerror}") from None


def check_identity(path: str) -> None:
    """Raises IdentityError unless there is a key there that can be used without asking anybody."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    try:
        with Path(path).open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise IdentityError("the key file is readable by others")
            raw = file.read(_MAX_IDENTITY_BYTES)
        load = load_ssh_private_key if b"BEGIN OPENSSH PRIVATE KEY" in raw else load_pem_private_key
        load(raw, None)
    except TypeError:  # cryptography's word for a key that a password would open
        raise IdentityError("the key has a passphrase") from None
    except OSError as error:
        raise IdentityError(f"{error.strerror}") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"not a private key ({type(error).__name__})") from None
