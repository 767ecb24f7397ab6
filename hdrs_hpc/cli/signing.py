"""Signing a file and passing it on, filing one: the same for grants, trust roots, registrations, closures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdrs_hpc.cli import options, show
from hdrs_hpc.client.pages.layout import printable

if TYPE_CHECKING:
    from hdrs_hpc.client.filing import Receipt
    from hdrs_hpc.client.pages.layout import Page
    from hdrs_hpc.client.session import Session
    from hdrs_hpc.client.signatures import Count
    from hdrs_hpc.documents.envelope import Envelope
    from hdrs_hpc.documents.kinds import DocumentKind
    from hdrs_hpc.documents.models.trust_root import TrustRoot
    from hdrs_hpc.forms.document import Document


def sign_file[M: Document](
    kind: DocumentKind[M],
    path: Path,
    page: Callable[[M], Page],
    how: options.Signing,
    *,
    root: TrustRoot | None,
    out: Path | None,
    as_json: bool,
    context: str | None = None,
    further: Callable[[Envelope], tuple[Count, ...]] | None = None,
    then: str,
    must_add: bool = False,
) -> None:
    """Show what it leads to, ask, sign, write, and say who has signed and whose signatures are missing.

    A draft becomes ``<name>.signed.json`` beside it; an envelope is replaced by itself with one signature more.
    ``then`` is the command that follows once nothing is missing, without the file's name.  ``must_add``: refuse a
    signature that adds to none of the ``further`` counts.
    """
    from hdrs_hpc.client import signatures

    envelope, document = signatures.read(path, kind)
    target = out or (path if envelope.signatures else path.with_name(f"{path.stem}.signed.json"))
    signed = sign_made(kind, envelope, page(document), how, root=root, context=context)
    # The counts of a trust root are all among the further ones.
    of_root = kind.name == "trust-root"
    adds = further is None or _sentences(further(envelope)) != _sentences(further(signed))
    if root is not None and must_add and not adds:
        raise signatures.refusal(signatures.signers(signed, kind, root)[-1], kind, root)
    write(target, signed.to_bytes())
    state = signatures.progress(signed, kind, root, further(signed) if further is not None else ())
    if as_json:
        show.emit_json({"file": str(target), "digest": signed.digest, **state.as_dict()})
        return
    show.done(f"signed {kind.name} {signed.digest}")
    if not of_root:
        click.echo(f"  {state.sentence(kind.role)}")
    for count in state.further:
        click.echo(f"  {count.sentence()}")
    if of_root and not adds:
        click.echo("  your signature adds to none of these counts")
    following = f"next: {then} {target}" if state.complete else "pass it on to the next person"
    click.echo(f"  wrote {target}; {following}")


def sign_made(
    kind: DocumentKind[Any],
    envelope: Envelope,
    page: Page,
    how: options.Signing,
    *,
    root: TrustRoot | None,
    context: str | None = None,
) -> Envelope:
    """Show, ask and sign a document that is at hand."""
    from hdrs_hpc.client import signatures

    key = options.key_of(how.key, context)
    confirm(kind, envelope, page, how, key=key, root=root)
    return signatures.add(envelope, kind, key, root)


def confirm(
    kind: DocumentKind[Any],
    envelope: Envelope,
    page: Page,
    how: options.Signing,
    *,
    key: Path,
    root: TrustRoot | None,
    question: str = "Sign this?",
) -> None:
    """Show on standard error who signs what as whom, what it leads to and its digest, and ask."""
    from hdrs_hpc.client import signatures
    from hdrs_hpc.client.pages.layout import NamedValues, Section

    told = signatures.about_signer(kind, envelope, key, root)
    head = Section(f"You are about to sign: {page.title}", [NamedValues(told)])
    foot = Section("Digest of exactly what is signed", [envelope.digest])
    show.sections((head, *page.sections, foot), err=True)
    if how.show_json:
        click.echo(f"\n{printable(envelope.payload.decode())}", err=True)
    click.echo(err=True)
    if not how.yes:
        click.confirm(question, abort=True, err=True)


def submit_file(kind: DocumentKind[Any], path: Path, session: Session) -> Receipt:
    """File an envelope that lies in a file."""
    from hdrs_hpc.client import filing, signatures

    envelope, _ = signatures.read(path, kind)
    return filing.file(session, envelope)


def file_or_pass_on(
    kind: DocumentKind[Any],
    envelope: Envelope,
    session: Session,
    *,
    out: Path,
    as_json: bool,
    done: str,
    further: tuple[Count, ...] = (),
) -> None:
    """File it if enough people have signed, else write it down to be passed on.

    ``further``: counts that must be met as well, told in place of the document's own where that is met.
    """
    from hdrs_hpc.client import filing, signatures

    state = signatures.progress(envelope, kind, session.root.document, further)
    if state.complete:
        told(filing.file(session, envelope), done, as_json)
        return
    write(out, envelope.to_bytes())
    if as_json:
        show.emit_json({"file": str(out), "digest": envelope.digest, **state.as_dict()})
        return
    if not further or state.needed is None or len(state.people) < state.needed:
        click.echo(f"  {state.sentence(kind.role)}")
    for count in further:
        click.echo(f"  {count.sentence()}")
    click.echo(f"  not sent yet: wrote {out}; pass it on to the next person")


def _sentences(counts: tuple[Count, ...]) -> list[str]:
    return [count.sentence() for count in counts]


def told(receipt: Receipt, text: str, as_json: bool) -> None:
    """What became of a filed document."""
    if as_json:
        show.emit_json(receipt.as_dict())
        return
    again = " (it was there already)" if receipt.known else ""
    show.done(f"{text}{again}")
    click.echo(f"  {receipt.digest}, in the log of {receipt.log_size} entries; its checkpoint is kept")


def write(path: Path, raw: bytes) -> None:
    """Replace a file at once."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_bytes(raw)
    draft.replace(path)
