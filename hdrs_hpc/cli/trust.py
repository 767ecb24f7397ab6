"""``hdrs-hpc trust``: who the people are and whom a broker believes; the first one's digest goes by another way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hdrs_hpc.cli import options, show

if TYPE_CHECKING:
    from hdrs_hpc.client.signatures import Count
    from hdrs_hpc.documents.envelope import Envelope
    from hdrs_hpc.documents.models.trust_root import TrustRoot
    from hdrs_hpc.documents.trust import VerifiedRoot


@click.group()
def trust() -> None:
    """Make, sign, send and verify trust roots.

    \b
    Example:
      hdrs-hpc trust init root.json --audience north-sde --broker-keys broker-keys.json \\
        --organisation "north:North Hospital NHS Trust" \\
        --person "adeyemi:Ade Adeyemi:north:custodian:adeyemi.pub" \\
        --person "brandt:Eva Brandt:north:custodian:brandt.pub"
    """


@trust.command()
@click.argument("file", type=options.NEW_FILE)
@click.option("--audience", help="The broker's name.  [default: the old root's]")
@click.option(
    "--organisation",
    "organisations",
    multiple=True,
    metavar="ID:NAME[:N]",
    help="A body that people and data belong to; N of its own custodians decide for it.  [default: 2]",
)
@click.option(
    "--person",
    "people",
    multiple=True,
    metavar="ID:NAME:ORGANISATION:ROLE[,ROLE]:KEY.pub",
    help="Roles: custodian, researcher, checker, code-reviewer, admin; - for none.  Repeat for each person.",
)
@click.option(
    "--people",
    "people_file",
    type=options.FILE,
    help="YAML with `organisations:`, `people:`, `thresholds:`, `recovery:` instead.",
)
@click.option(
    "--recovery",
    metavar="ID,ID[,ID]",
    help="Who helps when a custodian's key is lost; how many of them: --threshold recovery=N.  [default: 2]",
)
@click.option(
    "--replace-key",
    "replace_keys",
    multiple=True,
    metavar="ID:NEW.pub",
    help="With --succeeds: mark the keys of a person as retired and list a new one beside them.",
)
@click.option(
    "--compromised", is_flag=True, help="With --replace-key: mark the old keys as compromised instead."
)
@click.option(
    "--from-entry",
    type=click.IntRange(0),
    help="With --replace-key: the log entry from which the mark counts.  [default: the log's end, from the login]",
)
@click.option("--broker-keys", type=options.FILE, help="What `broker init` wrote.")
@click.option(
    "--threshold", "thresholds", multiple=True, metavar="KIND=N", help="Such as grant=2; repeatable."
)
@click.option("--demo", is_flag=True, help="For trying out: never meets real data, for ever.")
@click.option(
    "--succeeds", type=options.FILE, help="The root in force: take over its people, keys and thresholds."
)
@click.option("--remove", multiple=True, metavar="ID", help="With --succeeds: a person to leave out.")
@options.as_json
def init(
    file: Path,
    audience: str | None,
    organisations: tuple[str, ...],
    people: tuple[str, ...],
    people_file: Path | None,
    recovery: str | None,
    replace_keys: tuple[str, ...],
    compromised: bool,
    from_entry: int | None,
    broker_keys: Path | None,
    thresholds: tuple[str, ...],
    demo: bool,
    succeeds: Path | None,
    remove: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write an unsigned trust root: people with their keys and roles, thresholds, the broker's own keys.

    \b
    Example:
      hdrs-hpc trust init root.json --audience north-sde --broker-keys broker-keys.json \\
        --organisation "north:North Hospital NHS Trust" \\
        --person "adeyemi:Ade Adeyemi:north:custodian:adeyemi.pub" \\
        --person "brandt:Eva Brandt:north:custodian:brandt.pub"
      hdrs-hpc trust init root2.json --succeeds root.json --person "okafor:Ngozi Okafor:north:researcher:okafor.pub"
      hdrs-hpc trust init root2.json --succeeds root.json --replace-key brandt:brandt-new.pub
    """
    from hdrs_hpc.cli.signing import write
    from hdrs_hpc.client import rootdraft

    envelope, root = rootdraft.draft(
        audience=audience,
        organisations=organisations,
        people=people,
        people_file=people_file,
        broker_keys=broker_keys,
        thresholds=thresholds,
        demo=demo,
        succeeds=succeeds,
        remove=remove,
        recovery=recovery,
        replace_keys=replace_keys,
        mark="compromised" if compromised else "retired",
        from_entry=from_entry if from_entry is not None or not replace_keys else _end_of_log(),
    )
    write(file, envelope.to_bytes())
    if as_json:
        show.emit_json({"file": str(file), "digest": envelope.digest, "version": root.version})
        return
    show.done(f"wrote {file}: {len(root.people)} people, version {root.version}, not signed yet")
    click.echo(f"  digest {envelope.digest}")
    click.echo(f"  next, by {root.thresholds.trust_root} custodians: hdrs-hpc trust sign {file} --key KEY")


_SUCCEEDS = click.option("--succeeds", type=options.FILE, help="The root before it.  [default: the login's]")


