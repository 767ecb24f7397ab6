"""``hdrs-hpc``: one command, a noun a file; a noun's file is imported only when that noun is used."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from importlib.abc import MetaPathFinder

import click

from hdrs_hpc import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("hdrs_hpc.cli.demo.play:demo", "Play the whole life of one project on this machine."),
    "playground": (
        "hdrs_hpc.cli.playground.command:playground",
        "A broker with a project on made-up data that stays, to learn with.",
    ),
    "login": ("hdrs_hpc.cli.login:login", "Log in to a broker with your SSH key."),
    "whoami": ("hdrs_hpc.cli.whoami:whoami", "Tell who you are, and at which broker."),
    "project": ("hdrs_hpc.cli.project:project", "See your projects; freeze and close them."),
    "spec": ("hdrs_hpc.cli.spec:spec", "Begin, check and sign a job spec."),
    "try": ("hdrs_hpc.cli.trying.command:try_spec", "Run a spec's code here, on made-up data."),
    "bundle": ("hdrs_hpc.cli.bundle:bundle", "Lock the packages that your code brings along."),
    "submit": ("hdrs_hpc.cli.submit:submit", "Check, sign and send a job spec."),
    "job": ("hdrs_hpc.cli.job:job", "Follow jobs, cancel them, fetch what was released."),
    "review": ("hdrs_hpc.cli.review:review", "Check outputs and decide what leaves."),
    "dataset": ("hdrs_hpc.cli.dataset:dataset", "Scan and register approved data."),
    "opt-out": ("hdrs_hpc.cli.opt_out:opt_out", "Say who opted out of a dataset."),
    "grant": ("hdrs_hpc.cli.grant:grant", "Draft, sign and compare grants."),
    "trust": ("hdrs_hpc.cli.trust:trust", "Say who the people are, and whom a broker believes."),
    "approval": ("hdrs_hpc.cli.approval:approval", "Approve a researcher's code, by its digest."),
    "broker": ("hdrs_hpc.cli.broker:broker", "Set up and run a broker."),
    "cluster": ("hdrs_hpc.cli.cluster:cluster", "Make clusters known to a broker and look after them."),
    "runtime": ("hdrs_hpc.cli.runtime:runtime", "Build and list the sets of packages that jobs run on."),
    "imaging": ("hdrs_hpc.cli.imaging:imaging", "Turn DICOM series and slides into sealed Zarr."),
    "bench": ("hdrs_hpc.cli.bench:bench", "Measure staging and reading against their peers."),
    "audit": ("hdrs_hpc.cli.audit:audit", "Verify and read an exported audit log."),
    "certificate": ("hdrs_hpc.cli.certificate:certificate", "Verify and read a certificate of destruction."),
    "explain": ("hdrs_hpc.cli.explain:explain", "Tell what a reason code means and how to mend it."),
    "completion": ("hdrs_hpc.cli.completion:completion", "Complete commands in your shell."),
    "version": ("hdrs_hpc.cli.version:version", "Tell the versions of this program and its formats."),
}
"""Name → (``module:attribute``, short help): help is shown without importing anything."""

EXIT_CODES = """\b
Exit codes:
  0    done                       5    not found
  2    usage                      6    conflict
  3    bad document               7    site trouble; may succeed later
  4    not allowed                70   our bug
  130  interrupted"""


class LazyGroup(click.Group):
    """Looks a command up in :data:`COMMANDS` and imports it only then."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else load(entry[0])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, short) in COMMANDS.items()])


EXTRAS = {
    "demo": "demo",
    "playground": "demo",
    "imaging": "imaging",
    "try_spec": "try",
    "bench": "bench",
    "dataset": "broker",
    "broker": "broker",
    "cluster": "broker",
    "runtime": "broker",
}
"""Which extra of the package a command needs beyond what every laptop has."""


def load(place: str) -> click.Command:
    """The command at ``module:attribute``; a missing extra is named instead of an ImportError."""
    module, _, attribute = place.partition(":")
    try:
        command: click.Command = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise missing_part(error, attribute) from None
    return command


