"""The verbs of the three lives.  A step observes facts, decides (pure), and gives an action to act on.

After a crash nothing is remembered: the same facts are observed again and lead to the same decision, so every
action is safe to begin twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from hdrs_hpc.broker.opened import OpenBroker


class Action(Protocol):
    """One effect.  ``act`` may raise SiteError to be tried again at a later tick.

    Attributes tell more: ``moves_on = False`` where it makes no next step possible, ``waits_for`` where it waits for
    long, and must not hold up others: the name of the site, which may have so many of them at once.
    """

    def act(self, broker: OpenBroker) -> None: ...


class Step[Row](Protocol):
    """The owner of one state."""

    def observe(self, broker: OpenBroker, row: Row) -> Any:
        """Facts as they are now: database, keyd, scratch, Slurm.  No effect."""
        ...

    def decide(self, facts: Any) -> Action | None:
        """What to do about them; None means wait.  Pure."""
        ...


type Table[Row] = Mapping[str, Step[Row]]
