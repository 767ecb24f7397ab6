"""The controller: loops over the state tables.  Each step observes, decides, acts; nothing is remembered.

``python -m hdrs_hpc.broker.controller.loop --home HOME``
"""

from __future__ import annotations

import argparse
import faulthandler
import fcntl
import logging
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hdrs_hpc.broker import heartbeats, wake
from hdrs_hpc.broker.controller.errands import Errands
from hdrs_hpc.broker.controller.loops import SHORTEST_PAUSE_S, ClusterLoops, Loop
from hdrs_hpc.broker.controller.pace import Pace
from hdrs_hpc.broker.controller.steps import Table
from hdrs_hpc.broker.controller.steps.admit import AdmitStep
from hdrs_hpc.broker.controller.steps.ask_capacity import AskCapacityStep, Site, in_use
from hdrs_hpc.broker.controller.steps.build_copy import BuildCopyStep
from hdrs_hpc.broker.controller.steps.close import ClosingStep, OpenStep
from hdrs_hpc.broker.controller.steps.collect import CollectStep
from hdrs_hpc.broker.controller.steps.ending import StopStep
from hdrs_hpc.broker.controller.steps.purge import DestroyKeysStep, PurgeStep
from hdrs_hpc.broker.controller.steps.release import ReleaseStep, ReviewStep
from hdrs_hpc.broker.controller.steps.run import RunStep
from hdrs_hpc.broker.controller.steps.stage import AwaitCopiesStep, WantCopiesStep
from hdrs_hpc.broker.controller.steps.submit import SubmitStep
from hdrs_hpc.broker.controller.turns import turn
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import alerts, checkpoint, copies, documents, jobs, projects
from hdrs_hpc.broker.store.copies import Copy
from hdrs_hpc.broker.store.jobs import Job
from hdrs_hpc.broker.store.projects import Project
from hdrs_hpc.core.errors import HdrsError

logger = logging.getLogger("hdrs_hpc.controller")

BROKER = "broker"
"""What an alert is about that stops everything."""
PROJECT_STEPS: Table[Project] = {"APPROVED": OpenStep(), "ACTIVE": OpenStep(), "CLOSING": ClosingStep()}
COPY_STEPS: Table[Copy] = {"PENDING": BuildCopyStep(), "STAGING": BuildCopyStep()}
JOB_STEPS: Table[Job] = {
    "RECEIVED": AdmitStep(),
    "ADMITTED": WantCopiesStep(),
    "STAGING": AwaitCopiesStep(),
    "COLLECTING": CollectStep(),
    "IN_REVIEW": ReviewStep(),
    "RELEASING": ReleaseStep(),
}
"""Steps that ask no site: the controller's own loop takes them, of whatever cluster the job is."""
SITE_STEPS: Table[Job] = {"QUEUED": SubmitStep(), "RUNNING": RunStep(), "PURGING": PurgeStep()}
"""Steps that ask the job's site: each cluster's loop takes those of its own jobs."""
TAKING_AWAY_STEPS: Table[Job] = {"QUEUED": StopStep(), "RUNNING": StopStep(), "PURGING": DestroyKeysStep()}
"""What of those takes away and asks no site: the controller's own loop does it, whatever the site's waits for."""
CLUSTER_STEPS: Table[Site] = {Site.state: AskCapacityStep()}
END_WITHIN_S = 5.0


def tick(broker: OpenBroker) -> int:
    """Give every living thing one turn, in this thread, sites included; the number of those that moved on."""
    broker.forget_lookups()
    holds = log_holds(broker)
    done = turns_of_controller(broker, holds=holds)
    if holds:
        done += sum(turns_of_cluster(broker, name) for name in clusters_at_work(broker))
    return done