def missing_part(error: ModuleNotFoundError, command: str) -> Exception:
    """A part of the program that this installation lacks, as an error that names the extra to install."""
    from hdrs_hpc.core.errors import NotFoundError

    name = (error.name or "").partition(".")[0]
    if name in ("hdrs_hpc", "imaging", "connectors", ""):
        return error
    if name == "benchmarks":
        return NotFoundError(
            "the benchmark is no part of an installed hdrs-hpc; it comes with a clone of the repository",
            remedy="In a clone: make bench SIZE=small.",
        )
    return NotFoundError(
        f"this installation lacks {name}, which `hdrs-hpc {command}` needs",
        remedy=f"Install the part for it: pip install 'hdrs-hpc[{EXTRAS.get(command, 'broker')}]'",
    )


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=EXIT_CODES
    + "\n\n\b\nExample:\n  hdrs-hpc login https://broker.example.ac.uk --key ~/.ssh/id_ed25519",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """A job broker that lets supercomputers work on sensitive imaging and pathology."""


class _LeftOut(MetaPathFinder):
    """Refuses what no command uses and libraries would load: pyarrow loads pandas at the first list that it is given (a
    third of a second), httpx its own command line, with rich and Pygments."""

    NAMES = frozenset({"pandas", "httpx._main"})

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname in self.NAMES:
            raise ModuleNotFoundError("not loaded by hdrs-hpc's own commands", name=fullname)


def main(arguments: list[str] | None = None) -> None:
    """Run a command line and leave with the exit code of what became of it."""
    if arguments is None:  # this process is ours
        sys.meta_path.insert(0, _LeftOut())
        # Else pydantic reads the metadata of every installed package to find plug-ins that could watch our documents.
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    argv = sys.argv[1:] if arguments is None else arguments
    sys.exit(run(argv))


def run(argv: list[str]) -> int:
    """The exit code of one command line; what went wrong is told on standard error."""
    try:
        result = cli.main(argv, prog_name="hdrs-hpc", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        _tell_usage(error, "--json" in argv)
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nStopped.", err=True)
        return 130
    except BrokenPipeError:
        # The reader of a pipe went away, as `| head` does: not an error worth words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if isinstance(error, ModuleNotFoundError):
            error = missing_part(error, next((word for word in argv if not word.startswith("-")), ""))
        return _tell(error, "--json" in argv)
    return result if isinstance(result, int) else 0


def _tell_usage(error: click.ClickException, as_json: bool) -> None:
    error.show()
    if as_json:
        body = {"kind": "usage", "code": "usage", "message": error.format_message(), "where": None}
        remedy = "See the command's --help, which ends with an example."
        click.echo(json.dumps({"error": {**body, "remedy": remedy, "retry": False}}, indent=2))


def _tell(error: Exception, as_json: bool) -> int:
    """Code, what, where and remedy on standard error; the same as JSON on standard output if asked for."""
    from hdrs_hpc.core.errors import HdrsError, InternalError

    if not isinstance(error, HdrsError):
        if os.environ.get("HDRS_HPC_DEBUG"):
            raise error
        known = InternalError(f"{type(error).__name__}: {error}")
        known.remedy = "Run it again with HDRS_HPC_DEBUG=1 to see where, and report that."
        error = known
    told = error.as_dict()
    mark = click.style("✗", fg="red")
    click.echo(f"{mark} {click.style(str(told['code']), bold=True)}: {told['message']}", err=True)
    if told["where"]:
        click.echo(f"  where: {told['where']}", err=True)
    for item in told.get("findings", ()):
        click.echo(f"  - {item['where'] or 'document'}: {item['code']}, {item['message']}", err=True)
    for rule in told.get("rules", ()):
        if not rule["ok"]:
            place = f" ({rule['where']})" if rule["where"] else ""
            click.echo(f"  - {rule['code']}: {rule['message']}{place}", err=True)
            click.echo(f"    → {rule['remedy']}", err=True)
    click.echo(f"  → {told['remedy']}", err=True)
    if as_json:
        click.echo(json.dumps({"error": told}, indent=2, ensure_ascii=False))
    return error.exit_code


if __name__ == "__main__":
    main()
