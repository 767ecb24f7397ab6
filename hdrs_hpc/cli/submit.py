"""``hdrs-hpc submit``: check, show what is signed, sign, send, and follow it if asked to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hdrs_hpc.cli import options, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hdrs_hpc.cli.sending import Sent
    from hdrs_hpc.documents.envelope import Envelope
    from hdrs_hpc.protocol.wheel_lock import Wheel


@click.command()
@click.argument("spec_file", type=options.FILE)
@options.signing
@click.option("--watch", is_flag=True, help="Follow the job until it ends or waits for reviewers.")
@options.context
@options.as_json
@click.pass_context
def submit(
    ctx: click.Context,
    spec_file: Path,
    how: options.Signing,
    watch: bool,
    context: str | None,
    as_json: bool,
) -> None:
    """Check, sign and send a job spec; what `spec sign` wrote can be sent too.

    What the project's rules would refuse, by what the broker shows of it, is not signed.
    The same signed file again gives the same job.  The job's id is the last line on standard output.

    \b
    Example:
      hdrs-hpc submit spacing.yaml --watch
    """
    from hdrs_hpc.cli import sending, watching
    from hdrs_hpc.client import filing
    from hdrs_hpc.documents.envelope import Envelope as ReadEnvelope
    from hdrs_hpc.documents.models.job_spec import JobSpec

    session = options.session(context)
    if spec_file.read_bytes().lstrip()[:1] == b"{":
        envelope = ReadEnvelope.parse(spec_file.read_bytes())
        files = _files_beside(envelope, spec_file)
    else:
        envelope, files = _sign(ctx, spec_file, how, context)
    if files:
        sending.send(session, JobSpec.from_payload(envelope.payload).project, files)
    receipt = filing.file(session, envelope)
    if not as_json:
        again = "the same job as before" if receipt.known else f"accepted for {receipt.project}"
        show.done(f"job {receipt.job}, {again}; in the log of {receipt.log_size} entries", err=True)
    if watch and receipt.job is not None:
        code = watching.watch(session, receipt.job, as_json=as_json)
        ctx.exit(code)
    if as_json:
        show.emit_json(receipt.as_dict())
    else:
        click.echo(receipt.job)


def _sign(
    ctx: click.Context, spec_file: Path, how: options.Signing, context: str | None
) -> tuple[Envelope, list[Sent]]:
    from hdrs_hpc.cli import specview
    from hdrs_hpc.client import projectview, speccheck, specdraft

    # The broker that will decide is asked, whatever an hdrs-hpc.toml says: that may be of another, or of another day.
    session, key = options.session(context), options.key_of(how.key, context)
    report = speccheck.check(
        spec_file, None, lambda spec: projectview.context(session, spec.project, spec.resources.cluster)
    )
    if not report.ok:
        specview.show_report(report, error=True)
        ctx.exit(report.exit_code)
    specview.show_doubts(report)
    drafted = specdraft.build(spec_file, session.root)
    specview.confirm(
        drafted, report.facts, how, key=key, root=session.root.document, question="Sign and send this?"
    )
    envelope = drafted.sign(key, session.root.document)
    return envelope, _files(drafted.bundle, drafted.wheels)


def _files_beside(envelope: Envelope, spec_file: Path) -> list[Sent]:
    """The code and wheels of a spec that was signed earlier, packed again from the folder that its YAML names."""
    from hdrs_hpc.client import specdraft
    from hdrs_hpc.documents.models.job_spec import JobSpec, JobSpecDraft
    from hdrs_hpc.protocol.bundle import BundleDigestError, digest

    workload = JobSpec.from_payload(envelope.payload).workload
    if workload.bundle is None:
        return []
    written = spec_file.with_name(spec_file.name.removesuffix(".signed.json"))
    if written == spec_file or not written.is_file():
        raise BundleDigestError(f"{written.name}, which names the bundle's folder, is not beside it")
    value, lines = specdraft.read(written)
    read = specdraft.WrittenSpec(written, value, lines, JobSpecDraft.from_value(value))
    packed = specdraft.pack(read)
    if packed is None or digest(packed) != workload.bundle.digest:
        raise BundleDigestError("the bundle's folder has changed since the spec was signed")
    return _files(packed, specdraft.wheels_of(read, packed))


def _files(packed: bytes | None, wheels: Sequence[tuple[Path, Wheel]]) -> list[Sent]:
    from hdrs_hpc.cli.sending import Sent
    from hdrs_hpc.protocol.bundle import digest

    if packed is None:
        return []
    beside = [Sent(path, wheel.digest, wheel.size) for path, wheel in wheels]
    return [Sent(packed, digest(packed), len(packed)), *beside]
