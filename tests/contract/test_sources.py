"""The Source contract for what needs no server of its own kind: folder, zip archive, S3, SFTP; and the spool."""

from __future__ import annotations

import os
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from connectors.sources import (
    Source,
    SourceCorruptError,
    SourceCredentialError,
    SourceItemMissingError,
    SourceLoginError,
    SourceRefusedError,
    SourceTooLargeError,
    SourceUnreachableError,
    SourceUnreadableError,
)
from connectors.sources.contract import RemoteSourceContract, SourceContract
from connectors.sources.contract_line import CutLine
from connectors.sources.opening import open_source
from connectors.sources.remote import Limits, RemoteSource
from connectors.sources.retrying import LineBrokenError, Retrying
from connectors.sources.spool import Partial, Spool
from hdrs_hpc.documents.models.source import location_from_value
from tests.conftest import require
from tests.support.s3_server import BUCKET, S3Server, s3_server
from tests.support.sshd import SSHD, SftpServer, sftp_server

QUICK = Limits(retrying=Retrying(attempts=4, first_s=0.05, longest_s=0.2))
LARGE = os.urandom(32 << 20)


class TestZipSource(SourceContract):
    def make(self, tmp_path: Path, files: dict[str, bytes]) -> Source:
        path = tmp_path / f"archive-{len(files)}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("empty folder")
            for name, data in files.items():
                archive.writestr(name, data)
        return open_source(str(path))


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        client = server.client()
        for name, data in SourceContract.FILES.items():
            client.put_object(Bucket=BUCKET, Key=f"set/{name}", Body=data)
        client.put_object(Bucket=BUCKET, Key="set/b/", Body=b"")  # a mark of a folder, as consoles make them
        client.put_object(Bucket=BUCKET, Key="big/large.svs", Body=LARGE, ChecksumAlgorithm="SHA256")
        client.put_object(Bucket=BUCKET, Key="setting/other", Body=b"another prefix")
        yield server


def s3_source(server: S3Server, prefix: str, port: int | None = None, **fields: Any) -> Source:
    value = {
        "type": "s3",
        "bucket": BUCKET,
        "prefix": prefix,
        "endpoint": f"http://127.0.0.1:{port or server.port}",
        "region": "eu-west-2",
        "profile": "archive",
        "credentials-file": str(server.credentials),
    }
    return open_source(location_from_value(value | fields), QUICK)


