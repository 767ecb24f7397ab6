"""Which sandbox gives which isolation to whom: the one list of them.  docs/security-model.md shows it.

The node's agent takes what its site promised and then probes it.  The airlock and the stager take the strongest that
works where they run, and their reports name it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hdrs_hpc.catalogue.isolation import SANDBOXED, WEAKEST, GivenIsolation
from hdrs_hpc.confined.apptainer import Apptainer
from hdrs_hpc.confined.bubblewrap import Bubblewrap
from hdrs_hpc.confined.port import Provider
from hdrs_hpc.confined.process_limits import ProcessLimits
from hdrs_hpc.confined.starting import works

User = Literal["node", "checker", "parsers"]
"""The workload on a node, the airlock's checker, the stager's parsers."""


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


def choose(user: User, level: GivenIsolation) -> Provider:
    """What gives ``user`` exactly ``level``, the first that is there; where none is, the first, so that it says why."""
    fitting = [row.provider for row in SANDBOXES if row.gives == level and user in row.users]
    return next((provider for provider in fitting if provider.missing() is None), fitting[0])


def strongest(user: User) -> Provider:
    """The first that really starts here, tried once in each process."""
    return next(row.provider for row in SANDBOXES if user in row.users and works(row.provider))