def turns_of_controller(broker: OpenBroker, *, holds: bool, loop: Loop | None = None) -> int:
    """Projects, and while the log holds copies and the jobs that ask no site."""
    with broker.db.read() as tx:
        every_project = projects.every(tx)
    done = _turns(broker, PROJECT_STEPS, [(f"project/{item.name}", item) for item in every_project], loop)
    if not holds:
        return done
    with broker.db.read() as tx:
        making = copies.active(tx)
    done += _turns(broker, COPY_STEPS, [(f"copy/{item.id}", item) for item in making], loop)
    with broker.db.read() as tx:
        living = jobs.active(tx)
    of_jobs: Table[Job] = {**JOB_STEPS, **TAKING_AWAY_STEPS}
    return done + _turns(broker, of_jobs, [(f"job/{item.id}", item) for item in living], loop)


def turns_of_cluster(broker: OpenBroker, name: str, loop: Loop | None = None) -> int:
    """What the site's nodes are, and the jobs that ask this site."""
    done = _turns(broker, CLUSTER_STEPS, [(f"cluster/{name}", Site(name))], loop)
    with broker.db.read() as tx:
        mine = [job for job in jobs.active(tx) if job.cluster == name]
    return done + _turns(broker, SITE_STEPS, [(f"job/{job.id}", job) for job in mine], loop)


def clusters_at_work(broker: OpenBroker) -> list[str]:
    """Clusters that have a living job or may get one."""
    with broker.db.read() as tx:
        with_jobs = {job.cluster for job in jobs.active(tx) if job.cluster is not None}
    return sorted(with_jobs | in_use(broker))


def _turns(broker: OpenBroker, table: Table[Any], rows: Iterable[tuple[str, Any]], loop: Loop | None) -> int:
    errands: Errands | None = loop.errands if loop is not None else None
    done = 0
    for about, row in rows:
        if loop is not None and row.state in table:
            loop.pulse.beat(type(table[row.state]).__name__, about)
        done += turn(broker, table, row, about, errands)
    return done


def log_holds(broker: OpenBroker) -> bool:
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


def run(home: BrokerHome) -> None:
    """Tick until SIGTERM.  A second controller on the same home waits for the first one's end."""
    broker = OpenBroker.open(home)
    lock = (home.root / "controller.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel frees it with the process, however that ended
    bell = wake.Bell(home)
    stop = threading.Event()

    def end(*_: object) -> None:
        stop.set()
        bell.ring()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    heartbeats.begin(home)
    with broker.db.write() as tx:
        alerts.clear_all(tx)  # every turn looks at the facts anew; what is still so is said again
    sites = ClusterLoops(broker, lambda loop, name: turns_of_cluster(loop.broker, name, loop), bell.ring)

    hangs_after_s = 1.2 * broker.settings.tick_s + broker.settings.hang_limit_s

    def own_tick(loop: Loop) -> int:
        # If this loop hangs, nobody is left to say so: a watch in C tells where each thread is, and ends the process.
        faulthandler.dump_traceback_later(hangs_after_s, exit=True)
        holds = log_holds(broker)
        sites.held = not holds
        done = turns_of_controller(broker, holds=holds, loop=loop)
        sites.look_after(clusters_at_work(broker))
        return done

    stale_after_s = 1.2 * broker.settings.tick_s + broker.settings.heartbeat_grace_s
    pulse = heartbeats.Pulse.of_controller(home, stale_after_s)
    own = Loop(
        broker,
        pulse,
        bell,
        own_tick,
        tell_others=sites.ring,
        pace=Pace(broker.settings.tick_s, SHORTEST_PAUSE_S),
    )
    try:
        own.run(stop)
    finally:
        faulthandler.cancel_dump_traceback_later()
        if sites.end(END_WITHIN_S) and own.errands.join(END_WITHIN_S):
            broker.close()
        bell.close()


def main(argv: Iterable[str]) -> None:
    parser = argparse.ArgumentParser(prog="hdrs-hpc controller")
    parser.add_argument("--home", type=Path, required=True)
    home = BrokerHome.at(parser.parse_args(list(argv)).home).require()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    run(home)


if __name__ == "__main__":
    main(sys.argv[1:])
