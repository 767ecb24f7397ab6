"""``hdrs-hpc spec``: begin, check and sign a job spec."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hdrs_hpc.catalogue import workloads
from hdrs_hpc.cli import options
from hdrs_hpc.core.errors import ConflictError, SiteError, UsageError

if TYPE_CHECKING:
    from hdrs_hpc.client.projectview import Beginning
    from hdrs_hpc.client.speccheck import SpecReport
    from hdrs_hpc.documents.trust import VerifiedRoot


class SpecExistsError(ConflictError):
    code = "spec-exists"
    meaning = "There is a file of that name already."
    remedy = "Give another name; nothing was overwritten."


class TrustRootNeededError(UsageError):
    code = "trust-root-needed"
    meaning = "A spec is signed for one broker under one trust root, and none is at hand."
    remedy = "Log in, give `--trust FILE`, or keep the spec below a folder with an hdrs-hpc.toml."


_SPEC = click.argument("spec_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
_NO_CONTEXT = click.option(
    "--no-context", is_flag=True, help="Check the form only, whatever hdrs-hpc.toml or a login says."
)
_LOGIN = click.option("--context", "login", help="Which login to use, where you have several.")


@click.group()
def spec() -> None:
    """Begin, check and sign a job spec.

    Example: hdrs-hpc spec new first.yaml && hdrs-hpc spec check first.yaml
    """


@spec.command()
@click.argument("spec_file", type=click.Path(dir_okay=False, path_type=Path), default="spec.yaml")
@click.option("--own-code", is_flag=True, help="For a bundle of your own instead of a built-in workload.")
@click.option(
    "--workload",
    "--kind",
    "kind",
    type=click.Choice(workloads.built()),
    help="For a bundle of your own, of this kind of workload.",
)
@click.option("--purpose", help="A sentence on what the run is for; custodians and checkers read it.")
@click.option("--project", help="The project, where neither hdrs-hpc.toml nor your login tells it.")
@_LOGIN
def new(
    spec_file: Path,
    own_code: bool,
    kind: str | None,
    purpose: str | None,
    project: str | None,
    login: str | None,
) -> None:
    """Write a whole spec to begin with, with the data and limits of your project.

    They come from the nearest hdrs-hpc.toml, else from the broker that you are logged in to.  The code of an
    example is written to code/ beside the spec, unless that is there.  `hdrs-hpc try` runs it as it is.

    Example: hdrs-hpc spec new spacing.yaml --workload dask --purpose "Look at slice spacing by scanner"
    """
    from hdrs_hpc.client import context, spectemplate

    found = context.find(spec_file)
    begin = _by_documents(found) if found else _granted(login, project)
    name = kind or (workloads.built()[0] if own_code else None)
    chosen = workloads.KINDS[name] if name else None
    if purpose is None and begin is not None:
        purpose = _asked_purpose(spectemplate.first_purpose(begin.grant.title))
    text = spectemplate.render(
        spectemplate.name_from(spec_file.stem),
        grant=begin.grant if begin else None,
        kind=chosen,
        purpose=purpose,
        project=project,
        real=begin is not None and begin.real,
        capacity=begin.capacity if begin else None,
    )
    try:
        with spec_file.open("x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError:
        raise SpecExistsError(f"{spec_file} is there already") from None
    for path in spectemplate.write_code(chosen, spec_file.parent) if chosen else ():
        click.echo(f"Wrote {path}.")
    first = "" if begin else "fill in what it calls `your-…`, then "
    click.echo(
        f"Wrote {spec_file}. Next: hdrs-hpc try {spec_file} (here, on made-up data); "
        f"{first}hdrs-hpc spec check {spec_file}"
    )


@spec.command()
@_SPEC
@_JSON
@_NO_CONTEXT
@_LOGIN
@click.pass_context
def check(ctx: click.Context, spec_file: Path, as_json: bool, no_context: bool, login: str | None) -> None:
    """Tell every fault of a spec, with line and remedy, and the project's verdict rule by rule.

    The rules are applied to the documents of the nearest hdrs-hpc.toml, else to what the broker that you are
    logged in to shows of the project; nothing is sent.

    Exit code 0: good. 3: a fault in the document. 4: refused by the project's rules.

    Example: hdrs-hpc spec check spacing.yaml
    """
    from hdrs_hpc.client import speccheck

    report = speccheck.check(spec_file, None) if no_context else _checked(spec_file, login)[0]
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2, ensure_ascii=False))
    else:
        from hdrs_hpc.cli import specview

        specview.show_report(report)
    ctx.exit(report.exit_code)


@spec.command()
@_SPEC
@options.signing
@click.option("--trust", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The trust root.")
@click.option("--root-digest", help="The trust root's digest, as you got it by another way.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the envelope.")
@_LOGIN
@_JSON
@click.pass_context
def sign(
    ctx: click.Context,
    spec_file: Path,
    how: options.Signing,
    trust: Path | None,
    root_digest: str | None,
    out: Path | None,
    login: str | None,
    as_json: bool,
) -> None:
    """Add audience, nonce, validity and digests, show what it leads to, then sign it with your SSH key.

    Checked by the nearest hdrs-hpc.toml, else by what the broker that you are logged in to shows.  A key that the
    trust root does not list as a researcher's signs nothing.

    Example: hdrs-hpc spec sign spacing.yaml --key ~/.ssh/id_ed25519
    """
    from hdrs_hpc.cli import specview
    from hdrs_hpc.client import specdraft
    from hdrs_hpc.documents.trust import load_root

    key = options.key_of(how.key, login)
    report, root = _checked(spec_file, login)
    if trust is not None:
        root = load_root(trust.read_bytes(), root_digest)
    if not report.ok:
        specview.show_report(report, error=True)
        ctx.exit(report.exit_code)
    if root is None:
        raise TrustRootNeededError()
    specview.show_doubts(report)
    drafted = specdraft.build(spec_file, root)
    specview.confirm(drafted, report.facts, how, key=key, root=root.document)
    envelope = drafted.sign(key, root.document)
    target = out or spec_file.with_name(spec_file.name + ".signed.json")
    target.write_bytes(envelope.to_bytes())
    if as_json:
        click.echo(json.dumps({"file": str(target), "digest": envelope.digest}))
    else:
        click.echo(f"Signed {envelope.digest}\nWrote {target}")


def _asked_purpose(usual: str) -> str:
    """What the run is for: asked where somebody can answer, else what is true of a new spec."""
    if not sys.stdin.isatty():
        return usual
    return str(click.prompt("What is it for? Custodians and checkers read it", default=usual, err=True))


def _by_documents(file: Path) -> Beginning:
    """By an hdrs-hpc.toml."""
    from hdrs_hpc.client import context
    from hdrs_hpc.client.projectview import Beginning

    facts = context.load(file).facts
    told = [facts.registrations.get(name) for name in facts.grant.data]
    real = any(item is None or item.sensitivity == "real" for item in told)
    return Beginning(facts.grant, real, facts.cluster.capacity)


def _granted(login: str | None, project: str | None) -> Beginning | None:
    """Asked of the broker; None, and said so, where there is no login that works."""
    from hdrs_hpc.client import projectview
    from hdrs_hpc.client.session import NotLoggedInError

    session = options.login(login)
    if session is None:
        click.echo("You are not logged in: names to fill in were written.", err=True)
        return None
    try:
        return projectview.to_begin_with(session, project)
    except (NotLoggedInError, SiteError) as error:
        click.echo(f"The broker was not asked ({error.message}): names to fill in were written.", err=True)
        return None


def _checked(spec_file: Path, login: str | None) -> tuple[SpecReport, VerifiedRoot | None]:
    """Checked by the nearest hdrs-hpc.toml, else by what the broker shows, and the trust root of either.

    By its form only, and said so, where there is no login that works.
    """
    from hdrs_hpc.client import context, projectview, speccheck
    from hdrs_hpc.client.session import NotLoggedInError

    found = context.find(spec_file)
    if found is not None:
        at_hand = context.load(found)
        return speccheck.check(spec_file, at_hand), at_hand.root
    session = options.login(login)
    if session is None:
        return speccheck.check(spec_file, None), None
    root = None
    try:
        root = session.root
        report = speccheck.check(
            spec_file,
            None,
            lambda spec: projectview.context(session, spec.project, spec.resources.cluster),
        )
    except (NotLoggedInError, SiteError) as error:
        click.echo(f"The broker was not asked: {error.message}", err=True)
        return speccheck.check(spec_file, None), root
    return report, session.root
