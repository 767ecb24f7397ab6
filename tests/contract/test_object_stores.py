"""The ObjectStore contract for every store, and what only one of them can do wrong."""

from __future__ import annotations

import contextlib
import errno
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
import pytest

from hdrs_hpc.core.errors import SiteError
from hdrs_hpc.sealing.copy_builder import CopyBuilder
from hdrs_hpc.sealing.objects import (
    ObjectMissingError,
    ObjectStore,
    ObjectTransferError,
    ScratchFullError,
    directory,
)
from hdrs_hpc.sealing.objects.contract import ObjectStoreContract
from hdrs_hpc.sealing.objects.directory import DirectoryStore
from hdrs_hpc.sealing.objects.sftp import SftpStore
from hdrs_hpc.sealing.reader import SealedCopy

SSHD = "/usr/sbin/sshd"


class TestDirectoryStore(ObjectStoreContract):
    @pytest.fixture
    def objects(self, tmp_path: Path) -> ObjectStore:
        return DirectoryStore(tmp_path / "deep" / "below")

    def test_files_and_folders_are_for_the_owner_alone(self, tmp_path: Path) -> None:
        DirectoryStore(tmp_path / "new").put("a", b"x")
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "new" / "a").stat().st_mode & 0o777 == 0o600

    def test_a_full_disk_is_named_and_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real_write = os.write

        def write(handle: int, data: bytes | memoryview) -> int:
            if len(data) > 1000:
                return real_write(handle, data[:1000])
            raise OSError(errno.ENOSPC, "full")

        objects = DirectoryStore(tmp_path / "full")
        monkeypatch.setattr(directory.os, "write", write)
        with pytest.raises(ScratchFullError) as raised:
            objects.put("a", bytes(5000))
        assert raised.value.retry
        monkeypatch.undo()
        assert list((tmp_path / "full").iterdir()) == []

    def test_a_kill_in_the_midst_of_a_put_leaves_no_object(self, tmp_path: Path) -> None:
        place = tmp_path / "killed"
        program = (
            "import os, pathlib, signal, sys\n"
            "from hdrs_hpc.sealing.objects.directory import DirectoryStore\n"
            "def pieces():\n"
            "    yield bytes(100_000)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            "DirectoryStore(pathlib.Path(sys.argv[1])).put('half', pieces())\n"
        )
        killed = subprocess.run([sys.executable, "-c", program, place], timeout=60)
        assert killed.returncode == -signal.SIGKILL
        objects = DirectoryStore(place)
        assert len(list(place.iterdir())) == 1  # what was written so far, without a name
        assert list(objects.list()) == []
        with pytest.raises(ObjectMissingError):
            objects.get("half")
        assert objects.sweep() == 1
        assert list(place.iterdir()) == []

    def test_a_link_in_place_of_an_object_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"of this machine")
        (tmp_path / "place").mkdir()
        (tmp_path / "place" / "a").symlink_to(tmp_path / "secret")
        objects = DirectoryStore(tmp_path / "place")
        with pytest.raises(SiteError):
            objects.get("a")
        assert list(objects.list()) == []

    def test_a_file_system_without_hard_links_will_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def link(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(directory.os, "link", link)
        objects = DirectoryStore(tmp_path)
        self.test_what_was_put_is_got(objects)
        self.test_a_name_is_given_once(objects)


@dataclass
class Sshd:
    """A real sshd of our own, on a port of its own, as the user who runs the tests."""

    port: int
    host_key: paramiko.PKey
    identity: paramiko.PKey
    transports: list[paramiko.Transport] = field(default_factory=list)

    def connect(self) -> paramiko.SFTPClient:
        transport = paramiko.Transport(("127.0.0.1", self.port))
        self.transports.append(transport)
        transport.connect(hostkey=self.host_key, username=getpass.getuser(), pkey=self.identity)
        sftp = paramiko.SFTPClient.from_transport(transport)
        assert sftp is not None
        return sftp

    def cut_all_connections(self) -> None:
        for transport in self.transports:
            transport.sock.close()
            transport.close()


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    if not Path(SSHD).exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{SSHD} is missing under CI=true")
        pytest.skip(f"no {SSHD}: sealed objects over SFTP are not tried")
    home = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True, timeout=30
        )
    shutil.copy(home / "user.pub", home / "authorized")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (home / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {home}/host\nPidFile none\n"
        f"AuthorizedKeysFile {home}/authorized\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 50\n"
        "Subsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd refuses to start as root without it
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", home / "config"], stdout=log, stderr=log)
    try:
        _wait_for(port, process, home / "log")
        yield Sshd(
            port,
            paramiko.Ed25519Key.from_private_key_file(str(home / "host")),
            paramiko.Ed25519Key.from_private_key_file(str(home / "user")),
        )
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    pytest.fail("sshd does not answer")


@pytest.mark.root_parts
class TestSftpStore(ObjectStoreContract):
    @pytest.fixture
    def objects(self, tmp_path: Path, sshd: Sshd) -> Iterator[ObjectStore]:
        store = SftpStore(sshd.connect, f"{tmp_path}/deep/below")
        yield store
        store.close()

    def test_the_folder_is_for_the_owner_alone(self, tmp_path: Path, objects: ObjectStore) -> None:
        objects.put("a", b"x")
        for folder in ("deep", "deep/below"):
            assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700

    def test_no_more_connections_than_streams(self, tmp_path: Path, sshd: Sshd) -> None:
        now = most = made = 0
        lock = threading.Lock()

        def connect() -> paramiko.SFTPClient:
            nonlocal made
            made += 1
            return sshd.connect()

        objects = SftpStore(connect, str(tmp_path), streams=2)

        def pieces() -> Iterator[bytes]:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.05)
            yield b"x"
            with lock:
                now -= 1

        threads = [threading.Thread(target=objects.put, args=(f"n{n}", pieces())) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        objects.close()
        assert (made, most) == (2, 2)

    @pytest.mark.parametrize("when", ["idle", "in a put"])
    def test_a_lost_connection_is_said_and_the_next_call_works(
        self, tmp_path: Path, sshd: Sshd, when: str
    ) -> None:
        mine = Sshd(sshd.port, sshd.host_key, sshd.identity)
        objects = SftpStore(mine.connect, str(tmp_path))
        objects.put("before", b"x")

        def pieces() -> Iterator[bytes]:
            yield bytes(3 << 20)
            mine.cut_all_connections()
            yield bytes(3 << 20)

        if when == "in a put":
            with pytest.raises(ObjectTransferError) as raised:
                objects.put("lost", pieces())
            assert raised.value.retry
            assert sorted(objects.list()) == ["before"]
            objects.put("lost", b"again")
            assert objects.get("lost") == b"again"
        else:
            mine.cut_all_connections()
        assert objects.get("before") == b"x"
        objects.close()

    def test_an_unreachable_server_is_a_site_error(self, tmp_path: Path) -> None:
        def refuse() -> paramiko.SFTPClient:
            raise ConnectionRefusedError

        with pytest.raises(ObjectTransferError) as raised:
            SftpStore(refuse, str(tmp_path)).get("a")
        assert raised.value.retry

    def test_what_an_interrupted_put_left_is_swept(self, tmp_path: Path, objects: ObjectStore) -> None:
        objects.put("whole", b"x")
        (tmp_path / "deep" / "below" / ".partial-o1-abc").write_bytes(b"half")
        assert list(objects.list()) == ["whole"]
        assert objects.sweep() == 1
        assert sorted(path.name for path in (tmp_path / "deep" / "below").iterdir()) == ["whole"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB of our own; only root can mount one."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", place], capture_output=True, timeout=30
    )
    if mounted.returncode:
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            pytest.fail("a tmpfs can't be mounted under CI=true")
        pytest.skip("a tmpfs can't be mounted here: a really full disk is not tried")
    yield place
    subprocess.run(["umount", place], check=True, timeout=30)


