"""All reason codes of the whole program, gathered for ``explain`` and ``docs/reason-codes.md``.

``explain`` reads the gathered table from ``reason_codes.json`` beside this file, so that a laptop without the
broker's parts can explain what a broker answers.  ``python -m hdrs_hpc.cli.reference`` writes it.
"""

from __future__ import annotations

import json
import pkgutil
from dataclasses import asdict, dataclass
from importlib import import_module, resources

TABLE = "reason_codes.json"
_PACKAGES = ("hdrs_hpc", "connectors", "imaging", "benchmarks")
_SKIPPED = (
    "__main__",
    "migrations",
    "contract",
    "reference",
    "torch_data",
    "torch_loading",
    "torch_ranks",
    "training",
)
"""Modules that run when they are imported, that only tests import, or that need torch; none defines a code."""


@dataclass(frozen=True)
class Reason:
    """One meaning of a code.  ``group`` says where it appears; errors have a kind, the others none."""

    code: str
    group: str
    meaning: str
    remedy: str
    kind: str | None = None
    exit_code: int | None = None
    retry: bool = False


END, WAIT, LOOK, LEFT = "end of a job", "a job waits", "finding of the output check", "output not collected"
CODE = "finding of spec check"
_NOTHING = "Nothing to do; it is told so that nobody wonders."
OTHERS: tuple[tuple[str, str, str, str], ...] = (
    (END, "released", "What the reviewers approved has left.", "`hdrs-hpc job fetch JOB`."),
    (END, "withheld", "The reviewers did not all approve, so nothing left.", "Ask why, mend it, run again."),
    (
        END,
        "kept",
        "All that the job made stays in the project, for later jobs.",
        "Name it under `inputs:`; `hdrs-hpc project show` lists it.",
    ),
    (
        END,
        "nothing-releasable",
        "The output check refused every output.",
        "`hdrs-hpc job show JOB` tells why of each.",
    ),
    (
        END,
        "reviewers-withhold",
        "Not every reviewer approved this output.",
        "Their reasons say what to mend.",
    ),
    (
        END,
        "review-too-late",
        "The project's grace for reviews ended before all had decided.",
        "Nothing can be mended.",
    ),
    (
        END,
        "workload-failed",
        "Your code ended with an error.",
        "`hdrs-hpc job show JOB` tells the exception's type and the line of your bundle.",
    ),
    (END, "time-limit", "The job ran into its time limit.", "Ask for more `resources.time`, or do less."),
    (
        END,
        "out-of-memory",
        "Your code took more memory on a node than the job has; processes and files in memory count together.",
        "Ask for more `resources.mem`, or read less at once and leave less in `/tmp` and the outputs.",
    ),
    (
        END,
        "too-many-processes",
        "Your code had as many processes and threads on a node as it may have: 512, and 64 for each of its CPUs.",
        "Start fewer at a time; a program that forks without end looks like this.",
    ),
    (
        END,
        "no-network",
        "Your code reached for an address, and a job has no network: its sandbox holds loopback only.",
        "Put what it would fetch into the bundle or under `inputs:`; `hdrs-hpc spec check` names such lines.",
    ),
    (
        END,
        "process-killed",
        "A process of the training was ended by a signal, and so the others were ended too.",
        "Signal 9 is mostly memory, 11 a library's crash, 6 a collective that nobody answered; try one process less.",
    ),
    (
        END,
        "process-exited",
        "A process of the training ended itself, as with os._exit, and so the others were ended too.",
        "Return from the entry, or raise an exception: its type and line are told.",
    ),
    (
        END,
        "process-ended-early",
        "A process of the training came back from the entry while others waited for it.",
        "Give each process the same number of steps; `job show` tells the line at which one waited.",
    ),
    (
        END,
        "process-not-joined",
        "A process of the training did not come to the rendezvous within five minutes.",
        "What your modules do when they are imported is part of it; submit again if the node was slow.",
    ),
    (
        END,
        "program-not-run",
        "The node does not run the command's program: of another processor, or its interpreter is not there.",
        "Name an interpreter that nodes have in the line that begins with #!, or build it for their processor.",
    ),
    (
        END,
        "materialised-too-large",
        "What a command needs as files is larger than `materialise-size`, or than half of the job's memory.",
        "Ask for more of both, select fewer data, or read them by `imaging.reading.open_staged`, which copies nothing.",
    ),
    (
        END,
        "node-failed",
        "The node ended without the agent's closing list: it crashed, or the job was killed, often for its memory.",
        "Ask for more `resources.mem` if the job needs much, and submit again; tell the site if it stays so.",
    ),
    (END, "cancelled", "Somebody of the project cancelled the job.", _NOTHING),
    (END, "grant-revoked", "The custodians took the grant back.", "Ask the custodian."),
    (END, "project-closing", "The project is closing, so its copies are destroyed.", _NOTHING),
    (
        END,
        "copy-superseded",
        "A newer grant version replaced the data that this copy was being made of.",
        "Submit again: a copy by the present grant is staged.",
    ),
    (
        END,
        "grant-superseded",
        "A newer grant version no longer gives the job what it was admitted for.",
        "See `hdrs-hpc project show`, change the spec, submit again.",
    ),
    (END, "copy-destroyed", "A staged copy that the job needed was destroyed.", "Submit again."),
    (
        END,
        "handover-timeout",
        "Not every node had its keys in time.",
        "Submit again; `cluster doctor` looks for causes.",
    ),
    (CODE, "bundle-syntax", "Python cannot read a file of the bundle.", "Mend the line that is named."),
    (
        CODE,
        "entry-not-in-module",
        "The entry's module defines no function of that name.",
        "Write `entry: package.module:function`.",
    ),
    (
        CODE,
        "output-not-in-spec",
        "The code writes an output that the spec does not declare.",
        "Declare it under `outputs:`; what is not declared is never collected.",
    ),
    (
        CODE,
        "import-unknown",
        "The code imports what neither its bundle nor the node runtime is known to have.",
        "Put it into the bundle, or use what nodes have. It warns only: some imports are never reached.",
    ),
    (
        CODE,
        "modality-unknown",
        "The spec selects by a modality that DICOM does not have.",
        "Write one such as CT or MR. It warns only: a dataset may have words of its own.",
    ),
    (
        CODE,
        "count-of-things",
        "A column's words for what it counts name one person, so it is taken for a count of things.",
        "Write the unit of people as `patients` or `people`.",
    ),
    (
        WAIT,
        "cluster-drained",
        "An admin stopped new work for this cluster.",
        "The job goes on when it is opened again.",
    ),
    (
        WAIT,
        "cluster-job-unseen",
        "The cluster accepted the job and does not show it.",
        "It is looked for again.",
    ),
    (
        WAIT,
        "cluster-job-pending",
        "The cluster has the job and does not run it yet; the message says why, in Slurm's sense.",
        "Most reasons pass by themselves; the message says where somebody has to act.",
    ),
    (LOOK, "maybe-nhs-number", "Ten digits pass the NHS number's check.", "Look whether they could be one."),
    (
        LOOK,
        "full-date",
        "Full dates; one known date can unmask a patient's others.",
        "Months or years are safer.",
    ),
    (
        LOOK,
        "treated-as-count",
        "A whole number named like a count was protected as one.",
        "Declare it in `counts`.",
    ),
    (
        LOOK,
        "label-may-be-total",
        "A label equals the sum of others in some groups, and is treated as no total.",
        "Call a row of totals Total.",
    ),
    (LOOK, "extreme-values", "A minimum or maximum is one person's value.", "Percentiles are safer."),
    (
        LOOK,
        "metrics-without-counts",
        "Nothing says how many people these numbers describe.",
        "Declare the count of people among the metrics.",
    ),
    (
        LOOK,
        "whole-numbers-not-counts",
        "Whole numbers that were not declared counts.",
        "Declare them in `counts` if they count people.",
    ),
    (
        LOOK,
        "small-cells-known-would-reveal",
        "Who learned which suppressed counts were small could work one of them out.",
        "Coarser groups protect better.",
    ),
    (
        LEFT,
        "output-missing",
        "The job did not write this declared output.",
        "Write it below the outputs folder.",
    ),
    (LEFT, "output-not-regular", "The output is a link, folder or device.", "Write an ordinary file."),
    (LEFT, "output-linked", "The output has more than one hard link.", "Write an ordinary file."),
    (
        LEFT,
        "output-too-large",
        "The output is larger than it declared.",
        "Declare a larger `max-size`, or write less.",
    ),
    (LEFT, "output-unreadable", "The output could not be read.", "Leave its permissions alone."),
    (
        LEFT,
        "output-changed",
        "The output changed while it was read.",
        "End all processes before the entry returns.",
    ),
)
"""Codes that no error bears and whose words stand nowhere else: ends of jobs, waits, remarks to reviewers."""


