"""Uploads in pieces: what survives, what is refused, and whose a file is."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.broker.filing import uploads
from hdrs_hpc.broker.store import uploads as rows
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import HdrsError
from tests.support.desk import PROJECT, Desk
from tests.support.uploading import bring

FILE = bytes(range(256)) * 40
DIGEST = f"sha256:{hashlib.sha256(FILE).hexdigest()}"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path).begin()
    yield made
    made.db.close()


def begin(desk: Desk, digest: str = DIGEST, size: int = len(FILE), person: str = "rae") -> uploads.Progress:
    return uploads.begin(desk.db, desk.home, person, PROJECT, digest, size)


def add(desk: Desk, upload: str | None, offset: int, piece: bytes, person: str = "rae") -> uploads.Progress:
    assert upload is not None
    return uploads.add(desk.db, desk.home, person, upload, offset, piece)


def code_of(call: Any) -> str:
    with pytest.raises(HdrsError) as refused:
        call()
    return refused.value.code


def held(desk: Desk, digest: str = DIGEST, project: str = PROJECT) -> int | None:
    with desk.db.read() as tx:
        return rows.held(tx, project, digest)


def files(desk: Desk) -> list[str]:
    return sorted(
        path.name for folder in ("uploads", "files") for path in (desk.home.root / folder).iterdir()
    )


def test_a_file_is_complete_once_size_and_digest_are_right(desk: Desk) -> None:
    begun = begin(desk)
    for offset in range(0, len(FILE), 1000):
        assert held(desk) is None
        come = add(desk, begun.upload, offset, FILE[offset : offset + 1000])
    assert (come.upload, come.offset, held(desk)) == (None, len(FILE), len(FILE))
    assert desk.home.file(DIGEST).read_bytes() == FILE
    assert files(desk) == [DIGEST.removeprefix("sha256:")]


def test_an_upload_that_broke_off_goes_on_where_it_stopped(desk: Desk) -> None:
    begun = begin(desk)
    add(desk, begun.upload, 0, FILE[:4000])
    again = begin(desk)
    assert (again.upload, again.offset) == (begun.upload, 4000)
    assert add(desk, again.upload, 4000, FILE[4000:]).upload is None


def test_a_piece_that_is_sent_again_changes_nothing(desk: Desk) -> None:
    begun = begin(desk)
    add(desk, begun.upload, 0, FILE[:4000])
    assert code_of(lambda: add(desk, begun.upload, 0, FILE[:4000])) == "upload-offset"
    assert code_of(lambda: add(desk, begun.upload, 5000, FILE[5000:])) == "upload-offset"
    assert add(desk, begun.upload, 4000, FILE[4000:]).upload is None
    assert desk.home.file(DIGEST).read_bytes() == FILE


def test_other_bytes_than_the_digest_says_are_thrown_away(desk: Desk) -> None:
    begun = begin(desk)
    assert code_of(lambda: add(desk, begun.upload, 0, bytes(len(FILE)))) == "upload-digest-mismatch"
    assert (held(desk), files(desk)) == (None, [])
    assert code_of(lambda: add(desk, begun.upload, 0, FILE)) == "upload-unknown"
    assert files(desk) == []


def test_more_bytes_than_were_said_are_refused(desk: Desk) -> None:
    begun = begin(desk)
    assert code_of(lambda: add(desk, begun.upload, 0, FILE + b"x")) == "upload-too-long"
    assert add(desk, begun.upload, 0, FILE).upload is None


def test_another_persons_upload_is_nobodys(desk: Desk) -> None:
    begun = begin(desk)
    assert code_of(lambda: add(desk, begun.upload, 0, FILE, person="sam")) == "upload-unknown"
    assert begun.upload is not None
    upload = begun.upload
    assert code_of(lambda: uploads.progress(desk.db, desk.home, "sam", upload)) == "upload-unknown"


def test_who_does_not_research_in_a_project_uploads_nothing_for_it(desk: Desk) -> None:
    assert code_of(lambda: begin(desk, person="ada")) == "not-found"


def test_knowing_the_digest_of_another_projects_file_gives_nothing(desk: Desk) -> None:
    bring(desk.db, desk.home, PROJECT, "rae", FILE)
    grant = desk.grant(project="other-fm", people={"lead": "sam", "researchers": ["sam"]})
    desk.file("grant", grant, "ada", "bob")
    begun = uploads.begin(desk.db, desk.home, "sam", "other-fm", DIGEST, len(FILE))
    assert (begun.upload is None, begun.offset, held(desk, project="other-fm")) == (False, 0, None)
    add(desk, begun.upload, 0, FILE, person="sam")
    assert held(desk, project="other-fm") == len(FILE)
    assert files(desk) == [DIGEST.removeprefix("sha256:")]


def test_only_one_writer_of_an_upload_at_a_time(desk: Desk) -> None:
    begun = begin(desk)
    assert begun.upload is not None
    with uploads._locked(desk.home.upload_part(begun.upload)):
        assert code_of(lambda: add(desk, begun.upload, 0, FILE)) == "upload-busy"
    assert add(desk, begun.upload, 0, FILE).upload is None


def test_many_writers_of_one_upload_leave_the_right_file(desk: Desk) -> None:
    begun = begin(desk)
    done: list[bool] = []

    def write() -> None:
        while held(desk) is None:
            try:
                come = begin(desk).offset
                add(desk, begun.upload, come, FILE[come : come + 500])
            except HdrsError:
                continue
        done.append(True)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(done), desk.home.file(DIGEST).read_bytes()) == (4, FILE)


def test_a_process_that_died_before_it_wrote_down_that_a_file_is_complete(desk: Desk) -> None:
    begun = begin(desk)
    assert begun.upload is not None
    desk.home.upload_part(begun.upload).write_bytes(FILE)
    os.link(desk.home.upload_part(begun.upload), desk.home.file(DIGEST))
    again = begin(desk)
    assert (again.upload, again.offset) == (begun.upload, len(FILE))
    assert add(desk, again.upload, len(FILE), b"").upload is None
    assert held(desk) == len(FILE)


def test_a_full_disk_keeps_what_came_before(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = begin(desk)
    add(desk, begun.upload, 0, FILE[:4000])
    write = os.pwrite

    def full(file: int, data: Any, offset: int) -> int:
        if offset >= 4500:
            raise OSError(errno.ENOSPC, "full")
        return write(file, data[:500], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        assert code_of(lambda: add(desk, begun.upload, 4000, FILE[4000:])) == "upload-disk-full"
    assert begin(desk).offset == 4000
    assert add(desk, begun.upload, 4000, FILE[4000:]).upload is None


def test_an_upload_that_would_fill_the_disk_is_not_begun(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = (1 << 30) + len(FILE) - 1

    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda _place: Usage)
    assert code_of(lambda: begin(desk)) == "upload-disk-full"


@pytest.mark.parametrize(
    ("size", "sentence"), [((64 << 30) + 1, "one file"), (20 << 30, "one person"), (12 << 30, "all together")]
)
def test_quotas_count_what_uploads_said_and_not_what_came(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, size: int, sentence: str
) -> None:
    class Usage:
        free = 1 << 50

    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda _place: Usage)
    begin(desk, f"sha256:{'1' * 64}", 20 << 30)
    with pytest.raises(uploads.UploadQuotaError, match=sentence):
        uploads.begin(desk.db, desk.home, "rae", PROJECT, f"sha256:{'2' * 64}", size, 30 << 30)


def test_one_person_has_so_many_uploads_at_a_time(desk: Desk) -> None:
    for number in range(16):
        begin(desk, f"sha256:{number:064x}", 10)
    assert code_of(lambda: begin(desk, f"sha256:{99:064x}", 10)) == "upload-quota"


def test_uploads_run_out_after_a_day_and_files_after_thirty(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(desk.db, desk.home, PROJECT, "rae", b"unused")
    add(desk, begin(desk).upload, 0, FILE[:100])
    now = clock.now()
    for days, left in ((0.9, 2), (1.1, 1), (29.0, 1), (31.0, 0)):
        monkeypatch.setattr(uploads.clock, "now", lambda days=days: now + timedelta(days=days))
        with desk.db.write() as tx:
            uploads._sweep(tx, desk.home)
        assert len(files(desk)) == left, days


def test_what_a_living_job_needs_does_not_run_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = bring(desk.db, desk.home, PROJECT, "rae", FILE)
    job = desk.file("job-spec", desk.spec(), "rae").job
    assert job is not None
    with desk.db.write() as tx:
        rows.note_needed(tx, job, PROJECT, [digest], clock.now())
    later = clock.now() + timedelta(days=31)
    monkeypatch.setattr(uploads.clock, "now", lambda: later)
    with desk.db.write() as tx:
        uploads._sweep(tx, desk.home)
    assert held(desk) == len(FILE)
