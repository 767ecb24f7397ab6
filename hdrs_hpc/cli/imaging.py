"""``hdrs-hpc imaging``: stage a source into a sealed copy and check it, without a broker."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import click

from hdrs_hpc.cli import imaging_views, show
from hdrs_hpc.cli.imaging_bars import Bars
from hdrs_hpc.cli.imaging_plan import tell_plan
from hdrs_hpc.cli.imaging_pseudonym import pseudonym
from hdrs_hpc.cli.imaging_views import DEST as _DEST
from hdrs_hpc.cli.imaging_views import JSON as _JSON
from hdrs_hpc.cli.imaging_views import SECRET as _SECRET
from hdrs_hpc.cli.imaging_views import out_file


@click.group("imaging")
def imaging() -> None:
    """Turn DICOM series and slides into sealed, de-identified Zarr.

    \b
    Example:
      hdrs-hpc imaging secret new my.secret
      hdrs-hpc imaging stage /archive/ct ./copy --secret my.secret --opt-out opted-out.txt
    """


@imaging.group("secret")
def secret() -> None:
    """Secrets for use without a broker.

    \b
    Example:
      hdrs-hpc imaging secret new my.secret
    """


@secret.command("new")
@click.argument("file", type=click.Path(path_type=Path))
def secret_new(file: Path) -> None:
    """Write a new 32-byte secret to FILE, readable by you only.

    \b
    Example:
      hdrs-hpc imaging secret new my.secret
    """
    from imaging.standalone import new_secret

    new_secret(file)
    click.echo(f"Wrote {file}. Copies staged under it can't be read without it: keep it safe and apart.")


@imaging.command("stage")
@click.argument("src")
@click.argument("dest", type=click.Path(path_type=Path), required=False)
@_SECRET
@click.option(
    "--plan",
    "only_plan",
    is_flag=True,
    help="Read headers only and tell what would be staged, what not and why, and what it would take; write nothing.",
)
@click.option("--profile", help="De-identification profile; by default the basic one of each kind.")
@click.option(
    "--report",
    "reports",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Also write the report here: a page for people if it ends in .html, else JSON.  May be repeated.",
)
@click.option(
    "--select", "select", multiple=True, metavar="K=V", help="E.g. Modality=CT,MR; may be repeated."
)
@click.option(
    "--opt-out",
    type=click.Path(path_type=Path),
    help="Patients to leave out: one id a line, or ISSUER|ID.  This or --no-opt-out is required.",
)
@click.option(
    "--no-opt-out", metavar="REASON", help="Nobody opted out, for this reason; it stands in the report."
)
@click.option(
    "--cohort", type=click.Path(path_type=Path), help="The only patients to take, in the same form."
)
@click.option(
    "--columns",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Of tables: a YAML file with the columns to keep and their rules.",
)
@click.option("--max-failed", type=click.IntRange(0), help="Seal nothing if more items than this are broken.")
@click.option(
    "--burned-in",
    type=click.Choice(["blank", "hold", "refuse"]),
    default="refuse",
    show_default=True,
    help="Of images that may carry burned-in text: blank the places, hold for a person, or refuse.",
)
@click.option(
    "--find-text", is_flag=True, help="Search every image for text, also where no rule suspects any."
)
@click.option("--deface", is_flag=True, help="Remove the face from head scans.")
@click.option(
    "--release",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Items that a person approved: the release.json of `imaging sheet --held`, filled in.",
)
@click.option(
    "--items",
    "items_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write which file became which item, or why not: .csv, .jsonl or .parquet, for you only (0600). It names "
    "patients: keep it in the data zone.",
)
@click.option(
    "--from",
    "earlier",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="An earlier copy under the same secret: what is unchanged is taken over from it, not decoded again.",
)
@click.option("--contact-sheet", is_flag=True, help="Draw thumbnails of all items into the copy, for review.")
@click.option("--workers", type=click.IntRange(1, 256), help="Parsers and writers; default: one per core.")
@click.option(
    "--memory",
    metavar="SIZE",
    help="Bound on decoded data, such as 8GiB; default: half of memory, 4GiB at most.",
)
@click.option(
    "--dask",
    "scheduler",
    default="threads",
    show_default=True,
    metavar="WHERE",
    help="Where images are decoded: threads, processes, or a Dask cluster tls://HOST:PORT in the data zone.",
)
@click.option(
    "--dask-tls",
    nargs=3,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="CA CERT KEY",
    help="PEM files for that cluster.",
)
@_JSON
def stage(
    src: str,
    dest: Path | None,
    secret_file: Path,
    only_plan: bool,
    profile: str | None,
    reports: tuple[Path, ...],
    select: tuple[str, ...],
    opt_out: Path | None,
    no_opt_out: str | None,
    cohort: Path | None,
    columns: Path | None,
    max_failed: int | None,
    burned_in: Literal["blank", "hold", "refuse"],
    find_text: bool,
    deface: bool,
    release: Path | None,
    items_file: Path | None,
    earlier: Path | None,
    contact_sheet: bool,
    workers: int | None,
    memory: str | None,
    scheduler: str,
    dask_tls: tuple[Path, Path, Path] | None,
    as_json: bool,
) -> None:
    """Stage the source SRC into a sealed copy in the new folder DEST, which --plan does without.

    SRC is a folder, a DICOMDIR, a zip file, an address (`s3://`, `sftp://`, `dicomweb+https://` …), or a YAML file
    that describes a source.  Interrupted, the same command goes on where it stopped, and the copy comes out the
    same.  What can't be staged is a line of the report, never an error.

    \b
    Example:
      hdrs-hpc imaging stage /archive/ct --secret my.secret --opt-out opted-out.txt --plan
      hdrs-hpc imaging stage /archive/ct ./copy --secret my.secret --opt-out opted-out.txt --select Modality=CT
      hdrs-hpc imaging stage /archive/us ./us --secret my.secret --opt-out opted-out.txt --burned-in hold
      hdrs-hpc imaging stage /phantoms ./qa --secret my.secret --no-opt-out "phantoms only" --report report.html
      hdrs-hpc imaging stage /extract ./outcomes --secret my.secret --opt-out opted-out.txt --columns columns.yaml
      hdrs-hpc imaging stage /archive/ct ./copy-2 --secret my.secret --opt-out opted-out.txt --from ./copy
    """
    import contextlib
    import os

    if only_plan:
        if items_file is not None or earlier is not None or any(path.suffix == ".html" for path in reports):
            raise click.UsageError("--plan goes without --items, --from and a report in HTML.")
    elif dest is None:
        raise click.UsageError("Missing argument 'DEST'.")
    from imaging.staging.pool import ParserPool

    if (opt_out is None) == (no_opt_out is None):
        raise click.UsageError(
            "Say who opted out, in one of two ways: --opt-out FILE, or --no-opt-out REASON where nobody did."
        )
    workers = workers or len(os.sched_getaffinity(0))
    parsers = click.get_current_context().with_resource(ParserPool(workers))
    if scheduler == "threads":
        parsers.start()  # they load their libraries while this process loads its own

    from connectors.sources.opening import open_source
    from hdrs_hpc.core import strict_yaml
    from imaging import standalone
    from imaging.deid import profiles
    from imaging.deid.keyed import DeidKey
    from imaging.staging import patient_list_file, patient_lists, release_list
    from imaging.staging.engine import StagePlan
    from imaging.staging.items_map import ItemsMap
    from imaging.staging.scheduling import ClusterTls, Where
    from imaging.standalone.staging import stage_folder

    for path in reports:
        out_file(path, "--report")
    if earlier is not None and dest is not None and earlier.resolve() == dest.resolve():
        raise click.BadParameter("the new copy needs a folder of its own", param_hint="--from")
    if items_file is not None:
        out_file(items_file, "--items")
        if dest is not None and items_file.resolve().is_relative_to(dest.resolve()):
            raise click.BadParameter("it names patients and may not lie in the copy", param_hint="--items")
    key = standalone.read_secret(secret_file)
    released_of, released = release_list.parse(release.read_bytes()) if release else ("", frozenset())
    deid = DeidKey(standalone.deid_key(key))
    plan = StagePlan(
        kind=profiles.load(profile).kind if profile else "any",
        profile=profile or "",
        deid_key=standalone.deid_key(key),
        select=_selected(select),
        opt_out=patient_lists.OptOut.nobody(deid, no_opt_out or "")
        if opt_out is None
        else patient_lists.OptOut.of(deid, patient_list_file.read(opt_out)),
        cohort=patient_lists.cohort_hashes(deid, patient_list_file.read(cohort)) if cohort else None,
        columns=strict_yaml.load(columns.read_bytes())[0] if columns else {},
        max_failed=2**63 if max_failed is None else max_failed,
        workers=workers,
        burned_in=burned_in,
        find_text=find_text,
        deface=deface,
        released=released,
        released_of=released_of,
        contact_sheet=contact_sheet,
        where=Where(scheduler, ClusterTls(*dask_tls) if dask_tls else None),
    )
    if memory is not None:
        plan = replace(plan, memory_bytes=_size(memory))
    if dest is None or only_plan:
        tell_plan(open_source(src), plan, parsers, reports, as_json)
        return
    with contextlib.closing(open_source(src)) as source, Bars() as bars:
        unreadable: Counter[str] = Counter()
        origins = ItemsMap() if items_file is not None else None
        try:
            report = stage_folder(
                source,
                dest,
                key,
                plan,
                scanned=bars.scanned,
                progress=bars.staged,
                unreadable=lambda code: unreadable.update([code]),
                parsers=parsers,
                origins=origins,
                earlier=earlier,
            )
        except KeyboardInterrupt:
            click.echo("\nThe same command goes on where it stopped.", err=True)
            raise
    if items_file is not None and origins is not None:
        origins.write(items_file)
    summary = report.as_run()
    for path in reports:
        text = report.as_html() if path.suffix == ".html" else json.dumps(summary, indent=2) + "\n"
        path.write_text(text, "utf-8")
    if as_json:
        click.echo(json.dumps(summary))
        return
    kinds = [show.count(count, kind.removesuffix("s")) for kind, count in report.staged.items() if count]
    staged = ", ".join(kinds) or "nothing"
    rates = summary["run"]
    click.echo(
        f"Staged {staged}{show.of_patients(report.patients)} from {report.staged_items} of "
        f"{show.count(report.items_in, 'item')} "
        f"in {report.seconds:.1f} s ({rates['items-per-second']:g} items/s, "
        f"{rates['bytes-per-second'] / 1e6:.1f} MB/s)."
    )
    told = summary["opt-out"]
    click.echo(
        f"  opt-out list of {f'up to {told["about"]} patients' if told['about'] else 'nobody'}, {told['list']}"
    )
    if earlier is not None:
        click.echo(
            f"Took {show.count(report.taken_over, 'item')} of {sum(report.staged.values())} over from {earlier}."
        )
    for code, refusal in summary["refused"].items():
        named = ", ".join(f"{name}: {count}" for name, count in refusal.get("details", {}).items())
        how = " (failed)" if refusal["failed"] else " (skipped)" if code == "not-imaging" else ""
        click.echo(f"  {refusal['count']:>6} {code}{how}{f': {named}' if named else ''}")
    for code, count in sorted(unreadable.items()):
        click.echo(f"  {count:>6} {code} (the source lists them and can't give them)")
    if "burned-in-annotation" in report.refused and burned_in == "refuse":
        click.echo(
            "Images that may show text: --burned-in hold or blank takes them in, see docs/burned-in-text.md"
        )
    if "held-for-person" in report.refused:
        click.echo(
            f"Look at what is held: hdrs-hpc imaging sheet {dest} --held --secret {secret_file} --out FOLDER"
        )


@imaging.command("verify")
@_DEST
@_SECRET
@_JSON
def verify(dest: Path, secret_file: Path, as_json: bool) -> None:
    """Read the whole copy in DEST and authenticate every byte of it.

    \b
    Example:
      hdrs-hpc imaging verify ./copy --secret my.secret
    """
    from imaging import standalone

    with Bars() as bars:
        found = standalone.verify(dest, standalone.read_secret(secret_file), bars.verified)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "items": found.items,
                    "objects": found.objects,
                    "plaintext-bytes": found.plaintext_bytes,
                    "manifest": found.manifest_digest,
                }
            )
        )
    else:
        click.echo(
            f"Whole and unchanged: {show.count(found.items, 'item')}, {show.count(found.objects, 'object')}, "
            f"{found.plaintext_bytes} bytes; "
            f"manifest {found.manifest_digest}."
        )


for command in (imaging_views.inspect, imaging_views.sheet, imaging_views.index, pseudonym):
    imaging.add_command(command)


def _selected(pairs: tuple[str, ...]) -> dict[str, Any]:
    from imaging.staging.selection import Selection, SelectionError

    chosen: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key in chosen:
            raise SelectionError("a selection is KEY=VALUE, each key once", where=pair[:60])
        chosen[key] = value if key == "StudyDate" else value.split(",")
    Selection.parse(chosen)  # before the source is read, which may take hours
    return chosen


def _size(text: str) -> int:
    from hdrs_hpc.forms.words import BadSizeError, parse_size

    try:
        return parse_size(text)
    except ValueError:
        raise BadSizeError(where="--memory") from None