@pytest.mark.root_parts
@pytest.mark.parametrize("kind", ["directory", "sftp"])
def test_a_disk_that_is_really_full(small_disk: Path, sshd: Sshd, kind: str) -> None:
    stores: dict[str, Callable[[], ObjectStore]] = {
        "directory": lambda: DirectoryStore(small_disk),
        "sftp": lambda: SftpStore(sshd.connect, str(small_disk)),
    }
    objects = stores[kind]()
    objects.put("fits", bytes(100_000))
    for size in (200_000, 20 << 20):
        with pytest.raises(ScratchFullError) as raised:
            objects.put("large", (b"\xff" * 65_536 for _ in range(size // 65_536)))
        assert raised.value.retry
    assert sorted(objects.sizes()) == [("fits", 100_000)]
    assert [path.name for path in small_disk.iterdir()] == ["fits"]
    objects.put("also", bytes(100_000))
    assert objects.get("also") == bytes(100_000)


@pytest.mark.root_parts
def test_a_copy_is_built_and_read_over_sftp(tmp_path: Path, sshd: Sshd) -> None:
    objects = SftpStore(sshd.connect, str(tmp_path / "copies" / "7K3QW2"))
    key = os.urandom(32)
    builder = CopyBuilder(objects, key, "copy", "lungs", "7K3QW2", tmp_path / "journals")
    data = os.urandom(3_000_000)

    def stage(number: int) -> None:
        item = f"series/S{number}"
        builder.put(f"{item}/c/0", data[number:])
        builder.put(f"{item}/c/0", (data[at : at + 99_999] for at in range(number, len(data), 99_999)))
        builder.finish_item(item, {})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(stage, range(6)))
    builder.put("series/S9/c/0", b"not finished")
    ref = builder.seal()
    # The site sees the same objects as files.
    files = DirectoryStore(tmp_path / "copies" / "7K3QW2")
    assert len(list(files.list())) == ref.objects == 6 + 6 + 1
    for store in (objects, files):
        copy = SealedCopy.open(store, key, "copy", "lungs", "7K3QW2", ref.manifest_digest)
        assert all(copy.read(f"series/S{n}/c/0") == data[n:] for n in range(6))
        assert copy.read("series/S3/c/0", 1_234_567, 89) == data[1_234_570 : 1_234_570 + 89]
    objects.close()
