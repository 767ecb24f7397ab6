"""The batch script of an attempt, rendered from package data.

Only values that the broker itself made or an admin configured are put in; each is checked against a narrow
form and quoted.  Nothing a user wrote, and nothing secret, gets here: slurmctld, slurmd and slurmdbd keep it.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from importlib import resources

from hdrs_hpc.catalogue.isolation import GIVEN, GivenIsolation
from hdrs_hpc.core.errors import InternalError
from hdrs_hpc.protocol import layout


@dataclass(frozen=True)
class BatchPlan:
    attempt: str
    project: str
    audience: str
    """Name of the broker that will answer."""
    scratch: str
    """Absolute path of the project's scratch on the site."""
    node_tmp: str
    """Absolute path of a node-local folder, e.g. /tmp."""
    runtime_digest: str
    flavour_digest: str
    """Of what the sandbox will probably run on, so that the agent can read it while it waits for keys.  Which file
    it takes is said by the signed order alone."""
    broker_key: str
    """OpenSSH line of the key that signs hand-over answers; public."""
    isolation: GivenIsolation
    memory_mb: int
    lifetime_s: int
    """The agent stops by itself after so many seconds, whatever else happens."""
    nodes: int
    launch_prefix: tuple[str, ...]
    """Starts the rest of a line once per node (``Cluster.launch_prefix``); empty on a single machine."""


_ABSOLUTE = re.compile(r"/[A-Za-z0-9._/-]{0,400}", re.ASCII)
_FORMS: dict[str, re.Pattern[str]] = {
    "attempt": re.compile(r"hdrs-[0-9a-hjkmnp-tv-z]{26}", re.ASCII),
    "project": re.compile(r"[a-z][a-z0-9-]{0,39}", re.ASCII),
    "audience": re.compile(r"[a-z][a-z0-9-]{0,39}", re.ASCII),
    "scratch": _ABSOLUTE,
    "node_tmp": _ABSOLUTE,
    "runtime_digest": re.compile(r"sha256:[0-9a-f]{64}", re.ASCII),
    "flavour_digest": re.compile(r"sha256:[0-9a-f]{64}", re.ASCII),
    "broker_key": re.compile(r"ssh-ed25519 [A-Za-z0-9+/=]{40,200}( [A-Za-z0-9._@-]{0,80})?", re.ASCII),
    "isolation": re.compile("|".join(GIVEN), re.ASCII),
    "memory_mb": re.compile(r"[0-9]{1,9}", re.ASCII),
    "lifetime_s": re.compile(r"[0-9]{1,8}", re.ASCII),
    "nodes": re.compile(r"[0-9]{1,4}", re.ASCII),
}
_ARGUMENT = re.compile(r"[A-Za-z0-9._/=:,@%+-]{1,200}", re.ASCII)


def render(plan: BatchPlan) -> bytes:
    """The script as bytes for sbatch's stdin.  InternalError where a value has not the form it always has."""
    values = {name: _checked(name, str(getattr(plan, name)), form) for name, form in _FORMS.items()}
    for argument in plan.launch_prefix:
        _checked("launch_prefix", argument, _ARGUMENT)
    values["launch_prefix"] = shlex.join(plan.launch_prefix)
    runtime_path = layout.join(plan.scratch, layout.runtime_parts(plan.runtime_digest))
    values["runtime_path"] = shlex.quote(runtime_path)
    values["runtime_hex"] = plan.runtime_digest.removeprefix("sha256:")
    template = resources.files("hdrs_hpc.protocol").joinpath("batch.sh.template").read_text("ascii")
    # One pass, so that a value which looks like a marker stays what it is.
    return re.sub(r"@([a-z_]+)@", lambda found: values[found[1]], template).encode("ascii")


def _checked(name: str, value: str, form: re.Pattern[str]) -> str:
    if form.fullmatch(value) is None:
        raise InternalError(f"{name} has not the form that a batch script may hold")
    return shlex.quote(value)