@trust.command()
@click.argument("file", type=options.FILE)
@_SUCCEEDS
@options.signing
@options.out
@options.as_json
def sign(file: Path, succeeds: Path | None, how: options.Signing, out: Path | None, as_json: bool) -> None:
    """Show a trust root and its digest, sign it, and say whose signatures are still missing.

    A custodian whose key is replaced signs twice: with the old key and with the new one.

    \b
    Example:
      hdrs-hpc trust sign root.json --key ~/.ssh/id_ed25519
    """
    from hdrs_hpc.cli import signing
    from hdrs_hpc.client import signatures
    from hdrs_hpc.client.pages import trust_root as pages
    from hdrs_hpc.documents import kinds

    made, envelope_root = signatures.read(file, kinds.TRUST_ROOT)
    before = _before(envelope_root, succeeds)

    def further(signed: Envelope) -> tuple[Count, ...]:
        return _missing(before, signed, envelope_root)

    signing.sign_file(
        kinds.TRUST_ROOT,
        file,
        lambda _: pages.page(envelope_root, before.document if before else None),
        how,
        root=envelope_root,
        out=out or file,
        as_json=as_json,
        further=further,
        then="hdrs-hpc trust submit"
        if envelope_root.supersedes
        else f"on the broker's machine, hdrs-hpc broker trust --root-digest {made.digest}",
        # Without the root before, nobody can tell whose signature adds to nothing.
        must_add=before is not None or envelope_root.supersedes is None,
    )


@trust.command()
@click.argument("file", type=options.FILE)
@options.context
@options.as_json
def submit(file: Path, context: str | None, as_json: bool) -> None:
    """Send a trust root that succeeds the one in force, signed by enough custodians of both.

    The first one of a broker is installed on its own machine: `hdrs-hpc broker trust`.

    \b
    Example:
      hdrs-hpc trust submit root2.json
    """
    from hdrs_hpc.cli import signing
    from hdrs_hpc.documents import kinds

    receipt = signing.submit_file(kinds.TRUST_ROOT, file, options.session(context))
    signing.told(receipt, "the trust root is in force", as_json)


@trust.command("show")
@click.argument("file", type=options.FILE, required=False)
@_SUCCEEDS
@options.context
@options.as_json
def show_(file: Path | None, succeeds: Path | None, context: str | None, as_json: bool) -> None:
    """Show a trust root: its digest, people, roles, keys, and whose signatures are missing.  Without FILE, the login's.

    \b
    Example:
      hdrs-hpc trust show root.json
    """
    from hdrs_hpc.client import signatures
    from hdrs_hpc.client.pages import trust_root as pages
    from hdrs_hpc.documents import kinds
    from hdrs_hpc.documents.envelope import Envelope as Read
    from hdrs_hpc.documents.models.trust_root import TrustRoot as RootModel

    envelope = Read.parse(file.read_bytes()) if file else options.session(context).root.envelope
    root = RootModel.from_payload(envelope.payload)
    before = _before(root, succeeds)
    further = _missing(before, envelope, root) if file else ()
    state = signatures.progress(envelope, kinds.TRUST_ROOT, root, further)
    if as_json:
        show.emit_json({"root": root.model_dump(mode="json"), "digest": envelope.digest, **state.as_dict()})
        return
    counts = [count.sentence() for count in further] or [state.sentence("custodian")]
    show.page(pages.page(root, before.document if before else None), envelope.digest, counts)


@trust.command()
@click.argument("file", type=options.FILE)
@click.option("--root-digest", help="The digest, as you got it by another way.")
@click.option("--succeeds", type=options.FILE, help="The root before it, which it must properly follow.")
@options.as_json
def verify(file: Path, root_digest: str | None, succeeds: Path | None, as_json: bool) -> None:
    """Verify a trust root's signatures, and that it is the one meant.

    \b
    Example:
      hdrs-hpc trust verify root.json --root-digest sha256:9f2c…
    """
    from hdrs_hpc.documents import succession
    from hdrs_hpc.documents import trust as roots

    root = roots.load_root(file.read_bytes(), root_digest)
    if succeeds is not None:
        succession.check(roots.load_root(succeeds.read_bytes(), None), root)
    anchored = root_digest is not None or succeeds is not None
    if as_json:
        show.emit_json({"digest": root.digest, "people": list(root.people), "anchored": anchored})
        return
    show.done(f"{root.digest}, signed by {', '.join(root.people)}")
    if not anchored:
        click.echo(
            "  self-consistent only: give --root-digest, learnt by another way, to know that it is the one"
        )


def _before(root: TrustRoot, succeeds: Path | None) -> VerifiedRoot | None:
    """The root that ``root`` supersedes: the file given, else the login's if it is that one."""
    from hdrs_hpc.documents.trust import load_root

    if root.supersedes is None:
        return None
    if succeeds is not None:
        return load_root(succeeds.read_bytes(), root.supersedes)
    at_hand = options.login(None)
    held = at_hand.root if at_hand else None
    return held if held is not None and held.digest == root.supersedes else None


def _missing(before: VerifiedRoot | None, envelope: Envelope, root: TrustRoot) -> tuple[Count, ...]:
    """By every count that matters, who has signed."""
    from hdrs_hpc.documents import succession

    needs = succession.progress(before, envelope, root).needs
    if root.supersedes is not None and before is None:
        return (*needs, _Unknown())
    return needs


class _Unknown:
    """Whether the custodians of the root before agree can't be told without it."""

    met = False

    def sentence(self) -> str:
        return "who of the root before must sign is not known: give it with --succeeds, or log in"


def _end_of_log() -> int | None:
    """Length of the log as the login last saw it signed."""
    from hdrs_hpc.client import checkpoints

    at_hand = options.login(None)
    last = checkpoints.last(at_hand) if at_hand else None
    return last.size if last else None
