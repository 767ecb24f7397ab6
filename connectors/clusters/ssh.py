"""SSH to a site's login node as one account: one connection for commands, a few for data, both re-used.

The host key is pinned: no other key, no certificate, no first-use trust.  Nothing is read from this machine's
SSH configuration, agent or known hosts.
"""

from __future__ import annotations

import base64
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import paramiko
from paramiko.pkey import UnknownKeyType

from connectors.clusters.commands import MAX_OUTPUT_BYTES, CommandTimeoutError, Completed
from connectors.clusters.port import ClusterUnreachableError, HostKeyMismatchError, SiteCommandError
from connectors.clusters.settings import SshSettings

KEEPALIVE_S = 15
MAX_COMMANDS_AT_ONCE = 6
"""sshd's MaxSessions is 10 by default, for one connection."""
MAX_DATA_CONNECTIONS = 4
FIRST_BACK_OFF_S = 1.0
LONGEST_BACK_OFF_S = 60.0
_PIECE_BYTES = 32 * 1024
_PIECE_WAIT_S = 10.0
_POLL_S = 0.01
_BROKEN = (paramiko.SSHException, EOFError, OSError)


class CommandBrokenOffError(ClusterUnreachableError):
    code = "site-command-broken-off"
    meaning = "The connection broke while a command was at work; what it did is not known."


class IdentityError(SiteCommandError):
    code = "ssh-identity-unusable"
    meaning = "The broker's SSH identity for this cluster can't be used."
    remedy = "Make one with `ssh-keygen -t ed25519 -N ''`, readable by the broker only; name it in [ssh]."
    retry = False


class SshRunner:
    """``CommandRunner`` over SSH, and the source of paramiko's SFTP clients for the same account: for what is
    small.  Sealed objects go through :mod:`connectors.clusters.openssh`."""

    def __init__(
        self, settings: SshSettings, user: str, data_connections: int = MAX_DATA_CONNECTIONS
    ) -> None:
        self._settings = settings
        self._user = user
        self._commands = _Connection(self._connect)
        self._data = [_Connection(self._connect) for _ in range(data_connections)]
        self._slots = threading.BoundedSemaphore(MAX_COMMANDS_AT_ONCE)
        self._turn = 0
        self._lock = threading.Lock()
        self.back_off = BackOff()

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """As the port says.  ClusterUnreachableError means that the command never started, unless it is a
        CommandBrokenOffError or CommandTimeoutError."""
        with self._slots:
            transport = self._commands.transport()
            try:
                channel = transport.open_session(timeout=self._settings.connect_timeout_s)
            except _BROKEN as error:
                self._commands.drop(transport)
                raise ClusterUnreachableError(f"no session ({type(error).__name__})") from None
            try:
                # exec: no shell stays behind to read anything after this line.
                channel.exec_command("exec " + shlex.join(argv))
                return _converse(channel, stdin, time.monotonic() + timeout_s)
            except TimeoutError:
                raise CommandTimeoutError() from None
            except _BROKEN as error:
                self._commands.drop(transport)
                raise CommandBrokenOffError(type(error).__name__) from None
            finally:
                channel.close()

    def open_sftp(self) -> paramiko.SFTPClient:
        """A new SFTP client, on the data connections by turns; every read has a time limit.

        Raises ClusterUnreachableError.  The caller closes it.
        """
        with self._lock:
            self._turn += 1
            connection = self._data[self._turn % len(self._data)]
        transport = connection.transport()
        try:
            channel = transport.open_session(
                window_size=8 << 20, max_packet_size=32768, timeout=self._settings.connect_timeout_s
            )
            channel.invoke_subsystem("sftp")
            channel.settimeout(self._settings.read_timeout_s)
            return paramiko.SFTPClient(channel)
        except _BROKEN as error:
            connection.drop(transport)
            raise ClusterUnreachableError(f"no SFTP ({type(error).__name__})") from None

    @contextmanager
    def sftp(self) -> Iterator[paramiko.SFTPClient]:
        """An SFTP client for one piece of work.  Raises ClusterUnreachableError when the line breaks;
        OSErrors that are answers of the server pass through."""
        client = self.open_sftp()
        try:
            yield client
        except (paramiko.SSHException, EOFError, TimeoutError, ConnectionError) as error:
            raise ClusterUnreachableError(f"SFTP broke off ({type(error).__name__})") from None
        finally:
            client.close()

    def close(self) -> None:
        for connection in (self._commands, *self._data):
            connection.close()

    def _connect(self) -> paramiko.SSHClient:
        self.back_off.check()
        settings = self._settings
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        key_type, _, encoded = settings.host_key.partition(" ")
        entry = settings.host if settings.port == 22 else f"[{settings.host}]:{settings.port}"
        client.get_host_keys().add(entry, key_type, _public_key(key_type, encoded))
        try:
            client.connect(
                settings.host,
                settings.port,
                self._user,
                pkey=_load_identity(settings.identity),
                allow_agent=False,
                look_for_keys=False,
                timeout=settings.connect_timeout_s,
                banner_timeout=settings.connect_timeout_s,
                auth_timeout=settings.connect_timeout_s,
                channel_timeout=settings.connect_timeout_s,
            )
            transport = client.get_transport()
            if transport is None:
                raise EOFError
            transport.set_keepalive(KEEPALIVE_S)
        except paramiko.BadHostKeyException:
            raise self._failed(client, HostKeyMismatchError()) from None
        except paramiko.AuthenticationException:
            message = f"the login node refused the broker's key for {self._user}"
            raise self._failed(client, ClusterUnreachableError(message)) from None
        except _BROKEN as error:
            raise self._failed(client, ClusterUnreachableError(_reason(error))) from None
        self.back_off.reset()
        return client

    def _failed(self, client: paramiko.SSHClient, error: ClusterUnreachableError) -> ClusterUnreachableError:
        client.close()
        self.back_off.grow()
        return error


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


