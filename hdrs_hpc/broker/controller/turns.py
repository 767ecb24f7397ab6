"""One turn of one thing: observe, decide, act.  What can't be done now is noted, waits visibly, and is tried again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from hdrs_hpc.broker.controller.errands import Errands
from hdrs_hpc.broker.controller.steps import Action, Step, Table
from hdrs_hpc.broker.opened import OpenBroker
from hdrs_hpc.broker.store import alerts
from hdrs_hpc.broker.store.transition import StateMovedError
from hdrs_hpc.core import errors
from hdrs_hpc.core.errors import HdrsError, InternalError, SiteError

logger = logging.getLogger("hdrs_hpc.controller")


def act(action: Action, broker: OpenBroker) -> None:
    """The one place where anything happens: the kill trials wrap this."""
    action.act(broker)


def turn(broker: OpenBroker, table: Table[Any], row: Any, about: str, errands: Errands | None = None) -> int:
    """Give one thing its turn; 1 if it moved on.

    An action that waits for a site goes on an errand, beside the loop, where there are ``errands``; until that is
    over the thing gets no other turn.
    """
    step: Step[Any] | None = table.get(row.state)
    if step is None or (errands is not None and errands.away(about)):
        return 0

    def here() -> Action | None:
        action: Action | None = step.decide(step.observe(broker, row))
        if action is not None and (errands is None or _waits_for(action) is None):
            act(action, broker)
        return action

    did, action = _attempt(broker, about, here)
    if action is None:
        return 0
    site = _waits_for(action)
    if errands is not None and site is not None:
        errands.begin(about, site, lambda: _run_errand(broker, about, action))
        return 0
    return _moved(about, action) if did else 0


def _waits_for(action: Action) -> str | None:
    """The site that it waits for for long."""
    site: str | None = getattr(action, "waits_for", None)
    return site


def _run_errand(broker: OpenBroker, about: str, action: Action) -> int:
    def there() -> Action:
        act(action, broker)
        return action

    did, _ = _attempt(broker, about, there)
    return _moved(about, action) if did else 0


def _moved(about: str, action: Action) -> int:
    logger.info("%s: %s", about, type(action).__name__)
    return 1 if getattr(action, "moves_on", True) else 0


def _attempt(broker: OpenBroker, about: str, work: Callable[[], Action | None]) -> tuple[bool, Action | None]:
    """Whether it could be done, and what it gave."""
    try:
        action = work()
    except StateMovedError:
        return False, None  # web or another turn was first; the next tick sees the new state
    except HdrsError as error:
        note_trouble(broker, about, error)
        return False, None
    except Exception as error:
        # Our own bug: one job that meets it must not stop the others.  Its text may hold anything, so only its
        # kind and place are told.
        note_trouble(broker, about, InternalError(f"{type(error).__name__} at {errors.raised_at(error)}"))
        return False, None
    _note_no_trouble(broker, about)
    return True, action


def note_trouble(broker: OpenBroker, about: str, error: HdrsError) -> None:
    """What waits, waits visibly."""
    level = logging.WARNING if isinstance(error, SiteError) else logging.ERROR
    ours = f", {error.message}" if isinstance(error, InternalError) else ""  # who mends it has only this line
    logger.log(level, "%s: %s%s", about, error.code, ours)
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
