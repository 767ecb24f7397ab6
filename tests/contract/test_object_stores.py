"""The ObjectStore contract for every store, and what only one of them can do wrong."""

from __future__ import annotations

import base64
import contextlib
import errno
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
from pathlib import Path

import pytest

from connectors.clusters.openssh import IdentityError, OpenSsh
from connectors.clusters.port import ClusterUnreachableError, HostKeyMismatchError
from connectors.clusters.settings import SshSettings
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
from hdrs_hpc.sealing.objects.sftp import SftpPool, SftpStore
from hdrs_hpc.sealing.objects.sftp_session import SftpSession
from hdrs_hpc.sealing.reader import SealedCopy
from tests.support.severed_line import SeveredLine
from tests.support.sshd import SSHD, SftpServer, sftp_server


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


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    if not Path(SSHD).exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{SSHD} is missing under CI=true")
        pytest.skip(f"no {SSHD}: sealed objects over SFTP are not tried")
    with sftp_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


def ssh_to(server: SftpServer, **changed: object) -> OpenSsh:
    known = {
        "host": "127.0.0.1",
        "port": server.port,
        "host_key": server.host_key,
        "identity": str(server.identity),
    }
    return OpenSsh(SshSettings.model_validate(known | changed), server.user)


@contextlib.contextmanager
def connected(server: SftpServer, connections: int = 4, **changed: object) -> Iterator[SftpPool]:
    pool = SftpPool(ssh_to(server, **changed).open_session, connections)
    try:
        yield pool
    finally:
        pool.close()


@pytest.fixture
def pool(sshd: SftpServer) -> Iterator[SftpPool]:
    with connected(sshd) as pool:
        yield pool


@pytest.mark.root_parts
class TestSftpStore(ObjectStoreContract):
    @pytest.fixture
    def objects(self, tmp_path: Path, pool: SftpPool) -> ObjectStore:
        return SftpStore(pool, f"{tmp_path}/deep/below")

    def test_folder_and_files_are_for_the_owner_alone(self, tmp_path: Path, objects: ObjectStore) -> None:
        objects.put("a", b"x")
        for folder in ("deep", "deep/below"):
            assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "deep" / "below" / "a").stat().st_mode & 0o777 == 0o600

    def test_given_memory_is_filled_as_far_as_the_object_goes(self, objects: ObjectStore) -> None:
        assert isinstance(objects, SftpStore)
        data = os.urandom(3_000_000)
        objects.put("a", data)
        memory = bytearray(1_000_000)
        assert objects.get_into("a", 5, memoryview(memory)) == 1_000_000
        assert memory == data[5:1_000_005]
        assert objects.get_into("a", 2_999_990, memoryview(memory)) == 10
        assert memory[:10] == data[-10:]
        assert objects.get_into("a", 3_000_000, memoryview(memory)) == 0

    def test_calls_share_connections_and_wait_for_none(self, tmp_path: Path, sshd: SftpServer) -> None:
        made = 0
        ssh = ssh_to(sshd)
        together = threading.Barrier(6, timeout=60)

        def connect() -> SftpSession:
            nonlocal made
            made += 1
            return ssh.open_session()

        def pieces() -> Iterator[bytes]:
            yield b"x"
            together.wait()  # passes only when all six are being put at once
            yield b"y"

        pool = SftpPool(connect, connections=2)
        objects = SftpStore(pool, str(tmp_path))
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda n: objects.put(f"n{n}", pieces()), range(6)))
        assert all(objects.get(f"n{n}") == b"xy" for n in range(6))
        pool.close()
        assert made == 2

    def test_one_caller_needs_one_connection(self, tmp_path: Path, sshd: SftpServer) -> None:
        made = 0
        ssh = ssh_to(sshd)

        def connect() -> SftpSession:
            nonlocal made
            made += 1
            return ssh.open_session()

        pool = SftpPool(connect)
        for number in range(5):
            SftpStore(pool, f"{tmp_path}/{number}").put("a", b"x")
        pool.close()
        assert made == 1

    @pytest.mark.parametrize("when", ["idle", "in a put"])
    def test_a_lost_connection_is_said_and_the_next_call_works(
        self, tmp_path: Path, sshd: SftpServer, when: str
    ) -> None:
        line = SeveredLine(sshd.port)
        with connected(sshd, port=line.port) as pool:
            objects = SftpStore(pool, str(tmp_path))
            objects.put("before", b"x")

            def pieces() -> Iterator[bytes]:
                yield bytes(3 << 20)
                line.drop_all()
                yield bytes(30 << 20)

            if when == "in a put":
                with pytest.raises(ObjectTransferError) as raised:
                    objects.put("lost", pieces())
                assert raised.value.retry
                assert sorted(objects.list()) == ["before"]
                objects.put("lost", b"again")
                assert objects.get("lost") == b"again"
            else:
                with pool.session() as session:
                    line.drop_all()
                    until = time.monotonic() + 30
                    while session.alive and time.monotonic() < until:
                        time.sleep(0.01)
            assert objects.get("before") == b"x"

    def test_all_calls_on_a_lost_connection_fail(self, tmp_path: Path, sshd: SftpServer) -> None:
        line = SeveredLine(sshd.port)
        cut = threading.Barrier(4, timeout=60, action=line.drop_all)

        def pieces() -> Iterator[bytes]:
            yield bytes(1 << 20)
            cut.wait()
            yield bytes(8 << 20)

        with connected(sshd, 1, port=line.port) as pool, ThreadPoolExecutor(4) as threads:
            objects = SftpStore(pool, str(tmp_path))
            puts = [threads.submit(objects.put, f"n{n}", pieces()) for n in range(4)]
            assert [type(put.exception(60)) for put in puts] == [ObjectTransferError] * 4
            assert list(objects.list()) == []

    def test_a_server_that_falls_silent_is_given_up(self, tmp_path: Path, sshd: SftpServer) -> None:
        line = SeveredLine(sshd.port, deafen_after=2 << 20)
        with connected(sshd, port=line.port, read_timeout_s=5) as pool:
            began = time.monotonic()
            with pytest.raises(ObjectTransferError):
                SftpStore(pool, str(tmp_path)).put("a", bytes(4 << 20))
            assert time.monotonic() - began < 60
        line.cut()

    def test_what_an_interrupted_put_left_is_swept(self, tmp_path: Path, objects: ObjectStore) -> None:
        objects.put("whole", b"x")
        for number in range(150):
            (tmp_path / "deep" / "below" / f".partial-o1-{number}").write_bytes(b"half")
        assert list(objects.list()) == ["whole"]
        assert objects.sweep() == 150
        assert sorted(path.name for path in (tmp_path / "deep" / "below").iterdir()) == ["whole"]

    def test_a_long_folder_is_listed_whole(self, tmp_path: Path, objects: ObjectStore) -> None:
        objects.put("o-0", b"")
        for number in range(1, 1500):
            (tmp_path / "deep" / "below" / f"o-{number}").write_bytes(bytes(number))
        assert sorted(objects.sizes()) == sorted((f"o-{number}", number) for number in range(1500))

    def test_a_link_is_no_object(self, tmp_path: Path, objects: ObjectStore) -> None:
        objects.put("a", b"x")
        (tmp_path / "deep" / "below" / "b").symlink_to("a")
        assert list(objects.list()) == ["a"]


