"""``hdrs-hpc opt-out``: who opted out of a dataset, signed by a custodian; copies and jobs follow by themselves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdrs_hpc.cli import options, show

if TYPE_CHECKING:
    from hdrs_hpc.client.session import Session
    from hdrs_hpc.documents.models.opt_out import OptOutAction
    from hdrs_hpc.documents.opt_out_ids import OptOutIds

_DATASET = click.argument("dataset")
_LIST = click.argument("list_", metavar="FILE", type=click.Path(allow_dash=True, path_type=Path))
_REASON = click.option(
    "--reason", required=True, help="Why, in words that name no patient; it is signed and kept."
)


@click.group("opt-out")
def opt_out() -> None:
    """Say who opted out of a dataset; new copies without them replace the old ones by themselves.

    \b
    Example:
      hdrs-hpc opt-out add north-chest-ct withdrawn.txt
      hdrs-hpc opt-out show north-chest-ct
    """


@opt_out.command()
@_DATASET
@_LIST
@options.signing
@options.context
@options.as_json
def add(dataset: str, list_: Path, how: options.Signing, context: str | None, as_json: bool) -> None:
    """Add the patients in FILE (- for standard input) to the list: one id a line, or ISSUER|ID.

    The ids go to the data zone; what is signed and logged names none.  No job begins on a copy that was made before;
    see `opt-out show` for what becomes of the copies and jobs there are.

    \b
    Example:
      hdrs-hpc opt-out add north-chest-ct withdrawn.txt
    """
    entries = _entries(list_)
    session = options.session(context)
    before, (brought, listed) = _look(session, dataset, entries)
    if listed:
        _say(f"{_numbers(entries, listed)}: on the list already")
    if len(listed) == len(brought.ids):
        if as_json:
            show.emit_json({"dataset": dataset, "added": 0, "version": before["version"]})
        else:
            show.done(f"every patient named is on the list of {dataset} already; nothing was signed")
        return
    added = len(brought.ids) - len(listed)
    done = f"{show.count(added, 'patient')} added to the opt-out list of {dataset}"
    _sign(
        session,
        before,
        "add",
        brought,
        None,
        patients=added,
        how=how,
        context=context,
        as_json=as_json,
        done=done,
    )


@opt_out.command()
@_DATASET
@_LIST
@_REASON
@options.signing
@options.context
@options.as_json
def remove(
    dataset: str, list_: Path, reason: str, how: options.Signing, context: str | None, as_json: bool
) -> None:
    """Take the patients in FILE (- for standard input) off the list: their data may be used again.

    \b
    Example:
      hdrs-hpc opt-out remove north-chest-ct mistaken.txt --reason "added in error, confirmed by the opt-out office"
    """
    entries = _entries(list_)
    session = options.session(context)
    before, (brought, listed) = _look(session, dataset, entries)
    absent = [one for one in brought.ids if one not in listed]
    if absent:
        from hdrs_hpc.core.errors import ConflictError

        raise ConflictError(
            f"{_numbers(entries, absent)}: not on the list of {dataset}; nothing was changed",
            remedy="Check how the id was written when it was added, issuer included.",
        )
    done = f"{show.count(len(brought.ids), 'patient')} taken off the opt-out list of {dataset}"
    _sign(
        session,
        before,
        "remove",
        brought,
        reason,
        patients=len(brought.ids),
        how=how,
        context=context,
        as_json=as_json,
        done=done,
    )


@opt_out.command()
@_DATASET
@_REASON
@options.signing
@options.context
@options.as_json
def nobody(dataset: str, reason: str, how: options.Signing, context: str | None, as_json: bool) -> None:
    """State that nobody opted out of the dataset.  Nothing is staged of a dataset of which nobody says who did.

    Whoever was on the list before is taken off it.

    \b
    Example:
      hdrs-hpc opt-out nobody phantoms --reason "images of test objects, no patient in it"
    """
    session = options.session(context)
    before, (brought, _) = _look(session, dataset, [])
    done = f"nobody opted out of {dataset}"
    _sign(
        session,
        before,
        "nobody",
        brought,
        reason,
        patients=len(brought.ids),
        how=how,
        context=context,
        as_json=as_json,
        done=done,
    )


@opt_out.command("show")
@_DATASET
@options.context
@options.as_json
def show_(dataset: str, context: str | None, as_json: bool) -> None:
    """Show the statement in force, and the copies and jobs that it touches.  No id is ever shown.

    \b
    Example:
      hdrs-hpc opt-out show north-chest-ct
    """
    from hdrs_hpc.client import opt_outs
    from hdrs_hpc.client.pages import opt_out_change
    from hdrs_hpc.client.pages.layout import Section

    found = opt_outs.in_force(options.session(context), dataset)
    if as_json:
        show.emit_json(found)
        return
    said = "nobody said who opted out: nothing of it is staged"
    if found["version"]:
        said = f"up to {found['about']} patients" if found["about"] else "nobody opted out"
    show.facts(
        [
            ("dataset", dataset),
            ("opt-outs", said),
            ("version", f"{found['version']}, since {found['accepted-at']}" if found["version"] else None),
            ("list", found["list"]),
            ("statement", found["document"]),
        ]
    )
    show.sections(
        [Section("Copies and jobs", opt_out_change.reached(opt_out_change.OptOutsInForce.from_answer(found)))]
    )


def _entries(path: Path) -> list[str]:
    from imaging.staging import patient_list_file

    if str(path) == "-":
        return patient_list_file.parse(sys.stdin.buffer.read(patient_list_file.MAX_BYTES))
    return patient_list_file.read(path)


def _look(
    session: Session, dataset: str, entries: list[str]
) -> tuple[dict[str, Any], tuple[OptOutIds, list[str]]]:
    from hdrs_hpc.client import opt_outs

    before = opt_outs.in_force(session, dataset)
    return before, opt_outs.bring(session, dataset, entries)


def _sign(
    session: Session,
    before: dict[str, Any],
    action: OptOutAction,
    brought: OptOutIds,
    reason: str | None,
    *,
    patients: int,
    how: options.Signing,
    context: str | None,
    as_json: bool,
    done: str,
) -> None:
    from hdrs_hpc.cli import signing
    from hdrs_hpc.client import opt_outs
    from hdrs_hpc.client.pages import opt_out_change
    from hdrs_hpc.documents import kinds

    kind, root = kinds.OPT_OUT_CHANGE, session.root.document
    envelope, change = opt_outs.statement(session, before, action, brought, reason)
    page = opt_out_change.page(change, opt_out_change.OptOutsInForce.from_answer(before), patients)
    signed = signing.sign_made(kind, envelope, page, how, root=root, context=context)
    out = Path(f"{change.dataset}.opt-out-{change.version}.signed.json")
    signing.file_or_pass_on(kind, signed, session, out=out, as_json=as_json, done=done)


def _numbers(entries: list[str], named: list[str]) -> str:
    """Places in the list, never the ids themselves."""
    wanted = set(named)
    places = [str(place) for place, one in enumerate(entries, start=1) if one in wanted]
    shown = ", ".join(places[:20]) + (f" and {len(places) - 20} more" if len(places) > 20 else "")
    return f"id {shown}" if len(places) == 1 else f"ids {shown}"


def _say(text: str) -> None:
    click.echo(text, err=True)
