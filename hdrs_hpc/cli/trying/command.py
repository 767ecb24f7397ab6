"""``hdrs-hpc try``: run a job's own code here, on made-up data, and tell what the airlock would say."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdrs_hpc.cli import options, show
from hdrs_hpc.core.errors import BadDocumentError, ConflictError, NotAllowedError, SiteError

if TYPE_CHECKING:
    from hdrs_hpc.cli.trying.airlock import Verdict
    from hdrs_hpc.cli.trying.attempt import Ended
    from hdrs_hpc.cli.trying.copies import MadeUp
    from hdrs_hpc.cli.trying.known import Known
    from hdrs_hpc.client.specdraft import WrittenSpec

SEED = 7


class KeptThereError(ConflictError):
    code = "try-folder-in-use"
    meaning = "The folder for the outputs of a try exists and is not empty."
    remedy = "Give another folder with `--keep`, or remove it."


@dataclass
class Outcome:
    """All that is told of one try."""

    reason: str | None = None
    """The code with which the job would end; None where something would go to the reviewers."""
    detail: dict[str, Any] = field(default_factory=dict)
    outputs: list[Verdict] = field(default_factory=list)
    undeclared: bool = False
    rules: str = ""
    code_s: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        if self.reason is None:
            return 0
        if self.reason == "nothing-releasable":
            return NotAllowedError.exit_code
        site = self.reason.startswith("agent-stopped-") or self.reason == "sandbox-failed"
        return SiteError.exit_code if site else ConflictError.exit_code

    def as_dict(self) -> dict[str, Any]:
        return {
            "reason": self.reason,
            "detail": self.detail,
            "outputs": [verdict.as_dict() for verdict in self.outputs],
            "undeclared": self.undeclared,
            "rules": self.rules,
            "seconds": round(self.code_s, 2),
            "notes": self.notes,
        }


@click.command("try")
@click.argument("spec_file", type=options.FILE, default="spec.yaml")
@click.option(
    "--runtime",
    type=click.Path(exists=True, path_type=Path),
    help="A runtime file or its folder.  [default: what is installed here]",
)
@click.option(
    "--keep", type=options.FOLDER, help="Leave what was written, and what would be released, in this folder."
)
@click.option("--seed", type=click.IntRange(0, 1 << 31), default=SEED, help="Other numbers make other data.")
@options.context
@options.as_json
@click.pass_context
def try_spec(
    ctx: click.Context,
    spec_file: Path,
    runtime: Path | None,
    keep: Path | None,
    seed: int,
    context: str | None,
    as_json: bool,
) -> None:
    """Run a spec's code on this machine: in the sandbox of a node, on made-up data, with all that it prints.

    The data have the columns, names and attributes of staged ones, and the values that the spec selects; nothing of
    them is anybody's.  Afterwards the outputs go through the airlock's own check.  No broker is asked.

    Exit code 0: something would go to the reviewers. 3: a fault in the spec. 4: all outputs would be refused.
    6: the code failed, or took too much time or memory. 7: this machine can't run it.

    \b
    Example:
      hdrs-hpc spec new first.yaml --workload dask
      hdrs-hpc try first.yaml
    """
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise KeptThereError(where=str(keep))
    draft = _read(ctx, spec_file, as_json=as_json)
    outcome = _try(draft, runtime, keep, seed, context, quiet=as_json)
    if as_json:
        show.emit_json(outcome.as_dict())
    else:
        from hdrs_hpc.cli.trying import view

        view.show_outcome(outcome, keep)
    ctx.exit(outcome.exit_code)


def _read(ctx: click.Context, spec_file: Path, *, as_json: bool) -> WrittenSpec:
    """The spec, if its form and its code have no fault but what a new draft leaves to be filled in."""
    from hdrs_hpc.client import speccheck, specdraft
    from hdrs_hpc.documents.models.job_spec import JobSpecDraft
    from hdrs_hpc.documents.unfilled import DraftUnfilledError

    report = speccheck.check(spec_file, None)
    faults = [item for item in report.findings if item.code != DraftUnfilledError.code]
    if faults:
        from dataclasses import replace

        from hdrs_hpc.cli import specview

        told = replace(report, findings=tuple(faults))
        if as_json:
            show.emit_json(told.as_dict())
        else:
            specview.show_report(told, error=True)
        ctx.exit(told.exit_code or BadDocumentError.exit_code)
    for item in report.warnings:
        click.echo(f"! {item.where}: {item.message}", err=True)
    value, lines = specdraft.read(spec_file)
    return specdraft.WrittenSpec(spec_file, value, lines, JobSpecDraft.from_value(value))


def _try(
    draft: WrittenSpec, runtime: Path | None, keep: Path | None, seed: int, login: str | None, *, quiet: bool
) -> Outcome:
    from hdrs_hpc.cli.trying import attempt, copies, interpreter, known
    from hdrs_hpc.confined import table
    from hdrs_hpc.confined.starting import works

    outcome = Outcome()
    facts = known.of_project(draft.path, draft.draft.project, login)
    inputs = _inputs(draft, facts, seed, outcome)
    size = attempt.fitted(draft)
    outcome.notes += [f"this machine gives {text}" for text in size.less]
    if draft.draft.inputs:
        outcome.notes.append(f"a try has no `inputs`: {', '.join(draft.draft.inputs)} will not be found")
    sandbox = next(row for row in table.SANDBOXES if row.tried and works(row.provider))
    if not sandbox.provider.separates:
        outcome.notes.append(
            "there is no bubblewrap here, so the code is not shut in: it may find files and a network that a node "
            "does not have"
        )
    with tempfile.TemporaryDirectory(prefix="hdrs-try-python-") as made:
        python = (
            interpreter.from_file(runtime, copies.cache_folder())
            if runtime
            else interpreter.installed(Path(made, "runtime"))
        )
        _begin(draft, facts, inputs, python.told, sandbox.provider.name, outcome)
        sys.stdout.flush()
        began = time.monotonic()
        output = sys.stderr.fileno() if quiet else None
        with attempt.run(draft, inputs, python, size, sandbox.gives, output=output) as ended:
            outcome.code_s = time.monotonic() - began
            _conclude(outcome, draft, ended, facts, inputs, keep)
    return outcome


def _inputs(draft: WrittenSpec, facts: Known, seed: int, outcome: Outcome) -> dict[str, MadeUp]:
    from hdrs_hpc.cli.trying import copies
    from hdrs_hpc.cli.trying.recipe import recipe

    made = {}
    for name, use in draft.draft.data.items():
        wanted, unknown = recipe(use, facts.grant, facts.kinds.get(use.dataset), seed)
        made[name] = copies.prepare(wanted, copies.cache_folder())
        if unknown:
            outcome.notes.append(
                f"made-up data know nothing of {', '.join(unknown)}, by which {name} selects"
            )
    return made


def _begin(
    draft: WrittenSpec, facts: Known, inputs: dict[str, MadeUp], python: str, sandbox: str, outcome: Outcome
) -> None:
    """Said before the code runs, on standard error: its own words are on standard output."""
    for name, made in inputs.items():
        rows = made.rows()
        kinds = Counter((row["modality"], row["kind"]) for row in rows)
        told = [_counted(number, *of) for of, number in kinds.items()]
        people = len({row["patient"] for row in rows} - {None})
        told += [f"of {show.count(people, 'patient')}"] if people else []
        click.echo(f"{name}: made up for {draft.draft.data[name].dataset}: {', '.join(told)}", err=True)
    click.echo(f"Python: {python}; sandbox: {sandbox}; {facts.told}", err=True)
    for note in outcome.notes:
        click.echo(f"! {note}", err=True)


def _counted(number: int, modality: str | None, kind: str) -> str:
    return show.count(number, f"{modality} {kind}" if modality else kind)


def _conclude(
    outcome: Outcome,
    draft: WrittenSpec,
    ended: Ended,
    facts: Known,
    inputs: dict[str, MadeUp],
    keep: Path | None,
) -> None:
    """What became of it, while what came out can still be read."""
    from hdrs_hpc.cli.trying import airlock
    from hdrs_hpc.cli.trying.copies import served
    from hdrs_hpc.core import wire
    from hdrs_hpc.documents.models.job_spec import written

    outcome.reason = ended.reason
    if ended.closing is None or ended.sealed is None:
        return
    outcome.detail = wire.to_value(ended.closing.workload)
    outcome.undeclared = bool(ended.closing.undeclared)
    if ended.reason is not None:
        return
    outcome.rules = (
        f"grant {facts.grant.project} v{facts.grant.version}"
        if facts.grant
        else "a new grant, since the project's are not known here"
    )
    facts_of_inputs = served(inputs.values(), real=facts.real)
    rules = airlock.rules_of(facts.grant)
    outcome.outputs = airlock.judge(draft.draft, ended.closing, ended.sealed, rules, facts_of_inputs)
    if keep is not None:
        airlock.keep(keep, outcome.outputs, written(draft.draft.outputs))
    if all(verdict.refused for verdict in outcome.outputs):
        outcome.reason = "nothing-releasable"