@pytest.mark.root_parts
class TestOpenSsh:
    """What keeps a connection from being made."""

    def test_another_host_key_is_refused(self, sshd: SftpServer) -> None:
        other = " ".join(sshd.identity.with_suffix(".pub").read_text().split()[:2])
        with pytest.raises(HostKeyMismatchError):
            ssh_to(sshd, host_key=other).open_session()

    def test_a_host_key_of_another_type_is_refused(self, sshd: SftpServer) -> None:
        rsa = "ssh-rsa " + base64.b64encode(b"\0\0\0\7ssh-rsa\0\0\0\3\1\0\1\0\0\0\5\1abcd").decode()
        with pytest.raises(HostKeyMismatchError):
            ssh_to(sshd, host_key=rsa).open_session()

    def test_a_key_that_the_server_does_not_know_is_said(self, sshd: SftpServer) -> None:
        stranger = sshd.identity.with_name("other")
        with pytest.raises(ClusterUnreachableError, match="refused the broker's key"):
            ssh_to(sshd, identity=str(stranger)).open_session()

    def test_an_identity_that_others_can_read_is_not_used(self, sshd: SftpServer, tmp_path: Path) -> None:
        copy = tmp_path / "key"
        shutil.copy(sshd.identity, copy)
        copy.chmod(0o644)
        with pytest.raises(IdentityError):
            ssh_to(sshd, identity=str(copy)).open_session()

    def test_an_identity_with_a_passphrase_is_not_asked_for(self, sshd: SftpServer, tmp_path: Path) -> None:
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "long enough", "-f", tmp_path / "key"]
        subprocess.run(keygen, check=True, timeout=30)
        with pytest.raises(IdentityError, match="passphrase"):
            ssh_to(sshd, identity=str(tmp_path / "key")).open_session()

    def test_an_unreachable_server_is_a_site_error_and_is_not_hammered(
        self, sshd: SftpServer, tmp_path: Path
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with connected(sshd, port=port) as pool:
            with pytest.raises(ClusterUnreachableError, match="refused") as raised:
                SftpStore(pool, str(tmp_path)).get("a")
            assert raised.value.retry
            with pytest.raises(ClusterUnreachableError, match="next is due"):
                SftpStore(pool, str(tmp_path)).get("a")

    def test_a_server_that_never_answers_is_given_up_in_time(self, sshd: SftpServer) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ssh = ssh_to(sshd, port=listener.getsockname()[1], connect_timeout_s=1)
            began = time.monotonic()
            with pytest.raises(ClusterUnreachableError):
                ssh.open_session()
            assert time.monotonic() - began < 30

    def test_ssh_is_gone_when_the_session_is(self, sshd: SftpServer) -> None:
        def children() -> set[str]:
            return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

        before = children()
        session = ssh_to(sshd).open_session()
        assert len(started := children() - before) == 1
        session.close()
        assert not children() & started

    def test_neither_argv_nor_environment_hold_a_key(self, sshd: SftpServer) -> None:
        secret = sshd.identity.read_text().splitlines()[1].encode()
        before = {path.name for path in Path("/proc").iterdir()}
        session = ssh_to(sshd).open_session()
        seen = 0
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if process.name.isdecimal() and process.name not in before:
                    told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
                    seen += str(sshd.port).encode() in told
                    assert secret not in told
        session.close()
        assert seen == 2, "ssh, and the guard that ends it with us"

    @pytest.mark.parametrize("text", ["Host *\n  ProxyCommand /bin/false\n"])
    def test_this_machines_configuration_is_not_read(
        self, sshd: SftpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "config").write_text(text)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        ssh_to(sshd).open_session().close()


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
def test_a_disk_that_is_really_full(small_disk: Path, pool: SftpPool, kind: str) -> None:
    stores: dict[str, Callable[[], ObjectStore]] = {
        "directory": lambda: DirectoryStore(small_disk),
        "sftp": lambda: SftpStore(pool, str(small_disk)),
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
def test_a_copy_is_built_and_read_over_sftp(tmp_path: Path, pool: SftpPool) -> None:
    objects = SftpStore(pool, str(tmp_path / "copies" / "7K3QW2"))
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
