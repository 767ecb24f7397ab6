"""States move once, with their entry, or not at all; the log grows with what it tells and never otherwise."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select
from sqlalchemy.exc import OperationalError

from hdrs_hpc.audit import merkle
from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.audit.vocabulary import EntryMalformedError
from hdrs_hpc.broker import states
from hdrs_hpc.broker.controller import loop as controller
from hdrs_hpc.broker.store import jobs, log, projects, transition
from hdrs_hpc.broker.store.database import Database, DatabaseBusyError
from hdrs_hpc.broker.store.schema import metadata
from hdrs_hpc.broker.store.schema import projects as table
from hdrs_hpc.broker.store.transition import StateMovedError
from hdrs_hpc.core.errors import InternalError
from tests.support.desk import PROJECT, Desk

REPO = Path(__file__).resolve().parents[4]
SUBJECT = {"project": PROJECT}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "home").begin()


def state(desk: Desk) -> str:
    with desk.db.read() as tx:
        return projects.get(tx, PROJECT).state


# --- compare and swap


def test_a_move_writes_the_state_and_one_entry(desk: Desk) -> None:
    before = len(desk.entries())
    with desk.db.write() as tx:
        transition.move(tx, "project", SUBJECT, "APPROVED", "ACTIVE")
    (entry,) = desk.entries()[before:]
    assert state(desk) == "ACTIVE"
    assert (entry.event, dict(entry.subject)) == ("project-moved", SUBJECT)
    assert dict(entry.detail) == {"from": "APPROVED", "to": "ACTIVE"}


def test_a_state_that_somebody_else_moved_is_left_alone(desk: Desk) -> None:
    with desk.db.write() as tx:
        transition.move(tx, "project", SUBJECT, "APPROVED", "ACTIVE")
    before = len(desk.entries())
    with pytest.raises(StateMovedError), desk.db.write() as tx:
        transition.move(tx, "project", SUBJECT, "APPROVED", "CLOSING", reason="ended")
    assert (state(desk), len(desk.entries())) == ("ACTIVE", before)


def test_a_move_that_the_table_does_not_have_is_our_bug(desk: Desk) -> None:
    for old, new in (("APPROVED", "CLOSED"), ("ACTIVE", "APPROVED"), ("CLOSED", "ACTIVE")):
        with pytest.raises(InternalError), desk.db.write() as tx:
            transition.move(tx, "project", SUBJECT, old, new)
    assert state(desk) == "APPROVED"


def test_of_many_threads_one_moves(desk: Desk) -> None:
    outcomes: list[str] = []
    barrier = threading.Barrier(8)

    def move() -> None:
        barrier.wait()
        try:
            with desk.db.write() as tx:
                transition.move(tx, "project", SUBJECT, "APPROVED", "ACTIVE")
        except StateMovedError:
            outcomes.append("moved already")
        else:
            outcomes.append("moved")

    threads = [threading.Thread(target=move) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["moved"] + ["moved already"] * 7
    assert sum(entry.event == "project-moved" for entry in desk.entries()) == 1


WRITER = """
import sys
from pathlib import Path
from hdrs_hpc.broker.store import log, transition
from hdrs_hpc.broker.store.database import Database
db = Database(Path(sys.argv[1]))
print("ready", flush=True); sys.stdin.readline()
for number in range(int(sys.argv[2])):
    with db.write() as tx:
        log.append(tx, "login-accepted", {"person": sys.argv[3]}, actor=sys.argv[3])
won = True
try:
    with db.write() as tx:
        transition.move(tx, "project", {"project": sys.argv[4]}, "APPROVED", "ACTIVE")
except transition.StateMovedError:
    won = False