class TestS3Source(RemoteSourceContract):
    RESUMES = True

    @pytest.fixture(autouse=True)
    def _server(self, s3: S3Server) -> None:
        self.server = s3

    def make(self, tmp_path: Path, files: dict[str, bytes]) -> Source:
        return s3_source(self.server, "set/" if files else "nothing/")

    def through(self, port: int, tmp_path: Path) -> Source:
        return s3_source(self.server, "", port)

    @pytest.fixture
    def peer_port(self) -> int:
        return self.server.port

    @pytest.fixture
    def large(self) -> tuple[str, bytes]:
        return "big/large.svs", LARGE

    def test_a_listing_that_is_cut_is_whole_in_the_end(
        self, remote: Source, line: CutLine, source: Source
    ) -> None:
        line.cut_after(600)
        assert [item.path for item in remote.items() if item.path.startswith("set/")] == [
            f"set/{item.path}" for item in source.items()
        ]
        assert line.cuts_due == 0

    @pytest.fixture
    def remote(self, line: CutLine, tmp_path: Path) -> Iterator[Source]:
        source = self.through(line.port, tmp_path)
        yield source
        source.close()

    def test_connections_that_died_while_idle_are_replaced(
        self, remote: Source, line: CutLine, held: dict[str, bytes]
    ) -> None:
        remote.open("set/a").close()
        line.drop_all()
        with remote.open("set/b/two.dcm") as handle:
            assert handle.read() == held["b/two.dcm"]

    def test_an_object_replaced_in_the_midst_of_a_transfer_is_read_whole_in_one_version(
        self, remote: Source, line: CutLine
    ) -> None:
        client = self.server.client()
        client.put_object(Bucket=BUCKET, Key="changing", Body=b"1" * (8 << 20))
        line.cut_after(3 << 20)
        real = LineBrokenError.__init__

        def replace(self: LineBrokenError, *args: Any, **kwargs: Any) -> None:
            client.put_object(Bucket=BUCKET, Key="changing", Body=b"2" * (8 << 20))
            real(self, *args, **kwargs)

        with mock.patch.object(LineBrokenError, "__init__", replace), remote.open("changing") as handle:
            assert handle.read() == b"2" * (8 << 20)
        assert line.cuts_due == 0
        client.delete_object(Bucket=BUCKET, Key="changing")

    def test_bytes_that_are_not_those_of_the_checksum_are_refused(self, s3: S3Server) -> None:
        source = s3_source(s3, "")
        with (
            mock.patch.object(Partial, "blocks", lambda self: iter([b"other bytes"])),
            pytest.raises(SourceCorruptError),
        ):
            source.open("set/b/two.dcm")
        with (
            mock.patch.object(Partial, "blocks", lambda self: iter([b"other bytes"])),
            pytest.raises(SourceCorruptError),
        ):
            source.open("big/large.svs")

    def test_more_objects_than_a_page_are_all_listed(self, s3: S3Server) -> None:
        client = s3.client()
        for number in range(1005):
            client.put_object(Bucket=BUCKET, Key=f"many/{number:04}", Body=b"")
        assert len(list(s3_source(s3, "many/").items())) == 1005

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"profile": "absent"}, SourceCredentialError),
            ({"bucket": "no-such-bucket"}, SourceRefusedError),
        ],
    )
    def test_what_can_not_work_is_said_at_once(
        self, s3: S3Server, fields: dict[str, str], error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            list(s3_source(s3, "set/", **fields).items())


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    require(Path(SSHD).exists(), f"no {SSHD}: sources over SFTP are not tried")
    with sftp_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


def sftp_source(server: SftpServer, path: Path, port: int | None = None, **fields: Any) -> Source:
    value = {
        "type": "sftp",
        "host": "127.0.0.1",
        "port": port or server.port,
        "user": server.user,
        "host-key": server.host_key,
        "identity": str(server.identity),
        "path": str(path),
    }
    return open_source(location_from_value(value | fields), QUICK)


@pytest.mark.root_parts
class TestSftpSource(RemoteSourceContract):
    RESUMES = True

    @pytest.fixture(autouse=True)
    def _server(self, sftp: SftpServer) -> None:
        self.server = sftp

    def make(self, tmp_path: Path, files: dict[str, bytes]) -> Source:
        root = tmp_path / f"archive-{len(files)}"
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        root.mkdir(exist_ok=True)
        return sftp_source(self.server, root)

    def through(self, port: int, tmp_path: Path) -> Source:
        self.make(tmp_path, self.FILES).close()
        return sftp_source(self.server, tmp_path / f"archive-{len(self.FILES)}", port)

    @pytest.fixture
    def peer_port(self) -> int:
        return self.server.port

    @pytest.fixture
    def large(self, remote: Source, tmp_path: Path) -> tuple[str, bytes]:
        (tmp_path / f"archive-{len(self.FILES)}" / "large.svs").write_bytes(LARGE)
        return "large.svs", LARGE

    def test_links_are_neither_listed_nor_opened_nor_walked_through(self, tmp_path: Path) -> None:
        root = tmp_path / "linked"
        (root / "inner").mkdir(parents=True)
        (root / "inner" / "plain").write_bytes(b"mine")
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "plain").write_bytes(b"secret")
        (root / "file-link").symlink_to(tmp_path / "outside" / "plain")
        (root / "folder-link").symlink_to(tmp_path / "outside")
        source = sftp_source(self.server, root)
        assert [item.path for item in source.items()] == ["inner/plain"]
        for path in ("file-link", "folder-link/plain"):
            with pytest.raises(SourceItemMissingError):
                source.open(path)
        shutil.rmtree(root / "inner")
        (root / "inner").symlink_to(tmp_path / "outside")
        with pytest.raises(SourceItemMissingError):
            source.open("inner/plain")
        source.close()

    def test_a_backslash_in_a_name_has_one_text_form_and_opens(self, tmp_path: Path) -> None:
        root = tmp_path / "names"
        root.mkdir()
        (root / "back\\slash").write_bytes(b"data")
        source = sftp_source(self.server, root)
        (item,) = source.items()
        with source.open(item.path) as handle:
            assert handle.read() == b"data"
        source.close()

    def test_a_name_that_is_not_utf8_is_said_not_skipped(self, tmp_path: Path) -> None:
        root = tmp_path / "names"
        root.mkdir()
        (root / os.fsdecode(b"caf\xe9")).write_bytes(b"data")
        source = sftp_source(self.server, root)
        with pytest.raises(SourceUnreadableError, match="UTF-8"):
            list(source.items())
        source.close()

    def test_a_file_that_changes_while_it_is_read_is_read_whole_in_one_version(
        self, remote: Source, line: CutLine, tmp_path: Path
    ) -> None:
        path = tmp_path / f"archive-{len(self.FILES)}" / "changing"
        path.write_bytes(b"1" * (8 << 20))
        os.utime(path, (1, 1))
        line.cut_after(3 << 20)
        real = LineBrokenError.__init__

        def replace(self: LineBrokenError, *args: Any, **kwargs: Any) -> None:
            path.write_bytes(b"2" * (8 << 20))
            real(self, *args, **kwargs)

        with mock.patch.object(LineBrokenError, "__init__", replace), remote.open("changing") as handle:
            assert handle.read() == b"2" * (8 << 20)
        assert line.cuts_due == 0

    def test_another_host_key_or_identity_is_said_at_once_and_never_tried_past(
        self, sftp: SftpServer, tmp_path: Path
    ) -> None:
        other_key = " ".join((sftp.identity.parent / "other.pub").read_text().split()[:2])
        with pytest.raises(SourceLoginError, match="pinned"):
            list(sftp_source(sftp, tmp_path, **{"host-key": other_key}).items())
        other = str(sftp.identity.parent / "other")
        with pytest.raises(SourceLoginError, match="refused our key"):
            list(sftp_source(sftp, tmp_path, identity=other).items())
        with pytest.raises(SourceCredentialError):
            list(sftp_source(sftp, tmp_path, identity=str(tmp_path / "absent")).items())


