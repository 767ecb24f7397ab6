"""A destroyed key stays destroyed, whatever is killed, copied or put back."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hdrs_hpc.broker.keyd import master
from hdrs_hpc.broker.keyd.keystore import (
    FileKeystore,
    KeyDestroyedError,
    KeystoreFormatError,
    KeyUnknownError,
)
from hdrs_hpc.broker.keyd.master import MasterKeyExposedError, MasterKeyMismatchError
from hdrs_hpc.core.errors import ConflictError

ABOUT = {"dataset": "ct"}


class Killed(BaseException):
    """Stands for kill -9: nothing of ours handles it, nothing after it runs."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "keyd"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def store(folder: Path) -> Iterator[FileKeystore]:
    made = FileKeystore(folder)
    for project in ("lung", "heart"):
        with made.transaction() as db:
            db.execute(
                "INSERT INTO projects VALUES (?, NULL, 'd', 1, 0, '2030-01-01T00:00:00Z',"
                " '2030-01-01T00:00:00Z', '2030-01-01T00:00:00Z', 0, NULL)",
                (project,),
            )
            made.open_project(project)
    made.create("lung", "copy", "C1", ABOUT)
    made.create("lung", "copy", "C2", ABOUT)
    made.create("heart", "copy", "H1", ABOUT)
    yield made
    made.close()


def wrapped(folder: Path, holder: str) -> bytes:
    with sqlite3.connect(folder / "keys.db") as db:
        (found,) = db.execute("SELECT wrapped FROM keys WHERE holder = ?", (holder,)).fetchone()
    return bytes(found)


def bytes_on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


# --- what it gives


def test_the_same_key_is_made_once_and_comes_back_the_same(store: FileKeystore) -> None:
    first = store.key("lung", "copy", "C1")
    assert store.create("lung", "copy", "C1", ABOUT).id == store.record("lung", "copy", "C1").id
    assert store.key("lung", "copy", "C1") == first
    assert len({first, store.key("lung", "copy", "C2"), store.key("heart", "copy", "H1")}) == 3


def test_a_key_made_for_one_purpose_is_not_given_for_another(store: FileKeystore) -> None:
    with pytest.raises(ConflictError):
        store.create("lung", "copy", "C1", {"dataset": "he"})


def test_an_unknown_key_is_unknown_and_not_made_by_asking(store: FileKeystore) -> None:
    for place in (("lung", "copy", "C9"), ("lung", "output", "C1"), ("brain", "copy", "C1")):
        with pytest.raises(KeyUnknownError):
            store.key(*place)
    with pytest.raises(KeyUnknownError):
        store.create("brain", "copy", "B1", ABOUT)


def test_keys_outlive_a_restart(store: FileKeystore, folder: Path) -> None:
    before = store.key("lung", "copy", "C1"), store.signing_key("certificate")
    again = FileKeystore(folder)
    assert (again.key("lung", "copy", "C1"), again.signing_key("certificate")) == before


# --- destroying


def test_a_destroyed_key_is_refused_by_name_and_never_made_again(store: FileKeystore) -> None:
    assert [record.holder for record in store.destroy("lung", ("copy",), "C1")] == ["C1"]
    for attempt in (store.key, store.record):
        with pytest.raises(KeyDestroyedError):
            attempt("lung", "copy", "C1")
    with pytest.raises(KeyDestroyedError):
        store.create("lung", "copy", "C1", ABOUT)


def test_destroying_is_idempotent_and_tells_only_what_was_alive(store: FileKeystore) -> None:
    store.destroy("lung", ("copy",), "C1")
    first = store.destroyed("lung")
    assert store.destroy("lung", ("copy",), "C1") == []
    assert store.destroyed("lung") == first
    assert [record.holder for record in store.destroy_project("lung")] == ["C2"]
    assert store.destroy_project("lung") == []


def test_a_key_that_was_never_made_can_be_forbidden(store: FileKeystore) -> None:
    assert store.destroy("lung", ("output",), "A1") == []
    with pytest.raises(KeyDestroyedError):
        store.create("lung", "output", "A1", {})


def test_what_is_left_still_opens_after_a_destruction(store: FileKeystore, folder: Path) -> None:
    kept = [
        store.key("lung", "copy", "C2"),
        store.key("heart", "copy", "H1"),
        store.signing_key("checkpoint"),
    ]
    store.destroy("lung", ("copy",), "C1")
    for reader in (store, FileKeystore(folder)):
        assert [
            reader.key("lung", "copy", "C2"),
            reader.key("heart", "copy", "H1"),
            reader.signing_key("checkpoint"),
        ] == kept


