"""Which sandbox gives which isolation to whom: the one list of them.  docs/sandboxes.md is made from it.

The node's agent takes what its site promised and then probes it.  The airlock and the stager take the strongest that
works where they run, and their reports name it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from hdrs_hpc.catalogue.isolation import SANDBOXED, WEAKEST, GivenIsolation
from hdrs_hpc.confined.apptainer import Apptainer
from hdrs_hpc.confined.bubblewrap import Bubblewrap
from hdrs_hpc.confined.port import Provider
from hdrs_hpc.confined.process_limits import ProcessLimits
from hdrs_hpc.confined.starting import works

User = Literal["node", "checker", "parsers"]
USERS: dict[User, str] = {
    "node": "a workload on a node",
    "checker": "the airlock's checker",
    "parsers": "the stager's parsers",
}


@dataclass(frozen=True)
class Sandbox:
    provider: Provider
    gives: GivenIsolation
    users: tuple[User, ...]
    tried: bool
    """Whether the contract suite (``confined/contract.py``) ran it.  What is not tried is taken only where a probe
    follows."""


SANDBOXES = (
    Sandbox(Bubblewrap(), SANDBOXED, ("node", "checker", "parsers"), tried=True),
    Sandbox(Apptainer(), SANDBOXED, ("node",), tried=False),
    Sandbox(ProcessLimits(), WEAKEST, ("node", "checker", "parsers"), tried=True),
)
"""The stronger and the better tried come first."""


def giving(user: User, level: GivenIsolation) -> tuple[Sandbox, ...]:
    """All that give ``user`` exactly ``level``."""
    return tuple(row for row in SANDBOXES if row.gives == level and user in row.users)


def choose(user: User, level: GivenIsolation) -> Provider:
    """What gives ``user`` exactly ``level``, the first that is there; where none is, the first, so that it says why."""
    fitting = [row.provider for row in giving(user, level)]
    return next((provider for provider in fitting if provider.missing() is None), fitting[0])


def strongest(user: User) -> Provider:
    """The first that really starts here, tried once in each process."""
    return next(row.provider for row in SANDBOXES if user in row.users and works(row.provider))


def weakest_of(names: Iterable[str]) -> str:
    """The one of these sandboxes that gives least."""
    order = [row.provider.name for row in SANDBOXES]
    return max(names, key=order.index)


def as_markdown() -> str:
    head = ["sandbox", *USERS.values(), "tried"]
    lines = [
        "# Sandboxes",
        "",
        "Made by `make docs` from `hdrs_hpc/confined/table.py`: which sandbox gives which isolation to whom.",
        "The first that is there is taken.",
        "",
        f"| {' | '.join(head)} |",
        f"| {' | '.join('---' for _ in head)} |",
    ]
    for row in SANDBOXES:
        levels = [f"`{row.gives}`" if user in row.users else "not offered" for user in USERS]
        tried = "by the contract suite" if row.tried else "**untried**: each job's probe decides"
        lines.append(f"| `{row.provider.name}` | {' | '.join(levels)} | {tried} |")
    return "\n".join([*lines, ""])