def gather() -> list[Reason]:
    """Every code, by import of every module; raises ImportError where a part is not installed."""
    from hdrs_hpc.core.errors import all_errors

    for package in _PACKAGES:
        for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
            if not set(module.name.split(".")) & set(_SKIPPED):
                import_module(module.name)
    from connectors.clusters import endings
    from hdrs_hpc.protocol import progress
    from imaging.staging.refusals import REASONS

    found = [
        Reason(code, "error", cls.meaning, cls.remedy, cls.kind, cls.exit_code, cls.retry)
        for code, cls in all_errors().items()
    ]
    told = {progress.reason_of(stop): words for stop, words in progress.STOPPED.items()} | endings.TOLD
    found += [Reason(code, END, meaning, remedy) for code, (meaning, remedy) in told.items()]
    found += [Reason(item.code, "item not staged", item.meaning, item.remedy) for item in REASONS.values()]
    found += [Reason(code, group, meaning, remedy) for group, code, meaning, remedy in OTHERS]
    return sorted(found, key=lambda reason: (reason.code, reason.group))


def table() -> str:
    """The text of :data:`TABLE`."""
    return json.dumps([asdict(item) for item in gather()], indent=1, ensure_ascii=False) + "\n"


def known() -> list[Reason]:
    """The gathered table as it was installed."""
    raw = resources.files("hdrs_hpc.cli").joinpath(TABLE).read_text("utf-8")
    return [Reason(**item) for item in json.loads(raw)]