print("won" if won else "lost")
"""


def test_processes_that_write_at_once_lose_nothing_and_move_once(desk: Desk) -> None:
    before = len(desk.entries())
    people = ["ada", "bob", "cy"]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(desk.home.database), "40", person, PROJECT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for person in people
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    told = [writer.communicate("go\n", timeout=120)[0].strip() for writer in writers]
    assert sorted(told) == ["lost", "lost", "won"]
    added = desk.entries()[before:]
    assert [entry.seq for entry in desk.entries()] == list(range(before + 3 * 40 + 1))
    for person in people:
        assert sum(entry.actor == person for entry in added) == 40
    with desk.db.read() as tx:
        raw = log.entries(tx)
        assert log.size(tx) == len(raw)
        for size in range(len(raw) + 1):
            assert log.root(tx, size) == merkle.root_hash(map(merkle.leaf_hash, raw[:size]))


# --- the log


def test_what_fails_after_its_entry_takes_the_entry_along(desk: Desk) -> None:
    before = desk.entries()
    with pytest.raises(ZeroDivisionError), desk.db.write() as tx:
        transition.move(tx, "project", SUBJECT, "APPROVED", "ACTIVE")
        1 / 0  # the process dies, or the step fails
    assert (state(desk), desk.entries()) == ("APPROVED", before)


def test_an_entry_that_the_table_of_events_does_not_allow_undoes_the_move(desk: Desk) -> None:
    with pytest.raises(EntryMalformedError), desk.db.write() as tx:
        transition.move(tx, "project", SUBJECT, "APPROVED", "ACTIVE", reason="Not a code: free text")
    assert state(desk) == "APPROVED"


def test_the_log_has_no_gap_and_no_second_entry_of_a_number(desk: Desk) -> None:
    with pytest.raises(Exception, match="UNIQUE"), desk.db.write() as tx:
        tx.execute(
            insert(metadata.tables["log"]).values(
                seq=0, event="x", subject="{}", entry=b"forged", leaf=bytes(32)
            )
        )
    assert [entry.seq for entry in desk.entries()] == list(range(len(desk.entries())))


def test_something_is_said_once(desk: Desk) -> None:
    for _ in range(3):
        with desk.db.write() as tx:
            log.append_once(tx, "project-frozen", SUBJECT, detail={"reason": "close"})
    assert sum(entry.event == "project-frozen" for entry in desk.entries()) == 1
    with desk.db.read() as tx:
        seq = log.last_seq(tx, "project-frozen", SUBJECT)
        assert Entry.from_bytes(log.entry(tx, seq)).event == "project-frozen"
        with pytest.raises(InternalError):
            log.last_seq(tx, "project-frozen", {"project": "heart-fm"})


# --- the database


def test_a_reader_sees_one_moment_while_others_write(desk: Desk) -> None:
    with desk.db.read() as tx:
        before = log.size(tx)
        with desk.db.write() as other:
            log.append(other, "login-accepted", {"person": "ada"}, actor="ada")
        assert log.size(tx) == before
    assert len(desk.entries()) == before + 1


def test_a_database_that_stays_locked_is_told_as_trouble_that_may_pass(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hdrs_hpc.broker.store.database.BUSY_TIMEOUT_MS", 50)
    impatient = Database(desk.home.database)
    with desk.db.write(), pytest.raises(DatabaseBusyError) as busy, impatient.write():
        raise AssertionError("two writers at once")
    assert busy.value.retry
    with pytest.raises(OperationalError), desk.db.read() as tx:  # and nothing else is told so
        tx.exec_driver_sql("SELECT * FROM no_such_table")


def test_the_migrations_lead_to_exactly_the_schema_in_the_code(tmp_path: Path) -> None:
    db = Database(tmp_path / "broker.db")
    db.migrate()
    db.migrate()  # idempotent
    with db.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []


def test_every_row_that_names_a_document_must_find_it(desk: Desk) -> None:
    with pytest.raises(Exception, match="FOREIGN KEY"), desk.db.write() as tx:
        tx.execute(
            insert(table).values(name="x", state="APPROVED", grant="sha256:none", version=1, frozen=False)
        )


# --- the table of states

ALL = [(life, item) for life, rows in states.LIVES.items() for item in rows.values()]


@pytest.mark.parametrize(("life", "item"), ALL, ids=[f"{life}-{item.name}" for life, item in ALL])
def test_every_state_has_an_owner_an_exit_and_a_test(life: str, item: states.State) -> None:
    rows = states.LIVES[life]
    final = item.name == list(rows)[-1]
    assert bool(item.exits) != final
    assert set(item.exits) <= rows.keys()
    assert item.name not in item.exits
    assert bool(item.owner) != final
    if item.owner:
        assert (REPO / "hdrs_hpc" / "broker" / item.owner).is_file()
    tests = "\n".join(
        path.read_text() for path in (REPO / "tests").rglob("test_*.py") if path != Path(__file__)
    )
    assert re.search(rf"\"{item.name}\"", tests), f"no test names {life} {item.name}"


@pytest.mark.parametrize("life", states.LIVES)
def test_every_state_can_be_reached_and_leads_to_the_end(life: str) -> None:
    rows = states.LIVES[life]
    first, last = next(iter(rows)), list(rows)[-1]
    reached, todo = set(), [first]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += rows[name].exits
    assert reached == rows.keys()
    ends = {last}
    while grown := {name for name, row in rows.items() if set(row.exits) & ends} - ends:
        ends |= grown
    assert ends == rows.keys()


def test_the_controller_has_a_step_for_every_state_that_goes_on_by_itself() -> None:
    job_steps = {**controller.JOB_STEPS, **controller.SITE_STEPS}
    tables = {"project": controller.PROJECT_STEPS, "copy": controller.COPY_STEPS, "job": job_steps}
    for life, steps in tables.items():
        assert steps.keys() <= states.LIVES[life].keys()
    going = {name for name, row in states.JOB.items() if row.exits}
    assert job_steps.keys() == going
    assert not controller.JOB_STEPS.keys() & controller.SITE_STEPS.keys(), "each state has one loop"
    assert controller.TAKING_AWAY_STEPS.keys() == controller.SITE_STEPS.keys(), (
        "which waits for no site to take away"
    )
    assert controller.PROJECT_STEPS.keys() == {name for name, row in states.PROJECT.items() if row.exits}


def test_each_owner_named_by_the_table_is_the_module_of_the_step_that_runs() -> None:
    for name, step in {**controller.JOB_STEPS, **controller.SITE_STEPS}.items():
        assert type(step).__module__.endswith(
            "." + states.JOB[name].owner.removesuffix(".py").replace("/", ".")
        )


def test_a_job_begins_received_and_its_times_are_noted(desk: Desk) -> None:
    job = desk.file("job-spec", desk.spec(), "rae").job
    assert job is not None
    with desk.db.read() as tx:
        found = jobs.get(tx, job)
        assert tx.execute(select(table.c.name)).scalar_one() == PROJECT
    assert (found.state, found.outcome) == ("RECEIVED", None)
    assert found.received_at == found.changed_at


def test_what_gives_to_a_job_that_was_ended_meanwhile_is_refused(desk: Desk) -> None:
    filed = desk.file("job-spec", desk.spec(), "rae").job
    assert filed is not None
    with desk.db.write() as tx:
        seen = jobs.get(tx, filed)
        jobs.require_unmoved(tx, seen)
        transition.move(
            tx, "job", seen.subject, "RECEIVED", "PURGED", outcome="CANCELLED", reason="cancelled"
        )
        with pytest.raises(StateMovedError):
            jobs.require_unmoved(tx, seen)
