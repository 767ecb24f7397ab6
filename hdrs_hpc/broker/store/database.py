"""Opening the database and its transactions.

SQLite in WAL mode with full fsync: web and controller write from two processes, so every writing transaction
begins IMMEDIATE and waits for its turn instead of failing half-way through.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.exc import OperationalError

from hdrs_hpc.broker.store import schema
from hdrs_hpc.core.errors import ConflictError, SiteError

BUSY_TIMEOUT_MS = 30_000
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_SNAPSHOT, sqlite3.SQLITE_LOCKED)


class DatabaseBusyError(SiteError):
    code = "database-busy"
    meaning = "The broker's database did not become free in time."
    remedy = "Try again; if it stays so, look for a process that holds the database open."


class SchemaOlderError(ConflictError):
    code = "database-schema-older"
    meaning = "The broker's database was made by an older version of hdrs-hpc and was not brought up to date."
    remedy = "Start the broker with this version, `hdrs-hpc broker serve`: it brings the database up to date first."


class SchemaNewerError(ConflictError):
    code = "database-schema-newer"
    meaning = "The broker's database was brought up to date by a newer version of hdrs-hpc."
    remedy = "Use that version; this one would misread the database, and changed nothing."


class Database:
    """One broker's database file.

    Its schema is brought up to date at one place, before any process of the broker starts; whoever opens it
    otherwise is refused at its first transaction where the schema is another one than this version's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._schema_is_ours = False
        self.engine: Engine = create_engine(
            f"sqlite:///{path}", hide_parameters=True, connect_args={"timeout": 30}
        )
        event.listen(self.engine, "connect", _configure)
        event.listen(self.engine, "begin", _begin_deferred)

    def migrate(self) -> None:
        """Bring the schema up to date (Alembic): at `broker init`, and at `broker serve` before its processes start."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["engine"] = self.engine
        with _busy(), self.engine.connect() as connection:
            if _version(connection) > schema.VERSION:
                raise SchemaNewerError()
        command.upgrade(config, "head")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One writing transaction: all of it happens, or nothing."""
        with _busy(), self.engine.connect() as connection:
            connection.info["immediate"] = True
            with connection.begin():
                self._check_schema(connection)
                yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view."""
        with _busy(), self.engine.connect() as connection, connection.begin():
            self._check_schema(connection)
            yield connection

    def _check_schema(self, connection: Connection) -> None:
        if self._schema_is_ours:
            return
        found = _version(connection)
        if found < schema.VERSION:
            raise SchemaOlderError(f"its schema is {found or 'none'}, this version's is {schema.VERSION}")
        if found > schema.VERSION:
            raise SchemaNewerError(f"its schema is {found}, this version's is {schema.VERSION}")
        self._schema_is_ours = True

    def close(self) -> None:
        self.engine.dispose()


def _version(connection: Connection) -> str:
    """Number of the newest migration that ran on it, as text; empty for a database without any."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none() or ""


@contextmanager
def _busy() -> Iterator[None]:
    """SQLite's "locked" as an error that asks for another try; nothing else is."""
    try:
        yield
    except OperationalError as error:
        if getattr(error.orig, "sqlite_errorcode", None) not in _LOCKED:
            raise
        raise DatabaseBusyError() from None


def _configure(raw: Any, _record: Any) -> None:
    raw.isolation_level = None  # SQLAlchemy's own BEGIN below, not pysqlite's guess
    cursor = raw.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_deferred(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.info.pop("immediate", False) else "BEGIN")
