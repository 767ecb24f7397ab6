"""``hdrs-hpc completion``: click's own completion, printed or written where the shell looks for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import ShellComplete

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_HDRS_HPC_COMPLETE"
"""click looks for it when the program ``hdrs-hpc`` starts."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--install", is_flag=True, help="Write it into your home, where the shell finds it.")
def completion(shell: str | None, install: bool) -> None:
    """Complete commands and options in your shell; without SHELL for the one in $SHELL.

    \b
    Example:
      hdrs-hpc completion bash --install
      source <(hdrs-hpc completion zsh)
    """
    chosen = shell or Path(os.environ.get("SHELL", "")).name
    if chosen not in SHELLS:
        raise click.UsageError(f"Say for which shell: {', '.join(SHELLS)}.")
    script = _of(chosen).source()
    if not install:
        click.echo(script)
        return
    path, further = _place(chosen)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script, "utf-8")
    click.echo(f"{click.style('✓', fg='green')} wrote {path}")
    click.echo(f"  {further}")


def _of(shell: str) -> ShellComplete:
    from click.shell_completion import get_completion_class

    from hdrs_hpc.cli.main import cli

    made = get_completion_class(shell)
    assert made is not None
    return made(cli, {}, "hdrs-hpc", VARIABLE)


def _place(shell: str) -> tuple[Path, str]:
    """Where the script belongs, and what is left to do.

    bash: the user folder of bash-completion 2, loaded when the command is first completed.
    zsh: a folder that has to be named in ``fpath``.  fish: its own folder for completions.
    """
    data = _folder("XDG_DATA_HOME", ".local/share")
    if shell == "bash":
        place = data / "bash-completion/completions/hdrs-hpc"
        return place, "New shells have it where the package bash-completion is installed."
    if shell == "fish":
        return _folder("XDG_CONFIG_HOME", ".config") / "fish/completions/hdrs-hpc.fish", "New shells have it."
    place = data / "zsh/site-functions/_hdrs-hpc"
    return place, f"In ~/.zshrc, before `compinit`: fpath=({place.parent} $fpath)"


def _folder(variable: str, default: str) -> Path:
    base = os.environ.get(variable)
    return Path(base) if base and Path(base).is_absolute() else Path.home() / default
