"""A database of another schema is refused with a sentence; only `broker init` and `serve` bring one up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from hdrs_hpc.broker.store import database, documents, schema
from hdrs_hpc.broker.store.database import Database, SchemaNewerError, SchemaOlderError


@pytest.fixture
def db(tmp_path: Path) -> Database:
    found = Database(tmp_path / "broker.db")
    found.migrate()
    found.close()
    return Database(found.path)


def set_version(db: Database, version: str) -> None:
    with db.engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (version,))


def test_the_version_that_openers_ask_for_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == schema.VERSION


def test_a_database_without_any_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaOlderError) as refused, Database(tmp_path / "broker.db").read():
        pass
    assert "broker serve" in refused.value.remedy


@pytest.mark.parametrize("how", ["read", "write"])
@pytest.mark.parametrize(("version", "error"), [("0001", SchemaOlderError), ("9999", SchemaNewerError)])
def test_a_database_of_another_schema_is_refused(
    db: Database, how: str, version: str, error: type[Exception]
) -> None:
    set_version(db, version)
    with pytest.raises(error), getattr(db, how)():
        pass


def test_a_newer_schema_is_never_migrated(db: Database) -> None:
    set_version(db, "9999")
    with pytest.raises(SchemaNewerError):
        db.migrate()


def test_a_database_of_this_schema_opens(db: Database) -> None:
    with db.read() as tx:
        assert documents.first_root_digest(tx) is None


def test_nothing_but_init_and_serve_migrates() -> None:
    code = Path(database.__file__).parents[2]
    callers = {
        path.relative_to(code).as_posix()
        for path in code.rglob("*.py")
        if ".migrate()" in path.read_text("utf-8")
    }
    assert callers == {"broker/setup.py", "broker/serve.py"}