class _Connection:
    """One SSH connection, made when first used and again when it is found dead."""

    def __init__(self, connect: Callable[[], paramiko.SSHClient]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._client: paramiko.SSHClient | None = None

    def transport(self) -> paramiko.Transport:
        with self._lock:
            transport = self._client.get_transport() if self._client else None
            if transport is not None and transport.is_active():
                return transport
            self._shut()
            self._client = self._connect()
            transport = self._client.get_transport()
            if transport is None:
                raise ClusterUnreachableError("the connection closed at once")
            return transport

    def drop(self, transport: paramiko.Transport) -> None:
        """Forget a connection that failed, unless another thread has replaced it already."""
        with self._lock:
            if self._client is not None and self._client.get_transport() in (transport, None):
                self._shut()

    def close(self) -> None:
        with self._lock:
            self._shut()

    def _shut(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _converse(channel: paramiko.Channel, stdin: bytes, deadline: float) -> Completed:
    """Feed stdin and drain both outputs at once, until the exit status and both ends of file are there."""
    out, err = bytearray(), bytearray()
    left = memoryview(stdin)
    channel.settimeout(_PIECE_WAIT_S)
    if not left:
        channel.shutdown_write()
    while True:
        moved = False
        if left and channel.send_ready():
            left = left[channel.send(bytes(left[:_PIECE_BYTES])) :]
            moved = True
            if not left:
                channel.shutdown_write()
        # One piece a round: neither the bound nor the deadline waits for a pause in what is printed.
        if channel.recv_ready():
            out += channel.recv(_PIECE_BYTES)
            moved = True
        if channel.recv_stderr_ready():
            err += channel.recv_stderr(_PIECE_BYTES)
            moved = True
        if len(out) + len(err) > MAX_OUTPUT_BYTES:
            raise SiteCommandError("a command printed more than anything it could have to say")
        if time.monotonic() > deadline:
            raise TimeoutError
        if moved:
            continue
        if channel.exit_status_ready() and (channel.eof_received or channel.closed):
            break
        time.sleep(_POLL_S)
    # What arrived between the last look and the end of file.
    while channel.recv_ready():
        out += channel.recv(_PIECE_BYTES)
    while channel.recv_stderr_ready():
        err += channel.recv_stderr(_PIECE_BYTES)
    status = channel.recv_exit_status()
    if status < 0:
        raise EOFError  # no status was sent: killed by a signal, or the connection died
    return Completed(status, bytes(out), bytes(err))


def check_identity(path: str) -> None:
    """Raises IdentityError unless there is a key there that can be used without asking anybody."""
    _load_identity(path)


def _load_identity(path: str) -> paramiko.PKey:
    try:
        if Path(path).stat().st_mode & 0o077:
            raise IdentityError("the key file is readable by others")
        return paramiko.PKey.from_path(path)
    except (paramiko.PasswordRequiredException, TypeError):  # the second is cryptography's word for it
        raise IdentityError("the key has a passphrase") from None
    except OSError as error:
        raise IdentityError(f"{error.strerror}") from None
    except (paramiko.SSHException, UnknownKeyType, ValueError) as error:
        raise IdentityError(f"not a private key ({type(error).__name__})") from None


def _public_key(key_type: str, encoded: str) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_type_string(key_type, base64.b64decode(encoded, validate=True))
    except (paramiko.SSHException, UnknownKeyType, ValueError) as error:
        raise HostKeyMismatchError(f"`host-key` is not a public key ({type(error).__name__})") from None


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return "".join(sign if sign.isprintable() else " " for sign in str(text))[:200]
