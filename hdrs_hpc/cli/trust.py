"""``hdrs-hpc trust``: who the people are and whom a broker believes; the first one's digest goes by another way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hdrs_hpc.cli import options, show

if TYPE_CHECKING:
    from hdrs_hpc.documents.models.trust_root import KeyRecord, TrustRoot


@click.group()
def trust() -> None:
    """Make, sign, send and verify trust roots.

    \b
    Example:
      hdrs-hpc trust init root.json --audience north-sde --broker-keys broker-keys.json \\
        --person "adeyemi:Ade Adeyemi:custodian:adeyemi.pub" --person "brandt:Eva Brandt:custodian:brandt.pub"
    """


@trust.command()
@click.argument("file", type=options.NEW_FILE)
@click.option("--audience", help="The broker's name.  [default: the old root's]")
@click.option(
    "--person",
    "people",
    multiple=True,
    metavar="ID:NAME:ROLE[,ROLE]:KEY.pub",
    help="Roles: custodian, researcher, checker, code-reviewer, admin.  Repeat for each person.",
)
@click.option(
    "--people", "people_file", type=options.FILE, help="YAML with `people:` (and `thresholds:`) instead."
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
    people: tuple[str, ...],
    people_file: Path | None,
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
        --person "adeyemi:Ade Adeyemi:custodian:adeyemi.pub" --person "brandt:Eva Brandt:custodian:brandt.pub"
      hdrs-hpc trust init root2.json --succeeds root.json --person "okafor:Ngozi Okafor:researcher:okafor.pub"
    """
    from hdrs_hpc.cli.signing import write
    from hdrs_hpc.client import rootdraft

    envelope, root = rootdraft.draft(
        audience=audience,
        people=people,
        people_file=people_file,
        broker_keys=broker_keys,
        thresholds=thresholds,
        demo=demo,
        succeeds=succeeds,
        remove=remove,
    )
    write(file, envelope.to_bytes())
    if as_json:
        show.emit_json({"file": str(file), "digest": envelope.digest, "version": root.version})
        return
    show.done(f"wrote {file}: {len(root.people)} people, version {root.version}, not signed yet")
    click.echo(f"  digest {envelope.digest}")
    click.echo(f"  next, by {root.thresholds.trust_root} custodians: hdrs-hpc trust sign {file} --key KEY")


@trust.command()
@click.argument("file", type=options.FILE)
@options.key
@options.yes
@options.out
@options.as_json
def sign(file: Path, key: Path | None, yes: bool, out: Path | None, as_json: bool) -> None:
    """Show a trust root, sign it, and say how many of how many custodians have signed.

    \b
    Example:
      hdrs-hpc trust sign root.json --key ~/.ssh/id_ed25519
    """
    from hdrs_hpc.cli import signing
    from hdrs_hpc.documents.kinds import KINDS

    envelope_root = _document(file)
    signing.sign_file(
        KINDS["trust-root"],
        file,
        key=options.key_of(key),
        root=envelope_root,
        out=out or file,
        yes=yes,
        as_json=as_json,
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
    from hdrs_hpc.documents.kinds import KINDS

    receipt = signing.submit_file(KINDS["trust-root"], file, options.session(context))
    signing.told(receipt, "the trust root is in force", as_json)


@trust.command("show")
@click.argument("file", type=options.FILE, required=False)
@options.context
@options.as_json
def show_(file: Path | None, context: str | None, as_json: bool) -> None:
    """Show a trust root: its digest, people, roles and keys.  Without FILE, the login's.

    \b
    Example:
      hdrs-hpc trust show root.json
    """
    from hdrs_hpc.client import signatures
    from hdrs_hpc.documents.envelope import Envelope
    from hdrs_hpc.documents.kinds import KINDS
    from hdrs_hpc.documents.models.trust_root import TrustRoot as RootModel

    envelope = Envelope.parse(file.read_bytes()) if file else options.session(context).root.envelope
    root = RootModel.from_payload(envelope.payload)
    state = signatures.progress(envelope, KINDS["trust-root"], root)
    if as_json:
        show.emit_json({"root": root.model_dump(mode="json"), "digest": envelope.digest, **state.as_dict()})
        return
    show.facts(
        [
            ("broker", root.audience),
            ("digest", envelope.digest),
            ("version", root.version),
            ("supersedes", root.supersedes),
            ("demo", "yes: for trying out, never for patient data" if root.demo else "no"),
            ("signed", state.sentence("custodian")),
        ]
    )
    click.echo()
    rows = [
        (name, person.name, ", ".join(person.roles), _key_state(record), record.fingerprint)
        for name, person in root.people.items()
        for record in person.keys
    ]
    show.table(("person", "name", "roles", "key", "fingerprint"), rows, empty="Nobody.")


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
    from hdrs_hpc.documents import trust as roots

    root = roots.load_root(file.read_bytes(), root_digest)
    if succeeds is not None:
        roots.check_succession(roots.load_root(succeeds.read_bytes(), None), root)
    anchored = root_digest is not None or succeeds is not None
    if as_json:
        show.emit_json({"digest": root.digest, "people": list(root.people), "anchored": anchored})
        return
    show.done(f"{root.digest}, signed by {', '.join(root.people)}")
    if not anchored:
        click.echo(
            "  self-consistent only: give --root-digest, learnt by another way, to know that it is the one"
        )


def _key_state(record: KeyRecord) -> str:
    return record.refused_at(None) or "good"


def _document(file: Path) -> TrustRoot:
    from hdrs_hpc.client import signatures
    from hdrs_hpc.documents.kinds import KINDS
    from hdrs_hpc.documents.models.trust_root import TrustRoot as RootModel

    _, document = signatures.read(file, KINDS["trust-root"])
    assert isinstance(document, RootModel)
    return document
