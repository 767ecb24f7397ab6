"""People of a demo or playground: each acts only through ``hdrs-hpc``, in own processes, with own home and key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

PATHS = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class CommandFailedError(Exception):
    """A command did not do what it must; its own words were shown."""


@dataclass(frozen=True)
class Actor:
    """One person (or the operator) with a home folder and, unless they are the operator, an SSH key."""

    name: str
    title: str
    home: Path
    console: Console

    @classmethod
    def arrive(cls, name: str, title: str, people: Path, console: Console) -> Actor:
        """Make the person's home and key."""
        home = people / name
        home.mkdir(mode=0o700, parents=True)
        actor = cls(name, title, home, console)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{name}@demo", "-f", str(actor.key)],
            check=True,
            stdin=subprocess.DEVNULL,
        )
        return actor

    @property
    def key(self) -> Path:
        return self.home / "id_ed25519"

    def run(self, *arguments: str | Path, quiet: bool = False, live: bool = False) -> str:
        """Type one command; gives its standard output.  ``live`` shows its progress on standard error."""
        words = [str(argument) for argument in arguments]
        if not quiet:
            shown = " ".join(_short(word) for word in words)
            self.console.print(f"[dim]{self.name:>9} $[/] hdrs-hpc {shown}", highlight=False, soft_wrap=True)
        done = subprocess.run(
            [sys.executable, "-m", "hdrs_hpc.cli.main", *words],
            cwd=self.home,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if live else subprocess.PIPE,
            check=False,
            text=True,
        )
        if done.returncode:
            self.console.print(done.stdout, done.stderr or "", highlight=False, markup=False)
            raise CommandFailedError(f"{self.name}: hdrs-hpc {words[0]} left with {done.returncode}")
        return done.stdout

    def ask(self, *arguments: str | Path, quiet: bool = False) -> Any:
        """The same with ``--json``; gives the value."""
        return json.loads(self.run(*arguments, "--json", quiet=quiet))

    def environment(self) -> dict[str, str]:
        """Nothing of the one who started it but the terminal's looks."""
        kept = {
            name: os.environ[name] for name in ("TERM", "COLUMNS", "NO_COLOR", "LANG") if name in os.environ
        }
        return {"HOME": str(self.home), "PATH": PATHS, "PYTHONDONTWRITEBYTECODE": "1", **kept}


def _short(word: str) -> str:
    """A word as shown: paths below the folder lose their beginning, words with spaces get quotes."""
    if word.startswith("/"):
        parts = Path(word).parts
        word = "/".join(["…", *parts[-2:]]) if len(parts) > 3 else word
    return f"'{word}'" if " " in word else word
