"""``hdrs-hpc dataset``: scan approved data where it lies, register the version that was scanned."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdrs_hpc.catalogue.data_kinds import DATA_KINDS
from hdrs_hpc.cli import options, show

if TYPE_CHECKING:
    import pyarrow as pa

    from connectors.sources import Source


@click.group()
def dataset() -> None:
    """Scan and register approved data.

    \b
    Example:
      hdrs-hpc dataset scan north-chest-ct /archive/ct --out scan.json
      hdrs-hpc dataset register --scan scan.json --owner north --kind radiology --sensitivity real
    """


@dataset.command()
@click.argument("name")
@click.argument("source")
@options.home
@click.option("--out", type=options.NEW_FILE, help="Write what was found for `dataset register --scan`.")
@options.as_json
def scan(name: str, source: str, home: Path | None, out: Path | None, as_json: bool) -> None:
    """List and hash every item of a source, in the data zone; the digest of the list is the version.

    SOURCE is a folder, a .zip file, a DICOMDIR, an address (dicomweb+https, dimse, dimses, s3, sftp), or a
    .yaml file that describes one; docs/sources.md shows each.

    The list itself stays in the broker's home, since file names can tell about patients.

    \b
    Example:
      hdrs-hpc dataset scan north-chest-ct /archive/ct --out scan.json
      hdrs-hpc dataset scan north-mr 'dicomweb+https://pacs.example/dicom-web?modalities=MR&token-file=/etc/t'
    """
    import contextlib

    from connectors.sources.opening import absolute, open_source, read_location
    from hdrs_hpc.cli.signing import write
    from imaging.staging import inventory

    broker = options.broker_home(home)
    place = absolute(read_location(source))
    with contextlib.closing(open_source(place)) as opened:
        found, unreadable = _scan(opened)
    version = inventory.digest(found)
    target = broker.inventory(version)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = target.with_suffix(".new")
    inventory.write(found, draft)
    draft.chmod(0o600)
    draft.replace(target)
    told = {
        "name": name,
        "source": place.model_dump(mode="json", exclude_defaults=True),
        "version": version,
        "items": found.num_rows,
        "bytes": sum(found["size"].to_pylist()),
        "unreadable": dict(unreadable),
    }
    if out is not None:
        write(out, json.dumps(told, indent=2).encode())
    if as_json:
        show.emit_json(told)
        return
    show.done(f"{name}: {told['items']} items, {show.size(told['bytes'])}")
    for code, count in sorted(unreadable.items()):
        click.echo(f"  {count} listed items could not be read and are left out: {code}")
    click.echo(f"  version {version}")
    if out is not None:
        click.echo(
            f"  wrote {out}; next: hdrs-hpc dataset register --scan {out} --owner … --kind … --sensitivity …"
        )


def _scan(source: Source) -> tuple[pa.Table, Counter[str]]:
    """The inventory, and how many items the source could not give, by reason.

    A line of progress goes to standard error where a person watches."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from imaging.staging import inventory

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        line = progress.add_task("reads the source")

        def tell(items: int, count: int) -> None:
            progress.update(line, description=f"{items} items, {show.size(count)} hashed")

        unreadable: Counter[str] = Counter()

        def note(code: str) -> None:
            unreadable[code] += 1

        return inventory.scan(source, tell, note), unreadable


def _place(text: str) -> dict[str, Any]:
    from hdrs_hpc.documents.models.source import location_from_text

    return location_from_text(text).model_dump(mode="json", exclude_defaults=True)


