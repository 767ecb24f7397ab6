"""The file keystore: a key-encryption key per project, wrapped keys, and what was destroyed.

Kept in one SQLite file beside the master key, outside the broker's database and outside every backup.  Every
wrap is AES-256-GCM with (project, role, holder) as associated data, so a row can't be moved to another place.
Destroying a key removes its wrap and every answer that holds it sealed, replaces the project's key-encryption
key, re-wraps what is left, and replaces the master key: an old copy of the database opens nothing without the
old master, which is overwritten and unlinked.

What it can't do.  Somebody who kept an old copy of the database *and* of the master key of that time opens what
was in it.  On flash and copy-on-write media overwriting proves nothing.  Keys that were used leave copies in this
process's memory until Python reuses it, and in swap if there is any.  The certificate says so.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hdrs_hpc.broker.keyd.master import MasterFile, MasterKeyMismatchError, fingerprint_of, sync_folder
from hdrs_hpc.broker.keyd.messages import DestroyedKey
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import ConflictError, NotAllowedError

KEY_BYTES = 32
PROJECT_KEY = "project"
"""Role of the key-encryption key in the list of what was destroyed."""
NEVER_MADE = "K-none-"
"""How the id of a tombstone begins that was put up for a key that never was."""
MASTER_SINCE = "master-since"
"""Name of the fact that tells when the master key was last replaced."""
FORMAT = 2
"""``PRAGMA user_version`` of the file."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS projects (
  project TEXT PRIMARY KEY, kek BLOB, grant_digest TEXT NOT NULL, grant_version INTEGER NOT NULL,
  grant_entry INTEGER NOT NULL, copies_until TEXT NOT NULL, outputs_until TEXT NOT NULL,
  destroy_by TEXT NOT NULL, grace_s INTEGER NOT NULL, frozen TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS freezes (
  document TEXT PRIMARY KEY, project TEXT NOT NULL, action TEXT NOT NULL, lifted_by TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (
  id TEXT PRIMARY KEY, project TEXT NOT NULL, role TEXT NOT NULL, holder TEXT NOT NULL, about TEXT NOT NULL,
  wrapped BLOB NOT NULL, made_at TEXT NOT NULL, UNIQUE (project, role, holder)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS destroyed (
  id TEXT PRIMARY KEY, project TEXT NOT NULL, role TEXT NOT NULL, holder TEXT NOT NULL, at TEXT NOT NULL,
  UNIQUE (project, role, holder)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS handovers (
  attempt TEXT PRIMARY KEY, job TEXT NOT NULL, spec TEXT NOT NULL, request BLOB NOT NULL,
  not_after TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bindings (
  attempt TEXT NOT NULL, node TEXT NOT NULL, hello BLOB NOT NULL, answer BLOB, sealed BLOB,
  PRIMARY KEY (attempt, node)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uses (
  attempt TEXT NOT NULL, project TEXT NOT NULL, role TEXT NOT NULL, holder TEXT NOT NULL,
  PRIMARY KEY (attempt, role, holder)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS signing (kind TEXT PRIMARY KEY, wrapped BLOB NOT NULL) WITHOUT ROWID;
"""


class KeyDestroyedError(NotAllowedError):
    code = "key-destroyed"
    meaning = "That key was destroyed, and a destroyed key is never made again."
    remedy = "New work needs a new copy or a new job."


class KeyUnknownError(NotAllowedError):
    code = "key-unknown"
    meaning = "keyd holds no such key."
    remedy = "Check that the copy or attempt belongs to the project."


class KeystoreFormatError(NotAllowedError):
    code = "keystore-format"
    meaning = "The keystore was written by another version of this program."
    remedy = "Run the version that wrote it."


@dataclass(frozen=True)
class KeyRecord:
    """What may be told of a key.  ``id`` is public, the key itself stays inside."""

    id: str
    project: str
    role: str
    holder: str
    about: dict[str, Any]


class FileKeystore:
    """Keys on an ordinary disk.  Not thread-safe: keyd holds one lock around it."""

    CLASS: ClassVar[str] = "file"
    STATEMENT: ClassVar[str] = (
        "unlinked and overwritten, not provably erased on this medium; the master key was replaced"
    )

    def __init__(self, folder: Path) -> None:
        self._file = MasterFile(folder)
        self._file.check_private()
        path = folder / "keys.db"
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        # EXTRA syncs the folder after the journal is unlinked.  With less, a power cut can bring the journal
        # back and undo a rotation whose old master is overwritten already: every key would be lost.
        for pragma in ("journal_mode=DELETE", "synchronous=EXTRA", "secure_delete=ON", "temp_store=MEMORY"):
            self._db.execute(f"PRAGMA {pragma}")
        self._inside = False
        self._make_tables()
        sync_folder(folder)
        self._master = self._find_master()

    def close(self) -> None:
        self._db.close()

    # --- facts and rows that keyd's rules keep here, since they must not live in the broker's database

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; nests by joining the outer one."""
        if self._inside:
            yield self._db
            return
        self._db.execute("BEGIN IMMEDIATE")
        self._inside = True
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            # A COMMIT that failed leaves the transaction open, or has undone it: either way nothing happened,
            # and a rotation inside of it neither.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._master = self._find_master()
            raise
        finally:
            self._inside = False
        self._file.settle(fingerprint_of(self._master))

    def fact(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return row["value"] if row else None

    def remember(self, name: str, value: str) -> None:
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    # --- keys

    def open_project(self, project: str) -> None:
        """Make the project's key-encryption key if it has none yet."""
        with self.transaction() as db:
            row = db.execute("SELECT kek FROM projects WHERE project = ?", (project,)).fetchone()
            if row is not None and row["kek"] is None:
                self._refuse_destroyed(project, PROJECT_KEY, "")
                kek = self._wrap(self._master, secrets.token_bytes(KEY_BYTES), project, PROJECT_KEY, "")
                db.execute("UPDATE projects SET kek = ? WHERE project = ?", (kek, project))

    def create(self, project: str, role: str, holder: str, about: dict[str, Any]) -> KeyRecord:
        """Make a key, or give the record of the one made before; raises KeyDestroyedError, ConflictError."""
        with self.transaction() as db:
            self._refuse_destroyed(project, role, holder)
            known = self._row(project, role, holder)
            if known is not None:
                if json.loads(known["about"]) != about:
                    raise ConflictError("the key exists for another purpose")
                return _record(known)
            wrapped = self._wrap(self._kek(project), secrets.token_bytes(KEY_BYTES), project, role, holder)
            db.execute(
                "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    f"K-{secrets.token_hex(8)}",
                    project,
                    role,
                    holder,
                    json.dumps(about, sort_keys=True),
                    wrapped,
                    clock.to_text(clock.now()),
                ),
            )
            return self.record(project, role, holder)

    def record(self, project: str, role: str, holder: str) -> KeyRecord:
        row = self._row(project, role, holder)
        if row is None:
            self._refuse_destroyed(project, role, holder)
            raise KeyUnknownError()
        return _record(row)

    def amend(self, project: str, role: str, holder: str, about: dict[str, Any]) -> None:
        """Replace what is noted beside a key, e.g. the manifest digest once its copy is sealed."""
        with self.transaction() as db:
            self.record(project, role, holder)
            db.execute(
                "UPDATE keys SET about = ? WHERE project = ? AND role = ? AND holder = ?",
                (json.dumps(about, sort_keys=True), project, role, holder),
            )

    def key(self, project: str, role: str, holder: str) -> bytes:
        """The 32 bytes themselves.  Whether the asker may have them was decided before."""
        row = self._row(project, role, holder)
        if row is None:
            self._refuse_destroyed(project, role, holder)
            raise KeyUnknownError()
        return self._unwrap(self._kek(project), row["wrapped"], project, role, holder)

    def every_key(self) -> Iterator[bytes]:
        """Every data key and key-encryption key of every project, for trying what opens with none of them."""
        for row in self._db.execute("SELECT project FROM projects WHERE kek IS NOT NULL").fetchall():
            kek = self._kek(row["project"])
            yield kek
            for record in self.live(row["project"]):
                yield self.key(record.project, record.role, record.holder)

    def live(self, project: str) -> list[KeyRecord]:
        rows = self._db.execute("SELECT * FROM keys WHERE project = ? ORDER BY id", (project,))
        return [_record(row) for row in rows]

    def destroyed(self, project: str) -> tuple[DestroyedKey, ...]:
        rows = self._db.execute(
            "SELECT id, role, holder, at FROM destroyed WHERE project = ? ORDER BY at, id", (project,)
        )
        return tuple(DestroyedKey(*row) for row in rows)

    def holds_project_key(self, project: str) -> bool:
        row = self._db.execute("SELECT kek FROM projects WHERE project = ?", (project,)).fetchone()
        return row is not None and row["kek"] is not None

    def destroy(self, project: str, roles: tuple[str, ...], holder: str | None = None) -> list[KeyRecord]:
        """Destroy the project's keys of these roles (and of one holder); gives those that were alive.

        Idempotent.  The tombstone of a named holder is written even if there was no key: it can't be made later.
        """
        with self.transaction() as db:
            gone = [
                record
                for record in self.live(project)
                if record.role in roles and (holder is None or record.holder == holder)
            ]
            now = clock.to_text(clock.now())
            for record in gone:
                db.execute("DELETE FROM keys WHERE id = ?", (record.id,))
                _forget_answers(db, record)
                _bury(db, record.id, project, record.role, record.holder, now)
            if holder is not None:
                for role in roles:
                    _bury(db, f"{NEVER_MADE}{secrets.token_hex(8)}", project, role, holder, now)
            if gone:
                self._rotate(project)
        return gone

    def destroy_project(self, project: str) -> list[KeyRecord]:
        """Destroy every key of the project and its key-encryption key.  Idempotent."""
        with self.transaction() as db:
            gone = self.live(project)
            now = clock.to_text(clock.now())
            for record in gone:
                _forget_answers(db, record)
                _bury(db, record.id, project, record.role, record.holder, now)
            db.execute("DELETE FROM keys WHERE project = ?", (project,))
            if self.holds_project_key(project):
                db.execute("UPDATE projects SET kek = NULL WHERE project = ?", (project,))
                _bury(db, f"K-{secrets.token_hex(8)}", project, PROJECT_KEY, "", now)
                self._rotate(None)
        return gone

    # --- the broker's signing keys

    def signing_key(self, kind: str) -> bytes:
        """The 32-byte Ed25519 seed that signs documents of ``kind``; made on first use."""
        with self.transaction() as db:
            row = db.execute("SELECT wrapped FROM signing WHERE kind = ?", (kind,)).fetchone()
            if row is not None:
                return self._unwrap(self._master, row["wrapped"], "", "signing", kind)
            seed = secrets.token_bytes(KEY_BYTES)
            db.execute(
                "INSERT INTO signing VALUES (?, ?)",
                (kind, self._wrap(self._master, seed, "", "signing", kind)),
            )
            return seed

    # --- inside

    def _row(self, project: str, role: str, holder: str) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self._db.execute(
            "SELECT * FROM keys WHERE project = ? AND role = ? AND holder = ?", (project, role, holder)
        ).fetchone()
        return found

    def _refuse_destroyed(self, project: str, role: str, holder: str) -> None:
        row = self._db.execute(
            "SELECT 1 FROM destroyed WHERE project = ? AND role = ? AND holder = ?", (project, role, holder)
        ).fetchone()
        if row is not None:
            raise KeyDestroyedError()

    def _kek(self, project: str) -> bytes:
        row = self._db.execute("SELECT kek FROM projects WHERE project = ?", (project,)).fetchone()
        if row is None or row["kek"] is None:
            self._refuse_destroyed(project, PROJECT_KEY, "")
            raise KeyUnknownError("keyd knows no such project")
        return self._unwrap(self._master, row["kek"], project, PROJECT_KEY, "")

    def _rotate(self, project: str | None) -> None:
        """Inside a transaction: a new master for all, and a new key-encryption key for ``project``."""
        new_master = secrets.token_bytes(KEY_BYTES)
        db = self._db
        for row in db.execute("SELECT project, kek FROM projects WHERE kek IS NOT NULL").fetchall():
            name = row["project"]
            kek = self._unwrap(self._master, row["kek"], name, PROJECT_KEY, "")
            if name == project:
                fresh = secrets.token_bytes(KEY_BYTES)
                for key in db.execute("SELECT * FROM keys WHERE project = ?", (name,)).fetchall():
                    place = (name, key["role"], key["holder"])
                    wrapped = self._wrap(fresh, self._unwrap(kek, key["wrapped"], *place), *place)
                    db.execute("UPDATE keys SET wrapped = ? WHERE id = ?", (wrapped, key["id"]))
                kek = fresh
            db.execute(
                "UPDATE projects SET kek = ? WHERE project = ?",
                (self._wrap(new_master, kek, name, PROJECT_KEY, ""), name),
            )
        for row in db.execute("SELECT kind, wrapped FROM signing").fetchall():
            seed = self._unwrap(self._master, row["wrapped"], "", "signing", row["kind"])
            wrapped = self._wrap(new_master, seed, "", "signing", row["kind"])
            db.execute("UPDATE signing SET wrapped = ? WHERE kind = ?", (wrapped, row["kind"]))
        # The file comes first and the database's COMMIT decides which of the two masters counts.
        self._file.propose(new_master)
        db.execute("INSERT OR REPLACE INTO facts VALUES ('master', ?)", (fingerprint_of(new_master),))
        db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (MASTER_SINCE, clock.to_text(clock.now())))
        self._master = new_master

    def _make_tables(self) -> None:
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found not in (0, FORMAT):
            raise KeystoreFormatError(f"format {found} where this version writes {FORMAT}")
        self._db.executescript(_SCHEMA)
        self._db.execute(f"PRAGMA user_version={FORMAT}")

    def _find_master(self) -> bytes:
        """The master key that the database names; finishes a rotation that a crash interrupted."""
        name = self.fact("master")
        if name is None:
            master = self._file.first()  # nothing is wrapped yet
            self._db.execute("INSERT INTO facts VALUES ('master', ?)", (fingerprint_of(master),))
            return master
        master = self._file.named(name)
        self._file.settle(name)
        return master

    def _wrap(self, wrapping: bytes, key: bytes, project: str, role: str, holder: str) -> bytes:
        nonce = secrets.token_bytes(12)
        return nonce + AESGCM(wrapping).encrypt(nonce, key, _place(project, role, holder))

    def _unwrap(self, wrapping: bytes, wrapped: bytes, project: str, role: str, holder: str) -> bytes:
        try:
            return AESGCM(wrapping).decrypt(wrapped[:12], wrapped[12:], _place(project, role, holder))
        except InvalidTag:
            raise MasterKeyMismatchError("a wrapped key does not open in its place") from None


def _record(row: sqlite3.Row) -> KeyRecord:
    return KeyRecord(row["id"], row["project"], row["role"], row["holder"], json.loads(row["about"]))


def _forget_answers(db: sqlite3.Connection, record: KeyRecord) -> None:
    """Answers of a hand-over hold the key too, sealed to a node: they go with it."""
    db.execute(
        "UPDATE bindings SET answer = NULL, sealed = NULL WHERE attempt IN"
        " (SELECT attempt FROM uses WHERE project = ? AND role = ? AND holder = ?)",
        (record.project, record.role, record.holder),
    )


def _bury(db: sqlite3.Connection, key: str, project: str, role: str, holder: str, now: str) -> None:
    db.execute("INSERT OR IGNORE INTO destroyed VALUES (?, ?, ?, ?, ?)", (key, project, role, holder, now))


def _place(project: str, role: str, holder: str) -> bytes:
    return b"".join(len(part).to_bytes(2) + part for part in (x.encode() for x in (project, role, holder)))
