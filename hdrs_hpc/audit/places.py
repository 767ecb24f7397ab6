"""The inventory: every place that can hold patient data, who owns it, empties it, and how that is verified.

A place that is not here must not exist: the test-suite walks what a whole life leaves and fails on a path
that :func:`place_of` does not know.  The certificate is this table with a result beside each row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath

from hdrs_hpc.core.errors import InternalError

INVENTORY = "hdrs-hpc/places/3"
"""Version of this table; a certificate names it, since a later table may have more rows."""


class Holds(StrEnum):
    PLAINTEXT = "plaintext"
    SEALED = "sealed"
    DERIVED = "derived"
    """Made from patient data and no longer a record of one: aggregates, reports, figures."""
    NOTHING = "nothing"
    """No patient data by design; listed because one would look for it there."""


class Method(StrEnum):
    """How a row is verified, and so which results count."""

    LISTING = "listing"
    KEY_AND_LISTING = "key-and-listing"
    PROCESS_ENDED = "process-ended"
    CLOSED_SCHEMA = "closed-schema"
    RELEASE_RECORD = "release-record"
    OUTSIDE = "outside"
    NOT_PROVABLE = "not-provable"


ACCEPTED: dict[Method, frozenset[str]] = {
    Method.LISTING: frozenset({"empty", "never-made"}),
    Method.KEY_AND_LISTING: frozenset({"key-gone-and-empty", "never-made"}),
    Method.PROCESS_ENDED: frozenset({"ended", "never-made"}),
    Method.CLOSED_SCHEMA: frozenset({"not-checked"}),
    Method.RELEASE_RECORD: frozenset({"released-only", "never-made"}),
    Method.OUTSIDE: frozenset({"outside"}),
    Method.NOT_PROVABLE: frozenset({"not-proven", "never-made"}),
}
"""Results that let a certificate be issued, by method; any other (``found``, ``unreachable``) bars it."""

UNVERIFIED = frozenset({Method.OUTSIDE, Method.CLOSED_SCHEMA, Method.NOT_PROVABLE})
"""Methods of rows that nobody looked after, and that must say so; all others must be verified by looking."""


class UnregisteredPlaceError(InternalError):
    code = "place-not-registered"
    meaning = "Something was written to a path that the inventory of places does not know."
    remedy = "Add the place, its owner and its purger to hdrs_hpc/audit/places.py, or write elsewhere."


@dataclass(frozen=True, slots=True)
class Place:
    """One row of the inventory.

    ``patterns`` are path templates: ``{root}`` first, ``{name}`` for part of a name, a final ``/`` for all
    below; empty for what is not a path.  ``purger`` names the step or process that empties it.
    """

    name: str
    patterns: tuple[str, ...]
    owner: str
    holds: Holds
    purger: str
    verified_by: Method
    note: str

    def accepts(self, method: str, result: str, *, verified: bool) -> bool:
        """Whether a certificate may be issued with this result, found by this method, looked after or not.

        ``verified`` is never true of a row that nobody can look after: that would be a claim without evidence.
        """
        may_be_verified = self.verified_by not in UNVERIFIED
        return (
            method == self.verified_by
            and result in ACCEPTED[self.verified_by]
            and verified == may_be_verified
        )


def _row(
    name: str, owner: str, holds: Holds, purger: str, verified_by: Method, note: str, *patterns: str
) -> Place:
    return Place(name, patterns, owner, holds, purger, verified_by, note)


_DATA_ZONE = (
    _row(
        "source-archive",
        "the hospital",
        Holds.PLAINTEXT,
        "nobody: it is the original",
        Method.OUTSIDE,
        "Read only; never changed or removed by the broker.",
        "{archive}/",
    ),
    _row(
        "stager-memory",
        "stager",
        Holds.PLAINTEXT,
        "end of the stager",
        Method.PROCESS_ENDED,
        "Parsers of outside files, and their unnamed temporary files, end with the staging.",
    ),
    _row(
        "inventory",
        "stager",
        Holds.PLAINTEXT,
        "the custodian, with the dataset",
        Method.OUTSIDE,
        "Item names of an archive can identify; belongs to the dataset and never leaves the data zone.",
        "{home}/inventories/",
    ),
    _row(
        "opt-out-list",
        "the custodian",
        Holds.PLAINTEXT,
        "the custodian",
        Method.OUTSIDE,
        "Belongs to the data zone, whichever projects run; compared by keyed hashes only.",
        "{home}/opt-outs/",
    ),
    _row(
        "cohort-lists",
        "the custodian",
        Holds.PLAINTEXT,
        "the custodian",
        Method.OUTSIDE,
        "Named in grants by digest; belong to the data zone; compared by keyed hashes only.",
        "{home}/cohorts/",
    ),
    _row(
        "copy-journals",
        "stager",
        Holds.SEALED,
        "stager, when the copy is sealed or fails",
        Method.LISTING,
        "Names and headers of objects, and what items are selected by, while a copy is built and until it goes.",
        "{home}/staging/{copy}/journals/",
    ),
    _row(
        "items-map",
        "stager",
        Holds.PLAINTEXT,
        "purge",
        Method.LISTING,
        "Which file became which item of a copy: names files and patients, and never leaves the data zone.",
        "{home}/staging/{copy}/items.parquet",
        "{home}/staging/{copy}/items.parquet.{suffix}",
    ),
    _row(
        "selectable-values",
        "stager",
        Holds.SEALED,
        "purge",
        Method.KEY_AND_LISTING,
        "By item: modality, maker, body part, sex and true date of study, for the selections of later jobs.",
        "{home}/staging/{copy}/selectable.sealed",
        "{home}/staging/{copy}/.selectable.sealed.partial",
    ),
    _row(
        "staging-report",
        "stager",
        Holds.DERIVED,
        "purge",
        Method.LISTING,
        "Counts and reason codes by item number, progress, and the sealed bundle's journal; never a picture.",
        "{home}/staging/{copy}/",
    ),
    _row(
        "key-store",
        "keyd",
        Holds.SEALED,
        "keyd",
        Method.LISTING,
        "Wrapped keys; what 'destroyed' proves depends on the keystore's class.",
        "{home}/keyd/",
    ),
    _row(
        "database",
        "controller",
        Holds.NOTHING,
        "none needed",
        Method.CLOSED_SCHEMA,
        "Ids, digests, states, codes, counts, and signed documents as people sent them.",
        "{home}/broker.db",
        "{home}/broker.db-{suffix}",
    ),
    _row(
        "settings",
        "the operator",
        Holds.NOTHING,
        "none needed",
        Method.CLOSED_SCHEMA,
        "Settings, locks, the state of the processes, and certificates.",
        "{home}/broker.toml",
        "{home}/serve.{suffix}",
        "{home}/controller.lock",
        "{home}/wake.sock",
        "{home}/heartbeats/",
        "{home}/clusters/",
        "{home}/runtime/",
        "{home}/certificates/",
        "{home}/web/",
        "{home}/broker-keys.json",
    ),
    _row(
        "uploads",
        "web",
        Holds.NOTHING,
        "none needed",
        Method.CLOSED_SCHEMA,
        "Code, wheels and other files that researchers bring from their own machines; they never had patient data.",
        "{home}/uploads/",
        "{home}/files/",
    ),
    _row(
        "audit-export",
        "controller",
        Holds.NOTHING,
        "none needed",
        Method.CLOSED_SCHEMA,
        "A closed table of events, without free text.",
        "{home}/audit/",
    ),
    _row(
        "broker-logs",
        "every process of the broker",
        Holds.NOTHING,
        "none needed",
        Method.CLOSED_SCHEMA,
        "Reason codes and ids; messages of parsers are not logged.",
        "{home}/logs/",
    ),
    _row(
        "quarantine",
        "airlock",
        Holds.SEALED,
        "purge",
        Method.KEY_AND_LISTING,
        "Outputs as the node sealed them, before they are checked.",
        "{home}/quarantine/{attempt}/",
    ),
    _row(
        "checked-artefacts",
        "airlock",
        Holds.DERIVED,
        "purge",
        Method.LISTING,
        "Rebuilt artefacts and check reports while checkers decide.",
        "{home}/artefacts/{job}/",
    ),
    _row(
        "checker-memory",
        "airlock",
        Holds.DERIVED,
        "end of the checker",
        Method.PROCESS_ENDED,
        "One keyless process an artefact.",
    ),
    _row(
        "released-artefacts",
        "airlock",
        Holds.DERIVED,
        "nobody: they may leave",
        Method.RELEASE_RECORD,
        "Only what checkers released, with its record.",
        "{home}/released/{job}/",
    ),
    _row(
        "pictures",
        "imaging inspect",
        Holds.DERIVED,
        "none made",
        Method.LISTING,
        "Thumbnails and contact sheets: this version makes none.",
        "{home}/pictures/",
    ),
)

_SCRATCH = (
    _row(
        "sealed-copies",
        "stager",
        Holds.SEALED,
        "purge",
        Method.KEY_AND_LISTING,
        "Tink streaming ciphertext under random names.",
        "{scratch}/hdrs-hpc/{project}/copies/{copy}/",
    ),
    _row(
        "kept-outputs",
        "node agent",
        Holds.SEALED,
        "purge",
        Method.KEY_AND_LISTING,
        "Outputs that stay in the project for its later jobs, each under a key of its own.",
        "{scratch}/hdrs-hpc/{project}/kept/{kept}/",
    ),
    _row(
        "attempt-bundle",
        "controller",
        Holds.SEALED,
        "purge",
        Method.KEY_AND_LISTING,
        "The researcher's code, sealed under a key of its own.",
        "{scratch}/hdrs-hpc/{project}/attempts/{attempt}/bundle/",
    ),
    _row(
        "attempt-served",
        "controller",
        Holds.SEALED,
        "purge",
        Method.KEY_AND_LISTING,
        "Manifest, index and tables of what an attempt's narrower selection chose, under the copy's key.",
        "{scratch}/hdrs-hpc/{project}/attempts/{attempt}/served/{input}/",
    ),
    _row(
        "attempt-outputs",
        "node agent",
        Holds.SEALED,
        "purge",
        Method.KEY_AND_LISTING,
        "Outputs sealed on the node, and the pointer to the manifest that ends them.",
        "{scratch}/hdrs-hpc/{project}/attempts/{attempt}/outputs/",
        "{scratch}/hdrs-hpc/{project}/attempts/{attempt}/closing.json",
        "{scratch}/hdrs-hpc/{project}/attempts/{attempt}/closing.json.{suffix}",
    ),
    _row(
        "attempt-progress",
        "node agent",
        Holds.DERIVED,
        "purge",
        Method.LISTING,
        "What the agent measures; values of the workload within a logged bit budget.",
        "{scratch}/hdrs-hpc/{project}/attempts/{attempt}/progress.json",
        "{scratch}/hdrs-hpc/{project}/attempts/{attempt}/progress.json.{suffix}",
    ),
    _row(
        "runtime",
        "cluster install",
        Holds.NOTHING,
        "none needed",
        Method.CLOSED_SCHEMA,
        "Interpreter and libraries, pinned by digest.",
        "{scratch}/hdrs-hpc/runtime/",
    ),
)

_NODE = (
    _row(
        "node-private-folder",
        "node agent",
        Holds.NOTHING,
        "batch script, at its end",
        Method.PROCESS_ENDED,
        "Unpacked runtime and the agent's socket; nothing of the data.",
        "{node_tmp}/{attempt}-{node}/",
    ),
    _row(
        "node-memory",
        "node agent",
        Holds.PLAINTEXT,
        "end of the agent",
        Method.PROCESS_ENDED,
        "Keys and opened segments; the process is not dumpable.",
    ),
    _row(
        "sandbox-tmp",
        "workload",
        Holds.PLAINTEXT,
        "end of the sandbox's mount namespace",
        Method.PROCESS_ENDED,
        "Temporary files, home and outputs of the workload lie in private memory.",
    ),
    _row(
        "shared-memory",
        "node agent",
        Holds.PLAINTEXT,
        "end of the agent",
        Method.PROCESS_ENDED,
        "Opened segments travel in anonymous memory; nothing is named in /dev/shm.",
        "{shm}/hdrs-{name}",
    ),
    _row(
        "dask-spill",
        "workload",
        Holds.PLAINTEXT,
        "end of the sandbox's mount namespace",
        Method.PROCESS_ENDED,
        "Dask's local directory lies in the sandbox's private memory.",
    ),
    _row(
        "compile-caches",
        "workload",
        Holds.DERIVED,
        "end of the sandbox's mount namespace",
        Method.PROCESS_ENDED,
        "matplotlib, numba, torch and CUDA caches point into the sandbox's private memory.",
    ),
    _row(
        "gpu-memory",
        "workload",
        Holds.PLAINTEXT,
        "the driver, at the end of the job",
        Method.NOT_PROVABLE,
        "The driver zeroes memory for the next process; nobody can prove it from outside.",
    ),
)

_SLURM = (
    _row(
        "slurm-spool",
        "slurmd and slurmctld",
        Holds.NOTHING,
        "Slurm",
        Method.CLOSED_SCHEMA,
        "The batch script and its environment, which hold no secret and no data.",
        "{slurm_spool}/",
    ),
    _row(
        "slurm-output",
        "slurmd",
        Holds.NOTHING,
        "none made",
        Method.CLOSED_SCHEMA,
        "Standard output and error of the job go to /dev/null.",
    ),
    _row(
        "slurm-accounting",
        "slurmdbd",
        Holds.NOTHING,
        "none needed",
        Method.CLOSED_SCHEMA,
        "An unguessable job name and resource figures.",
    ),
)

_ROWS = (*_DATA_ZONE, *_SCRATCH, *_NODE, *_SLURM)
PLACES: dict[str, Place] = {place.name: place for place in _ROWS}
"""Every row by name, from the source to the last copy."""

NOT_PROVEN: dict[str, str] = {
    "scratch-snapshots": "Snapshots and back-ups of scratch may keep ciphertext; its key is gone.",
    "node-memory-after-use": "Memory of nodes, and swap if there is any, may keep plaintext until reused.",
    "gpu-memory": "GPU memory is cleared by the driver, which nobody can watch from outside.",
    "keystore-medium": "A file keystore's keys are unlinked, not provably erased on the medium.",
    "root-on-nodes": "Root on a node could have read the memory of a job while it ran.",
    "released-content": "What was released has left; a few hidden bytes in it can be bounded, not ruled out.",
}
"""What no certificate of this version can prove, by code."""


def place_of(path: PurePath, roots: Mapping[str, PurePath]) -> Place:
    """The row that ``path`` belongs to; ``roots`` gives the folders that templates begin with, e.g.
    ``{"scratch": …, "home": …}``.

    Raises :class:`UnregisteredPlaceError`, which names the path below its root only.
    """
    if ".." in path.parts:
        raise UnregisteredPlaceError("a path that climbs up is in no place")
    for place in PLACES.values():
        for pattern in place.patterns:
            if _matches(pattern, path, roots):
                return place
    for name, root in roots.items():
        if path.is_relative_to(root):
            raise UnregisteredPlaceError(f"no place is registered for {{{name}}}/{path.relative_to(root)}")
    raise UnregisteredPlaceError("a path below none of the given roots")


def _matches(pattern: str, path: PurePath, roots: Mapping[str, PurePath]) -> bool:
    variable, _, rest = pattern.partition("/")
    root = roots.get(variable.strip("{}"))
    if root is None or not path.is_relative_to(root):
        return False
    below = path.relative_to(root).as_posix()
    pieces = re.split(r"\{[a-z_]+\}", rest)
    expression = "[^/]+".join(re.escape(piece) for piece in pieces)
    if pattern.endswith("/"):
        expression = expression.removesuffix("/") + "(/.*)?" if rest else ".*"
    return re.fullmatch(expression, below) is not None
