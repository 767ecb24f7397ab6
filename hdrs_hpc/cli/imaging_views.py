"""``hdrs-hpc imaging inspect``, ``sheet`` and ``index``: look at what a sealed copy holds."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdrs_hpc.cli import show

if TYPE_CHECKING:
    import pyarrow as pa

DEST = click.argument("dest", type=click.Path(path_type=Path))
SECRET = click.option(
    "--secret",
    "secret_file",
    type=click.Path(path_type=Path),
    required=True,
    help="File with the 32-byte secret.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Write the result as JSON.")
_CONDITION = re.compile(r"([a-z_]+)(<=|>=|!=|=|<|>)(.+)\Z")


def out_file(path: Path, option: str) -> None:
    """Refuse, before any work is done, a file that could not be written when it is."""
    if path.is_dir():
        raise click.BadParameter(f"{path} is a folder", param_hint=option)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        missing = (
            "can't be written to"
            if path.exists() or path.parent.is_dir()
            else "is in no folder that is there"
        )
        raise click.BadParameter(f"{path} {missing}", param_hint=option)


@click.command("inspect")
@DEST
@click.argument("item", required=False)
@SECRET
@click.option("--png", "png", type=click.Path(path_type=Path), required=True, help="Where to draw it.")
@click.option(
    "--size",
    type=click.IntRange(64, 4096),
    default=768,
    show_default=True,
    help="Pixels of the picture's longer side.",
)
@JSON
def inspect(dest: Path, item: str | None, secret_file: Path, png: Path, size: int, as_json: bool) -> None:
    """Draw one ITEM of the copy (by default the first): slices of a volume, or a whole slide.

    The picture shows a patient's image: treat it as you treat the archive.

    \b
    Example:
      hdrs-hpc imaging inspect ./copy series/0cn3pecg --secret my.secret --png look.png
    """
    import zarr

    from hdrs_hpc.sealing.zarr_store import SealedStore
    from imaging import pictures, standalone
    from imaging.slide_picture import slide_pixels
    from imaging.staging.pool import ParserPool

    out_file(png, "--png")
    copy = standalone.open_copy(dest, standalone.read_secret(secret_file))
    chosen = _choose(copy.items(), item)
    group = zarr.open_group(SealedStore(copy), path=chosen, mode="r")
    if pictures.is_slide(group):
        with ParserPool(1) as parsers:
            picture = pictures.draw_slide(slide_pixels(group, size, copy.read, parsers), size)
    else:
        picture = pictures.draw(group, size)
    picture.save(png, "PNG")
    if as_json:
        drawn = {"width": picture.width, "height": picture.height}
        click.echo(json.dumps({"item": chosen, "png": str(png), **drawn}))
    else:
        click.echo(f"Drew {chosen} to {png}.")


@click.command("sheet")
@DEST
@SECRET
@click.option("--held", is_flag=True, help="The images that were held for a person, instead of those staged.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="A new folder for the pages.",
)
@JSON
def sheet(dest: Path, secret_file: Path, held: bool, out: Path, as_json: bool) -> None:
    """Draw the contact sheet of the copy in DEST, page by page, as PNG files.

    The pages show patients' images: look, then delete them.  With --held there is also a release.json: move the
    numbers of images that show nobody from "held" to "items" and stage again with --release into a new folder.

    \b
    Example:
      hdrs-hpc imaging sheet ./copy --secret my.secret --out ./pages
      hdrs-hpc imaging sheet ./copy --secret my.secret --held --out ./held
    """
    from imaging import standalone
    from imaging.staging.contact_sheet import FOLDER, HELD_LIST

    secret = standalone.read_secret(secret_file)
    copy = standalone.open_held(dest, secret) if held else standalone.open_copy(dest, secret)
    pages = [path for path in copy.paths() if path.startswith(f"{FOLDER}/")]
    if not pages:
        raise standalone.NoContactSheetError(where=str(dest))
    if out.exists() and any(out.iterdir()):
        raise click.UsageError("Name a new or empty folder for the pages.")
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in pages:
        (out / path.rpartition("/")[2]).write_bytes(copy.read(path))
    if held:
        (out / "release.json").write_bytes(copy.read(HELD_LIST))
    if as_json:
        click.echo(json.dumps({"pages": len(pages), "out": str(out)}))
    else:
        click.echo(
            f"Drew {show.count(len(pages), 'page')} to {out}. They show patients' images: delete them when you have "
            "looked."
        )


@click.command("index")
@DEST
@SECRET
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Only such rows; also != < <= > >=, and several values as A,B.  Repeated, all must hold.",
)
@JSON
def index(dest: Path, secret_file: Path, conditions: tuple[str, ...], as_json: bool) -> None:
    """List what the copy holds: one row an item.

    \b
    Example:
      hdrs-hpc imaging index ./copy --secret my.secret --json
      hdrs-hpc imaging index ./copy --secret my.secret --where modality=CT,PT --where n_slices>=100
    """
    from imaging import standalone
    from imaging.layout import INDEX
    from imaging.staging import index as tables

    copy = standalone.open_copy(dest, standalone.read_secret(secret_file))
    rows: list[dict[str, Any]] = _filtered(tables.from_bytes(copy.read(INDEX)), conditions).to_pylist()
    if as_json:
        click.echo(json.dumps(rows, default=str))
        return
    shown = ("item", "kind", "patient", "modality", "body_part", "axes", "shape", "study_date")
    lines = [tuple(name.replace("_", " ") for name in shown)]
    lines += [tuple(_cell(row[name]) for name in shown) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    patients = len({row["patient"] for row in rows if row["patient"]})
    click.echo(f"{show.count(len(rows), 'item')}{show.of_patients(patients)}.")


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


def _filtered(table: pa.Table, conditions: tuple[str, ...]) -> pa.Table:
    """Rows for which every ``COLUMN=VALUE`` holds; an empty cell fulfils none but ``!=``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    compare = {"<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal}
    for condition in conditions:
        found = _CONDITION.match(condition)
        if (
            found is None
            or found[1] not in table.column_names
            or pa.types.is_nested(table.schema.field(found[1]).type)
        ):
            raise click.BadParameter(
                f"{condition!r} is not COLUMN=VALUE of a column of the index", param_hint="--where"
            )
        column, operator, values = table.column(found[1]), found[2], found[3].split(",")
        try:
            wanted = pa.array(values).cast(column.type)
        except pa.ArrowInvalid:
            raise click.BadParameter(
                f"{condition!r} has a value of another type", param_hint="--where"
            ) from None
        if operator in compare:
            mask = pc.fill_null(compare[operator](column, wanted[0]), False)
        else:
            mask = pc.is_in(column, value_set=wanted)
            mask = pc.invert(mask) if operator == "!=" else mask
        table = table.filter(mask)
    return table


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " × ".join(f"{part:g}" for part in value)
    return "" if value is None else str(value)