def test_a_destroyed_project_gets_no_key_any_more(store: FileKeystore) -> None:
    store.destroy_project("lung")
    assert (store.live("lung"), store.holds_project_key("lung")) == ([], False)
    for holder in ("C1", "C3"):
        with pytest.raises(KeyDestroyedError):
            store.create("lung", "copy", holder, ABOUT)
    assert store.key("heart", "copy", "H1")


def test_no_wrap_master_or_project_key_of_a_destroyed_key_stays_on_disk(
    store: FileKeystore, folder: Path
) -> None:
    doomed, old_master = wrapped(folder, "C1"), (folder / "master.key").read_bytes()
    bystander = wrapped(folder, "C2")
    assert doomed in bytes_on_disk(folder)  # the scan can find what is there
    store.destroy("lung", ("copy",), "C1")
    left = bytes_on_disk(folder)
    for secret in (doomed, bystander, old_master):
        for part in (secret, secret[:16], secret[-16:]):
            assert part not in left
    assert not (folder / "keys.db-journal").exists()
    assert not (folder / "master.key.new").exists()


def test_the_old_master_is_overwritten_in_place_and_not_only_unlinked(
    store: FileKeystore, folder: Path, tmp_path: Path
) -> None:
    same_bytes = tmp_path / "same-bytes"
    os.link(folder / "master.key", same_bytes)  # another name for the very blocks on the disk
    old_master = same_bytes.read_bytes()
    store.destroy("lung", ("copy",), "C1")
    left = same_bytes.read_bytes()
    assert len(left) == 32
    assert left != old_master
    assert left != (folder / "master.key").read_bytes()


def test_answers_that_hold_a_destroyed_key_go_with_it_and_others_stay(
    store: FileKeystore, folder: Path
) -> None:
    sealed = {"A1": b"answer with C1 " * 9000, "A2": b"answer with C2 only " * 3}
    with store.transaction() as db:
        for attempt, copy in (("A1", "C1"), ("A2", "C2")):
            db.execute("INSERT INTO bindings VALUES (?, 'n1', x'', x'', ?)", (attempt, sealed[attempt]))
            db.execute("INSERT INTO uses VALUES (?, 'lung', 'copy', ?)", (attempt, copy))
    assert sealed["A1"][:64] in bytes_on_disk(folder)
    store.destroy("lung", ("copy",), "C1")
    assert sealed["A1"][:64] not in bytes_on_disk(folder)
    assert sealed["A2"] in bytes_on_disk(folder)


# --- copies that somebody kept


def test_an_old_copy_of_the_database_opens_nothing_with_the_new_master(
    store: FileKeystore, folder: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o700)
    shutil.copy(folder / "keys.db", kept / "keys.db")
    store.destroy("lung", ("copy",), "C1")
    shutil.copy(folder / "master.key", kept / "master.key")
    with pytest.raises(MasterKeyMismatchError):
        FileKeystore(kept)


def test_an_old_copy_with_its_name_of_the_master_changed_still_opens_nothing(
    store: FileKeystore, folder: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o700)
    shutil.copy(folder / "keys.db", kept / "keys.db")
    store.destroy("lung", ("copy",), "C1")
    shutil.copy(folder / "master.key", kept / "master.key")
    with sqlite3.connect(kept / "keys.db") as db:
        name = master.fingerprint_of((kept / "master.key").read_bytes())
        db.execute("UPDATE facts SET value = ? WHERE name = 'master'", (name,))
    forged = FileKeystore(kept)
    for holder in ("C1", "C2"):
        with pytest.raises(MasterKeyMismatchError):
            forged.key("lung", "copy", holder)


def test_a_wrap_moved_to_another_place_does_not_open(store: FileKeystore, folder: Path) -> None:
    with sqlite3.connect(folder / "keys.db") as db:
        db.execute(
            "UPDATE keys SET wrapped = (SELECT wrapped FROM keys WHERE holder = 'C1') WHERE holder = 'C2'"
        )
    with pytest.raises(MasterKeyMismatchError):
        store.key("lung", "copy", "C2")
    assert store.key("lung", "copy", "C1")


# --- the files


def test_every_file_is_for_this_account_only(store: FileKeystore, folder: Path) -> None:
    store.destroy("lung", ("copy",), "C1")
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("exposed", [".", "master.key"])
def test_a_master_key_that_others_may_read_is_not_used(
    store: FileKeystore, folder: Path, exposed: str
) -> None:
    (folder / exposed).chmod(0o755 if exposed == "." else 0o644)
    with pytest.raises(MasterKeyExposedError):
        FileKeystore(folder)


def test_a_keystore_of_another_version_is_not_touched(folder: Path) -> None:
    with sqlite3.connect(folder / "keys.db") as db:
        db.execute("PRAGMA user_version=99")
    before = (folder / "keys.db").read_bytes()
    with pytest.raises(KeystoreFormatError):
        FileKeystore(folder)
    assert (folder / "keys.db").read_bytes() == before


