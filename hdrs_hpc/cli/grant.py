"""``hdrs-hpc grant``: what a project may do, drafted, signed by two, compared, revoked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hdrs_hpc.cli import options, show

if TYPE_CHECKING:
    from hdrs_hpc.client.pages.layout import Page
    from hdrs_hpc.client.session import Session
    from hdrs_hpc.client.signatures import Count
    from hdrs_hpc.documents.envelope import Envelope
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
    first = text is None
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
    if first:
        click.echo(f"Written as usual, for you to confirm: {', '.join(grantdraft.AS_USUAL)}")
    click.echo(f"Wrote {file}. Look at it with hdrs-hpc grant show {file}, then: hdrs-hpc grant sign {file}")


@grant.command()
@click.argument("file", type=options.FILE)
@options.signing
@options.trust_file
@options.out
@options.context
@options.as_json
def sign(
    file: Path,
    how: options.Signing,
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
    from hdrs_hpc.cli import signing
    from hdrs_hpc.client import consent
    from hdrs_hpc.client.pages import grant as pages
    from hdrs_hpc.documents import kinds, unfilled
    from hdrs_hpc.policy import not_built

    session, root = options.login(context), options.root_of(trust, context)

    def further(signed: Envelope) -> tuple[Count, ...]:
        return consent.of_grant(session, root, signed)

    def page(document: Grant) -> Page:
        # Before anybody is asked: a draft, or what leads nowhere, would gather signatures for nothing.
        unfilled.require_filled(document.model_dump(mode="json"))
        not_built.require_built(document)
        return pages.page(document, _before(document, session))

    signing.sign_file(
        kinds.GRANT,
        file,
        page,
        how,
        root=root,
        out=out,
        as_json=as_json,
        context=context,
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

    from hdrs_hpc.cli import signing
    from hdrs_hpc.cli.project import standing
    from hdrs_hpc.core.errors import HdrsError
    from hdrs_hpc.documents import kinds

    session = options.session(context)
    receipt = signing.submit_file(kinds.GRANT, file, session)
    signing.told(receipt, f"the grant for {receipt.project} was accepted", as_json)
    if not as_json:
        # Filing needs no login, looking does; the grant was accepted anyway.
        with contextlib.suppress(HdrsError):
            click.echo(f"  {standing(session.api.get(f'/v1/projects/{receipt.project}'))}")


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
    from hdrs_hpc.cli.project import standing
    from hdrs_hpc.client import consent, signatures
    from hdrs_hpc.client.pages import grant as pages
    from hdrs_hpc.documents import kinds

    envelope, document = _read(what, context)
    root = options.root_of(trust, context)
    further = consent.of_grant(options.login(context), root, envelope)
    state = signatures.progress(envelope, kinds.GRANT, root, further)
    if as_json:
        show.emit_json(
            {"grant": document.model_dump(mode="json"), "digest": envelope.digest, **state.as_dict()}
        )
        return
    counts = [state.sentence("custodian"), *(count.sentence() for count in further)]
    if not Path(what).is_file():
        counts.append(standing(options.session(context).api.get(f"/v1/projects/{what}")))
    page = pages.page(document, _before(document, options.login(context)))
    show.page(page, envelope.digest, counts)


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
    from hdrs_hpc.client.pages import grant as pages

    _, second = _read(new or old, context)
    _, first = _read(old if new else second.project, context)
    changes = pages.changes(first, second)
    if as_json:
        show.emit_json([change.as_dict() for change in changes])
        return
    title = f"{first.project} version {first.version} → {second.project} version {second.version}"
    click.echo(click.style(title, bold=True))
    if not changes:
        click.echo("no difference")
    for change in changes:
        before, after = change.texts()
        if change.before is not None:
            click.echo(click.style(f"- {change.where}: {before}", fg="red"))
        if change.after is not None:
            click.echo(click.style(f"+ {change.where}: {after}", fg="green"))


@grant.command()
@click.argument("project")
@click.option("--reason", required=True, help="Why; it is signed and kept.")
@options.signing
@options.context
@options.as_json
def revoke(project: str, reason: str, how: options.Signing, context: str | None, as_json: bool) -> None:
    """Take a grant back: all keys of the project are destroyed, reviews end too; the certificate follows.

    \b
    Example:
      hdrs-hpc grant revoke lung-fm --reason "consent withdrawn"
    """
    from hdrs_hpc.cli import closing

    closing.close(project, "revoke", reason, how=how, context=context, as_json=as_json)


def _read(what: str, context: str | None) -> tuple[Envelope, Grant]:
    """A file's grant, or the one in force of a project."""
    from hdrs_hpc.client import signatures
    from hdrs_hpc.documents import kinds
    from hdrs_hpc.documents.envelope import Envelope as Read
    from hdrs_hpc.documents.models.grant import Grant as GrantModel

    path = Path(what)
    if path.is_file():
        envelope, document = signatures.read(path, kinds.GRANT)
        return envelope, document
    envelope = Read.parse(options.session(context).api.get_bytes(f"/v1/projects/{what}/grant"))
    return envelope, GrantModel.from_payload(envelope.payload)


def _before(grant: Grant, session: Session | None) -> Grant | None:
    """The version that ``grant`` replaces, if that is the one in force and a broker can be asked."""
    from hdrs_hpc.core.errors import HdrsError
    from hdrs_hpc.documents.envelope import Envelope as Read
    from hdrs_hpc.documents.models.grant import Grant as GrantModel

    if grant.supersedes is None or session is None:
        return None
    try:
        envelope = Read.parse(session.api.get_bytes(f"/v1/projects/{grant.project}/grant"))
    except HdrsError:  # the page says that it is not known
        return None
    return GrantModel.from_payload(envelope.payload) if envelope.digest == grant.supersedes else None
