"""``hdrs-hpc imaging``: stage a folder into a sealed copy, and look at it, without a broker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_DEST = click.argument("dest", type=click.Path(path_type=Path))
_SECRET = click.option(
    "--secret",
    "secret_file",
    type=click.Path(path_type=Path),
    required=True,
    help="File with the 32-byte secret.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Write the result as JSON.")


@click.group("imaging")
def imaging() -> None:
    """Turn DICOM series and slides into sealed, de-identified Zarr.

    \b
    Example:
      hdrs-hpc imaging secret new my.secret
      hdrs-hpc imaging stage /archive/ct ./copy --secret my.secret
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
@click.argument("src", type=click.Path(path_type=Path))
@_DEST
@_SECRET
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
@click.option("--max-failed", type=click.IntRange(0), help="Seal nothing if more items than this are broken.")
@click.option("--workers", type=click.IntRange(1, 256), help="Parsers and writers; default: one per core.")
@_JSON
def stage(
    src: Path,
    dest: Path,
    secret_file: Path,
    profile: str | None,
    reports: tuple[Path, ...],
    select: tuple[str, ...],
    max_failed: int | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Stage the folder SRC into a sealed copy in the new folder DEST.

    Interrupted, the same command goes on where it stopped.

    \b
    Example:
      hdrs-hpc imaging stage /archive/ct ./copy --secret my.secret --select Modality=CT --report report.html
    """
    import os

    from connectors.sources.folder import FolderSource
    from imaging import standalone
    from imaging.deid import profiles
    from imaging.staging.engine import StagePlan

    key = standalone.read_secret(secret_file)
    plan = StagePlan(
        kind=profiles.load(profile).kind if profile else "any",
        profile=profile or "",
        deid_key=standalone.deid_key(key),
        select=_selected(select),
        max_failed=2**63 if max_failed is None else max_failed,
        workers=workers or len(os.sched_getaffinity(0)),
    )
    with _bar() as bar:
        follow = _Follow(bar)
        report = standalone.stage_folder(
            FolderSource(src), dest, key, plan, scanned=follow.scanned, progress=follow.staged
        )
    summary = {**report.as_dict(), "seconds": round(report.seconds, 2)}
    for path in reports:
        text = report.as_html() if path.suffix == ".html" else json.dumps(summary, indent=2) + "\n"
        path.write_text(text, "utf-8")
    if as_json:
        click.echo(json.dumps(summary))
        return
    staged = summary["staged"]
    click.echo(
        f"Staged {staged['volumes']} volumes and {staged['slides']} slides of {staged['patients']} patients "
        f"from {staged['items']} of {report.items_in} items in {report.seconds:.1f} s."
    )
    for code, refusal in summary["refused"].items():
        click.echo(f"  {refusal['count']:>6} {code}{' (failed)' if refusal['failed'] else ''}")


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

    found = standalone.verify(dest, standalone.read_secret(secret_file))
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
            f"Whole and unchanged: {found.items} items, {found.objects} objects, {found.plaintext_bytes} bytes; "
            f"manifest {found.manifest_digest}."
        )


@imaging.command("inspect")
@_DEST
@click.argument("item", required=False)
@_SECRET
@click.option("--png", "png", type=click.Path(path_type=Path), required=True, help="Where to draw it.")
def inspect(dest: Path, item: str | None, secret_file: Path, png: Path) -> None:
    """Draw one ITEM of the copy (by default the first): slices of a volume, or a slide's thumbnail.

    The picture shows a patient's image: treat it as you treat the archive.

    \b
    Example:
      hdrs-hpc imaging inspect ./copy series/0cn3pecg --secret my.secret --png look.png
    """
    import zarr

    from hdrs_hpc.sealing.zarr_store import SealedStore
    from imaging import pictures, standalone

    copy = standalone.open_copy(dest, standalone.read_secret(secret_file))
    chosen = _choose(copy.items(), item)
    picture = pictures.draw(zarr.open_group(SealedStore(copy), path=chosen, mode="r"))
    picture.save(png, "PNG")
    click.echo(f"Drew {chosen} to {png}.")


@imaging.command("index")
@_DEST
@_SECRET
@_JSON
def index(dest: Path, secret_file: Path, as_json: bool) -> None:
    """List what the copy holds: one row a volume or slide.

    \b
    Example:
      hdrs-hpc imaging index ./copy --secret my.secret --json
    """
    from imaging import standalone
    from imaging.layout import INDEX
    from imaging.staging import index as tables

    copy = standalone.open_copy(dest, standalone.read_secret(secret_file))
    rows: list[dict[str, Any]] = tables.from_bytes(copy.read(INDEX)).to_pylist()
    if as_json:
        click.echo(json.dumps(rows, default=str))
        return
    shown = ("item", "modality", "body_part", "axes", "shape", "study_date")
    lines = [tuple(name.replace("_", " ") for name in shown)]
    lines += [tuple(_cell(row[name]) for name in shown) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _choose(items: list[str], wanted: str | None) -> str:
    """The item a person means: none is the first, and a unique beginning of its id is enough."""
    from imaging.standalone import NotACopyError

    found = [
        item
        for item in items
        if wanted is None or item.startswith(wanted) or item.split("/")[1].startswith(wanted)
    ]
    if not found or (wanted is not None and len(found) > 1 and wanted not in found):
        raise NotACopyError(
            "the copy has no such item" if not found else "several items begin like this",
            remedy="`hdrs-hpc imaging index` lists the items.",
        )
    return wanted if wanted in found else found[0]


def _selected(pairs: tuple[str, ...]) -> dict[str, Any]:
    from imaging.staging.selection import SelectionError

    chosen: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key in chosen:
            raise SelectionError("a selection is KEY=VALUE, each key once", where=pair[:60])
        chosen[key] = value if key == "StudyDate" else value.split(",")
    return chosen


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " × ".join(f"{part:g}" for part in value)
    return "" if value is None else str(value)


def _bar() -> Bar:
    """A progress bar on standard error, so that --json stays clean."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        TextColumn("{task.fields[items]}"),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


class _Follow:
    """Turns the engine's progress into one bar a phase."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._tasks: dict[str, Any] = {}

    def scanned(self, items: int, size: int) -> None:
        self._show("scan", f"{items} items", size, None)

    def staged(self, progress: Any) -> None:
        items = f"{progress.items_done}/{progress.items_total}"
        self._show(progress.phase, items, progress.bytes_done, progress.bytes_total)

    def _show(self, phase: str, items: str, done: int, total: int | None) -> None:
        if phase not in self._tasks:
            self._tasks[phase] = self._bar.add_task(phase, items=items, total=total)
        self._bar.update(self._tasks[phase], completed=done, total=total, items=items)
