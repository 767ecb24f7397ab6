"""``hdrs-hpc grant``: what a project may do, drafted, signed by two, compared, revoked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hdrs_hpc.cli import options, show

if TYPE_CHECKING:
    from hdrs_hpc.client.signatures import Count
    from hdrs_hpc.documents.envelope import Envelope
    from hdrs_hpc.documents.models.document import Document
    from hdrs_hpc.documents.models.grant import Grant


@click.group()
def grant() -> None:
    """Draft, sign, send and compare grants.

    \b
    Example:
      hdrs-hpc grant draft lung-fm.yaml
      hdrs-hpc grant sign lung-fm.yaml
      hdrs-hpc grant submit lung-fm.signed.json
    """


@grant.command()
@click.argument("file", type=options.NEW_FILE)
@click.option("--project", help="The project, where it is not the file's name.")
@click.option("--dataset", "datasets", multiple=True, help="Data to grant, of a first version; repeatable.")
@options.context
def draft(file: Path, project: str | None, datasets: tuple[str, ...], context: str | None) -> None:
    """Write a whole grant to begin with: the next version where the project is there, else a first one.

    What the broker knows is filled in: datasets with their versions, people, clusters.  What you must decide is named.

    \b
    Example:
      hdrs-hpc grant draft lung-fm.yaml --dataset north-chest-ct
      hdrs-hpc grant draft lung-fm-v2.yaml --project lung-fm
    """
    from hdrs_hpc.client import grantdraft
    from hdrs_hpc.client.session import NotLoggedInError
    from hdrs_hpc.core import strict_yaml
    from hdrs_hpc.core.errors import ConflictError, SiteError
    from hdrs_hpc.documents import unfilled

    session, known, text = options.login(context), None, None
    if session is None:
        click.echo("You are not logged in: what the broker knows is not filled in.", err=True)
    else:
        try:
            text = grantdraft.for_project(session, project or file.stem)
            known = grantdraft.Known.of(session) if text is None else None
        except (NotLoggedInError, SiteError) as error:
            click.echo(f"The broker was not asked ({error.message}): nothing is filled in.", err=True)
    if text is None:
        text = grantdraft.first_version(project or file.stem, known, datasets)
    try:
        with file.open("x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError:
        raise ConflictError(f"{file} is there already; nothing was overwritten") from None
    left = list(dict.fromkeys(unfilled.places(strict_yaml.load(text.encode())[0])))
    if left:
        click.echo(f"Left to you: {', '.join(left)}")
    click.echo(f"Wrote {file}. Look at it with hdrs-hpc grant show {file}, then: hdrs-hpc grant sign {file}")


@grant.command()
@click.argument("file", type=options.FILE)
@options.key
@options.yes
@options.trust_file
@options.out
@options.context
@options.as_json
def sign(
    file: Path,
    key: Path | None,
    yes: bool,
    trust: Path | None,
    out: Path | None,
    context: str | None,
    as_json: bool,
) -> None:
    """Show a grant as one page, sign it, and say who has signed and whose signatures are missing.

    A YAML draft becomes NAME.signed.json; that file goes to the next custodian, who signs it the same way.

    \b
    Example:
      hdrs-hpc grant sign lung-fm.yaml
    """
    from hdrs_hpc.cli import grantview, signing
    from hdrs_hpc.client import consent
    from hdrs_hpc.documents import unfilled
    from hdrs_hpc.documents.kinds import KINDS
    from hdrs_hpc.documents.models.grant import Grant
    from hdrs_hpc.policy import not_built

    session, root = options.login(context), options.root_of(trust, context)
    kind = KINDS["grant"]

    def further(signed: Envelope) -> tuple[Count, ...]:
        return consent.of_grant(session, root, signed)

    def page(document: Document) -> None:
        assert isinstance(document, Grant)
        # Before anybody is asked: a draft, or what leads nowhere, would gather signatures for nothing.
        unfilled.require_filled(document.model_dump(mode="json"))
        not_built.require_built(document)
        grantview.page(document, err=True)

    signing.sign_file(
        kind,
        file,
        key=options.key_of(key, context),
        root=root,
        out=out,
        yes=yes,
        as_json=as_json,
        page=page,
        further=further,
        then="hdrs-hpc grant submit",
    )


@grant.command()
@click.argument("file", type=options.FILE)
@options.context
@options.as_json
def submit(file: Path, context: str | None, as_json: bool) -> None:
    """Send a grant that enough custodians have signed; it comes into force at once.

    \b
    Example:
      hdrs-hpc grant submit lung-fm.signed.json
    """
    import contextlib

    from hdrs_hpc.cli import grantview, signing
    from hdrs_hpc.core.errors import HdrsError
    from hdrs_hpc.documents.kinds import KINDS

    session = options.session(context)
    receipt = signing.submit_file(KINDS["grant"], file, session)
    signing.told(receipt, f"the grant for {receipt.project} was accepted", as_json)
    if not as_json:
        with contextlib.suppress(
            HdrsError
        ):  # filing needs no login, looking does; the grant was accepted anyway
            click.echo(f"  {grantview.standing(session.api.get(f'/v1/projects/{receipt.project}'))}")


@grant.command("show")
@click.argument("what", metavar="FILE|PROJECT")
@options.trust_file
@options.context
@options.as_json
def show_(what: str, trust: Path | None, context: str | None, as_json: bool) -> None:
    """Show a grant as one page: a file, or the one in force of a project.

    \b
    Example:
      hdrs-hpc grant show lung-fm
    """
    from hdrs_hpc.cli import grantview
    from hdrs_hpc.client import consent, signatures
    from hdrs_hpc.documents.kinds import KINDS

    envelope, document = _read(what, context)
    root = options.root_of(trust, context)
    further = consent.of_grant(options.login(context), root, envelope)
    state = signatures.progress(envelope, KINDS["grant"], root, further)
    if as_json:
        show.emit_json(
            {"grant": document.model_dump(mode="json"), "digest": envelope.digest, **state.as_dict()}
        )
        return
    grantview.page(document)
    click.echo(f"\n{envelope.digest}\n{state.sentence('custodian')}")
    for count in further:
        click.echo(count.sentence())
    if not Path(what).is_file():
        click.echo(grantview.standing(options.session(context).api.get(f"/v1/projects/{what}")))


@grant.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW", required=False)
@options.context
@options.as_json
def diff(old: str, new: str | None, context: str | None, as_json: bool) -> None:
    """Show what differs between two grants: files, or projects for the grant in force.

    With one file: against the grant in force of its project.

    \b
    Example:
      hdrs-hpc grant diff lung-fm-v2.yaml
      hdrs-hpc grant diff lung-fm.yaml lung-fm-v2.yaml
    """
    from hdrs_hpc.cli import grantview

    _, second = _read(new or old, context)
    _, first = _read(old if new else second.project, context)
    changes = grantview.changes(first, second)
    if as_json:
        show.emit_json([change.as_dict() for change in changes])
    else:
        grantview.show_changes(first, second, changes)


@grant.command()
@click.argument("project")
@click.option("--reason", required=True, help="Why; it is signed and kept.")
@options.key
@options.yes
@options.context
@options.as_json
def revoke(
    project: str, reason: str, key: Path | None, yes: bool, context: str | None, as_json: bool
) -> None:
    """Take a grant back: all keys of the project are destroyed, reviews end too; the certificate follows.

    \b
    Example:
      hdrs-hpc grant revoke lung-fm --reason "consent withdrawn"
    """
    from hdrs_hpc.cli import closing

    closing.close(project, "revoke", reason, key=key, yes=yes, context=context, as_json=as_json)


def _read(what: str, context: str | None) -> tuple[Envelope, Grant]:
    """A file's grant, or the one in force of a project."""
    from hdrs_hpc.client import signatures
    from hdrs_hpc.documents.envelope import Envelope as Read
    from hdrs_hpc.documents.kinds import KINDS
    from hdrs_hpc.documents.models.grant import Grant as GrantModel

    path = Path(what)
    if path.is_file():
        envelope, document = signatures.read(path, KINDS["grant"])
        assert isinstance(document, GrantModel)
        return envelope, document
    envelope = Read.parse(options.session(context).api.get_bytes(f"/v1/projects/{what}/grant"))
    return envelope, GrantModel.from_payload(envelope.payload)
