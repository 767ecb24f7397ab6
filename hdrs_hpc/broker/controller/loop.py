"""The controller: a loop over the state tables.  Each step observes, decides, acts; nothing is remembered.

``python -m hdrs_hpc.broker.controller.loop --home HOME``
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import random
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hdrs_hpc.broker.controller.steps import Action, Step, Table
from hdrs_hpc.broker.controller.steps.admit import AdmitStep
from hdrs_hpc.broker.controller.steps.build_copy import BuildCopyStep
from hdrs_hpc.broker.controller.steps.close import ClosingStep, OpenStep
from hdrs_hpc.broker.controller.steps.collect import CollectStep
from hdrs_hpc.broker.controller.steps.purge import PurgeStep
from hdrs_hpc.broker.controller.steps.release import ReleaseStep, ReviewStep
from hdrs_hpc.broker.controller.steps.run import RunStep
from hdrs_hpc.broker.controller.steps.stage import AwaitCopiesStep, WantCopiesStep
from hdrs_hpc.broker.controller.steps.submit import SubmitStep
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import alerts, checkpoint, copies, documents, jobs, projects
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.store.jobs import Job
from hdrs_hpc.broker.store.projects import Project
from hdrs_hpc.broker.store.transition import StateMovedError
from hdrs_hpc.core import errors
from hdrs_hpc.core.errors import HdrsError, InternalError, SiteError

logger = logging.getLogger("hdrs_hpc.controller")

BROKER = "broker"
"""What an alert is about that stops everything."""
PROJECT_STEPS: Table[Project] = {"APPROVED": OpenStep(), "ACTIVE": OpenStep(), "CLOSING": ClosingStep()}
COPY_STEPS: Table[Copy] = {"PENDING": BuildCopyStep(), "STAGING": BuildCopyStep()}
JOB_STEPS: Table[Job] = {
    "RECEIVED": AdmitStep(),
    "ADMITTED": WantCopiesStep(),
    "STAGING": AwaitCopiesStep(),
    "QUEUED": SubmitStep(),
    "RUNNING": RunStep(),
    "COLLECTING": CollectStep(),
    "IN_REVIEW": ReviewStep(),
    "RELEASING": ReleaseStep(),
    "PURGING": PurgeStep(),
}


def act(action: Action, broker: OpenBroker) -> None:
    """The one place where anything happens: the kill trials wrap this."""
    action.act(broker)


def tick(broker: OpenBroker) -> int:
    """Give every living thing one turn; the number of actions that moved something on."""
    broker.forget_lookups()
    if not _log_holds(broker):
        return _turns_of_projects(broker)
    done = _turns_of_projects(broker)
    with broker.db.read() as tx:
        making = copies.active(tx)
    for copy in making:
        done += _turn(broker, COPY_STEPS, copy, f"copy/{copy.id}")
    with broker.db.read() as tx:
        living = jobs.active(tx)
    for job in living:
        done += _turn(broker, JOB_STEPS, job, f"job/{job.id}")
    return done


def _turns_of_projects(broker: OpenBroker) -> int:
    with broker.db.read() as tx:
        every_project = projects.every(tx)
    return sum(_turn(broker, PROJECT_STEPS, project, f"project/{project.name}") for project in every_project)


def _log_holds(broker: OpenBroker) -> bool:
    """Whether keyd signs the log as it is.

    Where it does not, the database was put back from a backup: what it says of jobs and copies is not how things
    are, and keyd gives nothing.  Projects still end in time, because their keys die with them.
    """
    with broker.db.read() as tx:
        if documents.first_root_digest(tx) is None:
            return True
    try:
        checkpoint.sign(broker.db, broker.ask)
    except HdrsError as error:
        logger.error("%s: %s", BROKER, error.code)
        with broker.db.write() as tx:
            alerts.put(tx, BROKER, error.code, error.message)
        return False
    with broker.db.read() as tx:
        waiting = alerts.find(tx, BROKER) is not None
    if waiting:
        with broker.db.write() as tx:
            alerts.clear(tx, BROKER)
    return True


def _turn(broker: OpenBroker, table: Table[Any], row: Any, about: str) -> int:
    step: Step[Any] | None = table.get(row.state)
    if step is None:
        return 0
    try:
        action = step.decide(step.observe(broker, row))
        if action is not None:
            act(action, broker)
    except StateMovedError:
        return 0  # web or another turn was first; the next tick sees the new state
    except HdrsError as error:
        _note_trouble(broker, about, error)
        return 0
    except Exception as error:
        # Our own bug: one job that meets it must not stop the others.  Its text may hold anything, so only its
        # kind and place are told.
        _note_trouble(broker, about, InternalError(f"{type(error).__name__} at {errors.raised_at(error)}"))
        return 0
    _note_no_trouble(broker, about)
    if action is None:
        return 0
    logger.info("%s: %s", about, type(action).__name__)
    return 1 if getattr(action, "moves_on", True) else 0


def _note_trouble(broker: OpenBroker, about: str, error: HdrsError) -> None:
    """What waits, waits visibly."""
    level = logging.WARNING if isinstance(error, SiteError) else logging.ERROR
    logger.log(level, "%s: %s", about, error.code)
    broker.troubles[about] = error.code
    with broker.db.write() as tx:
        alerts.put(tx, about, error.code, error.message)


def _note_no_trouble(broker: OpenBroker, about: str) -> None:
    """Take back what an earlier turn could not do; alerts that a step put itself are the step's to clear."""
    code = broker.troubles.pop(about, None)
    if code is None:
        return
    with broker.db.write() as tx:
        found = alerts.find(tx, about)
        if found is not None and found.code == code:
            alerts.clear(tx, about)


def run(home: BrokerHome) -> None:
    """Tick until SIGTERM.  A second controller on the same home waits for the first one's end."""
    broker = OpenBroker.open(home)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    lock = (home.root / "controller.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel frees it with the process, however that ended
    with broker.db.write() as tx:
        alerts.clear_all(tx)  # every turn looks at the facts anew; what is still so is said again
    quiet = 0
    try:
        while not stop.is_set():
            quiet = 0 if tick(broker) else quiet + 1
            # Quick after a change, since one step usually makes the next possible; jitter spreads the load.
            pause = broker.settings.tick_s * (0.1 if quiet < 3 else random.uniform(0.8, 1.2))  # noqa: S311
            stop.wait(pause)
    finally:
        broker.close()


def main(argv: Iterable[str]) -> None:
    parser = argparse.ArgumentParser(prog="hdrs-hpc controller")
    parser.add_argument("--home", type=Path, required=True)
    home = BrokerHome.at(parser.parse_args(list(argv)).home).require()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("paramiko").setLevel(logging.ERROR)
    run(home)


if __name__ == "__main__":
    main(sys.argv[1:])