@pytest.mark.parametrize("half", [b"", b"half of a key"])
def test_a_first_start_cut_short_while_writing_the_master_begins_again(folder: Path, half: bytes) -> None:
    (folder / "master.key").touch(mode=0o600)
    (folder / "master.key").write_bytes(half)
    FileKeystore(folder).signing_key("checkpoint")
    assert len((folder / "master.key").read_bytes()) == 32


def test_a_lost_master_key_is_told_and_not_replaced(store: FileKeystore, folder: Path) -> None:
    (folder / "master.key").unlink()
    with pytest.raises(MasterKeyMismatchError):
        FileKeystore(folder)
    assert not (folder / "master.key").exists()


# --- crashes: whatever is cut off where, a reopened keystore is whole


def _cut(monkeypatch: pytest.MonkeyPatch, call: str, nth: int, error: BaseException) -> Callable[[], int]:
    """Make the ``nth`` call of one of the file operations fail; gives how often it was called."""
    target = Path if call in ("replace", "unlink") else os
    real = getattr(target, call)
    calls = 0

    def wrapper(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(target, call, wrapper)
    return lambda: calls


POINTS = [(call, nth) for call in ("write", "fsync", "replace", "open") for nth in (1, 2, 3, 4)]


@pytest.mark.parametrize(("call", "nth"), POINTS)
@pytest.mark.parametrize("how", [Killed, OSError])
def test_a_destruction_cut_off_at_any_file_operation_leaves_all_or_nothing(
    store: FileKeystore, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, nth: int, how: type
) -> None:
    doomed, kept = store.key("lung", "copy", "C1"), store.key("lung", "copy", "C2")
    with monkeypatch.context() as patch:
        called = _cut(patch, call, nth, how())
        try:
            store.destroy("lung", ("copy",), "C1")
        except (Killed, OSError):
            pass
        else:
            assert called() < nth
    again = FileKeystore(folder)
    assert again.key("lung", "copy", "C2") == kept
    dead = {gone.holder for gone in again.destroyed("lung")}
    if "C1" in dead:
        with pytest.raises(KeyDestroyedError):
            again.key("lung", "copy", "C1")
        assert not (folder / "master.key.new").exists()
    else:
        assert again.key("lung", "copy", "C1") == doomed
    again.destroy("lung", ("copy",), "C1")
    with pytest.raises(KeyDestroyedError):
        FileKeystore(folder).key("lung", "copy", "C1")
    assert FileKeystore(folder).key("lung", "copy", "C2") == kept


class _FailingCommit(sqlite3.Connection):
    """A connection whose next COMMIT fails: before it took effect (``lost``) or after."""

    fail: str | None = None

    def execute(self, sql: str, *args: object) -> sqlite3.Cursor:  # type: ignore[override]  # narrower on purpose
        if sql == "COMMIT" and self.fail:
            how, self.fail = self.fail, None
            if how == "after":
                super().execute(sql)
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *args)  # type: ignore[arg-type]  # passed on as it came


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_that_fails_leaves_the_running_keystore_true_to_its_file(
    store: FileKeystore, folder: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    store.close()
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=_FailingCommit))
    running = FileKeystore(folder)
    kept = running.key("lung", "copy", "C2")
    connection = running._db
    assert isinstance(connection, _FailingCommit)
    connection.fail = when
    with pytest.raises(sqlite3.OperationalError):
        running.destroy("lung", ("copy",), "C1")
    alive = sorted(record.holder for record in running.live("lung"))
    assert alive == (["C1", "C2"] if when == "before" else ["C2"])
    assert running.key("lung", "copy", "C2") == kept
    running.destroy("lung", ("copy",), "C1")  # and goes on working, without what it left open
    assert FileKeystore(folder).key("lung", "copy", "C2") == kept
    assert [record.holder for record in FileKeystore(folder).live("lung")] == ["C2"]


def test_a_destruction_inside_a_larger_transaction_keeps_the_old_master_until_its_commit(
    store: FileKeystore, folder: Path
) -> None:
    kept = store.key("lung", "copy", "C2")
    with pytest.raises(Killed), store.transaction():
        store.destroy("lung", ("copy",), "C1")
        raise Killed
    for reader in (store, FileKeystore(folder)):
        assert reader.key("lung", "copy", "C2") == kept
        assert reader.key("lung", "copy", "C1")


def test_a_power_cut_that_brings_the_journal_back_is_excluded_by_extra_syncing(store: FileKeystore) -> None:
    # Without EXTRA the unlinked journal may reappear and undo a rotation whose old master is gone already.
    (level,) = store._db.execute("PRAGMA synchronous").fetchone()
    (erase,) = store._db.execute("PRAGMA secure_delete").fetchone()
    assert (level, erase) == (3, 1)