@dataset.command()
@click.option("--scan", "scanned", type=options.FILE, help="What `dataset scan --out` wrote.")
@click.option("--name", help="The dataset's name.  [default: the scan's]")
@click.option("--source", help="Folder or address, as the data zone sees it.  [default: the scan's]")
@click.option("--version", help="Digest of the inventory.  [default: the scan's]")
@click.option("--items", type=click.IntRange(0), help="How many items it has.  [default: the scan's]")
@click.option(
    "--owner", required=True, metavar="ORGANISATION", help="Whose data they are; its custodians sign."
)
@click.option("--kind", type=click.Choice(list(DATA_KINDS)), required=True)
@click.option("--sensitivity", type=click.Choice(["synthetic", "public", "real"]), required=True)
@click.option(
    "--issuer", help="Who gave the patient ids that name no issuer: a trust, NHS …  [default: the dataset]"
)
@options.signing
@options.out
@options.context
@options.as_json
def register(
    scanned: Path | None,
    name: str | None,
    source: str | None,
    version: str | None,
    items: int | None,
    owner: str,
    kind: str,
    sensitivity: str,
    issuer: str | None,
    how: options.Signing,
    out: Path | None,
    context: str | None,
    as_json: bool,
) -> None:
    """Draft, show, sign and send the registration of one scanned version.

    \b
    Example:
      hdrs-hpc dataset register --scan scan.json --owner north --kind radiology --sensitivity public
    """
    from hdrs_hpc.cli import signing
    from hdrs_hpc.client import signatures
    from hdrs_hpc.client.pages import dataset_registration
    from hdrs_hpc.core import strict_json
    from hdrs_hpc.documents import kinds
    from hdrs_hpc.documents.models.dataset import counted

    found = strict_json.loads(scanned.read_bytes()) if scanned else {}
    value = {
        "schema": kinds.DATASET_REGISTRATION.schema,
        "name": name or found.get("name"),
        "owner": owner,
        "kind": kind,
        "sensitivity": sensitivity,
        "source": _place(source) if source else found.get("source"),
        "version": version or found.get("version"),
        "items": items if items is not None else found.get("items"),
    } | ({"issuer": issuer} if issuer else {})
    document_kind = kinds.DATASET_REGISTRATION
    envelope, made = signatures.unsigned(document_kind, value)
    session = options.session(context)
    page = dataset_registration.page(made)
    root = session.root.document
    signed = signing.sign_made(document_kind, envelope, page, how, root=root, context=context)
    target = out or Path(f"{value['name']}.registration.signed.json")
    said = counted(made.kind, made.items)
    done = f"registered {value['name']}, {sensitivity}: {said}; next: hdrs-hpc opt-out add"
    signing.file_or_pass_on(document_kind, signed, session, out=target, as_json=as_json, done=done)


@dataset.command()
@click.argument("file", type=options.FILE)
@options.signing
@options.trust_file
@options.context
@options.as_json
def sign(file: Path, how: options.Signing, trust: Path | None, context: str | None, as_json: bool) -> None:
    """Add your signature to a registration that needs more than one.

    \b
    Example:
      hdrs-hpc dataset sign north-chest-ct.registration.signed.json
    """
    from hdrs_hpc.cli import signing
    from hdrs_hpc.client.pages import dataset_registration
    from hdrs_hpc.documents import kinds

    signing.sign_file(
        kinds.DATASET_REGISTRATION,
        file,
        dataset_registration.page,
        how,
        root=options.root_of(trust, context),
        out=None,
        as_json=as_json,
        context=context,
        then="hdrs-hpc dataset submit",
    )


@dataset.command()
@click.argument("file", type=options.FILE)
@options.context
@options.as_json
def submit(file: Path, context: str | None, as_json: bool) -> None:
    """Send a registration that enough people have signed.

    \b
    Example:
      hdrs-hpc dataset submit north-chest-ct.registration.signed.json
    """
    from hdrs_hpc.cli import signing
    from hdrs_hpc.documents import kinds

    receipt = signing.submit_file(kinds.DATASET_REGISTRATION, file, options.session(context))
    signing.told(receipt, "registered", as_json)


@dataset.command("list")
@options.context
@options.as_json
def list_(context: str | None, as_json: bool) -> None:
    """List the registered versions of the datasets that you may know of.

    \b
    Example:
      hdrs-hpc dataset list
    """
    found = options.session(context).api.get("/v1/datasets")
    if as_json:
        show.emit_json(found)
        return
    rows = [
        (d["name"], d["owner"], d["kind"], d["sensitivity"], d["items"], show.short(d["version"]))
        for d in found
    ]
    show.table(
        ("dataset", "owner", "kind", "sensitivity", "items", "version"),
        rows,
        empty="No dataset is registered.",
        drop=("version", "owner"),
    )


@dataset.command("show")
@click.argument("name")
@options.context
@options.as_json
def show_(name: str, context: str | None, as_json: bool) -> None:
    """Show the registered versions of one dataset.

    \b
    Example:
      hdrs-hpc dataset show north-chest-ct
    """
    from hdrs_hpc.documents.models.dataset import counted

    found = options.session(context).api.get(f"/v1/datasets/{name}")
    if as_json:
        show.emit_json(found)
        return
    for item in found:
        show.facts(
            [
                ("dataset", item["name"]),
                ("owner", item["owner"]),
                ("kind", f"{item['kind']}, {item['sensitivity']}"),
                ("items", counted(item["kind"], item["items"])),
                ("version", item["version"]),
                ("source", item["source"]),
                ("registered", item["registration"]),
            ]
        )