class _Fickle:
    """A carrier that answers from a script."""

    def __init__(self, *script: bytes | Exception, items: tuple[str, ...] = ()) -> None:
        self.script = list(script)
        self.listed = items
        self.fetched = 0

    def items(self) -> Iterator[Any]:
        from connectors.sources import SourceItem

        return (SourceItem(path, None) for path in self.listed)

    def fetch(self, path: str, partial: Partial) -> None:
        self.fetched += 1
        step = self.script.pop(0) if self.script else b"whole"
        partial.restart()
        if isinstance(step, Exception):
            raise step
        partial.write(step)

    def close(self) -> None: ...


def test_a_broken_item_is_not_mistaken_for_an_archive_that_is_away() -> None:
    limits = Limits(retrying=Retrying(2, 0.001, 0.002))
    with pytest.raises(SourceUnreadableError):
        RemoteSource(_Fickle(*[LineBrokenError("500", of_item=True)] * 2), limits).open("x")
    with pytest.raises(SourceUnreachableError):
        RemoteSource(_Fickle(*[LineBrokenError("away")] * 2), limits).open("x")


def test_waits_grow_with_jitter_up_to_a_limit_and_honour_what_the_server_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("connectors.sources.retrying.time.sleep", waits.append)
    script = [LineBrokenError("x", wait) for wait in (None, None, None, 7.0, 1e9)]
    with RemoteSource(_Fickle(*script), Limits(retrying=Retrying(6, 1.0, 4.0))).open("x") as handle:
        assert handle.read() == b"whole"
    bounds = [(0.5, 1), (1, 2), (2, 4), (9, 11), (62, 64)]
    assert all(low <= wait <= high for wait, (low, high) in zip(waits, bounds, strict=True))


def test_a_try_that_got_further_starts_the_count_again() -> None:
    heights = iter([0, 2 << 20, 4 << 20, 6 << 20, 8 << 20, 9 << 20])
    tries: list[int] = []

    def work() -> str:
        tries.append(1)
        if len(tries) < 5:
            raise LineBrokenError("cut")
        return "done"

    assert Retrying(2, 0.0, 0.0).run(work, lambda: next(heights)) == "done"


@pytest.mark.parametrize("listed", [("b", "a"), ("a", "a"), ("a/../b",), ("a//b",), ("/a",)])
def test_a_listing_out_of_order_or_with_names_that_lead_away_is_refused(listed: tuple[str, ...]) -> None:
    with pytest.raises(SourceUnreadableError):
        list(RemoteSource(_Fickle(items=listed)).items())


def test_more_items_or_bytes_than_allowed_are_refused() -> None:
    with pytest.raises(SourceTooLargeError):
        list(RemoteSource(_Fickle(items=("a", "b")), Limits(max_items=1)).items())
    with pytest.raises(SourceTooLargeError):
        RemoteSource(_Fickle(b"1234"), Limits(max_item_bytes=3)).open("a")


def test_the_spool_keeps_what_was_used_last_within_its_budget() -> None:
    carrier = _Fickle(*[b"x" * 10] * 10)
    source = RemoteSource(carrier, Limits(spool_bytes=25))
    for path in ("a", "b", "a", "c", "a", "b"):  # "c" pushes out "b", which comes again
        source.open(path).close()
    assert carrier.fetched == 4


def test_after_a_failed_fetch_the_next_who_waits_tries_for_itself() -> None:
    spool = Spool(1 << 20)
    began, may_end = threading.Event(), threading.Event()
    results: list[bytes | str] = []

    def failing() -> Partial:
        began.set()
        may_end.wait(10)
        raise SourceUnreadableError("first")

    def working() -> Partial:
        partial = Partial(100)
        partial.write(b"second")
        return partial

    def first() -> None:
        with pytest.raises(SourceUnreadableError):
            spool.open("x", failing)
        results.append("failed")

    def second() -> None:
        with spool.open("x", working) as handle:
            results.append(handle.read())

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    began.wait(10)
    threads[1].start()
    may_end.set()
    for thread in threads:
        thread.join(10)
    assert sorted(map(str, results)) == ["b'second'", "failed"]
