"""What a confined process needs, and the port to whatever confines it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol


@dataclass(frozen=True)
class Shown:
    """A file or folder of this machine, and where the confined process finds it."""

    outside: Path
    inside: Path
    writable: bool = False
    """Whoever shows it has bounded how much fits into it."""


@dataclass(frozen=True)
class Limits:
    """Hard limits of each process, in the words of getrlimit(2); None: as this process has it."""

    address_space_bytes: int | None = None
    cpu_s: int | None = None
    file_bytes: int | None = None
    """Of the largest file it may write."""
    open_files: int | None = None

    def by_name(self) -> dict[str, int]:
        """Those that are set, under their names in the module ``resource``."""
        named = {
            "RLIMIT_AS": self.address_space_bytes,
            "RLIMIT_CPU": self.cpu_s,
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NOFILE": self.open_files,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Confined:
    """A process and all that it may have.  What is not named here it does not get.

    Always, so not asked for: it ends with the process that starts it, it can gain no privileges, it leaves no core
    file, and a provider that separates puts the system call filter of ``core/seccomp.py`` on it.
    """

    command: tuple[str, ...]
    """Its argv, with paths as the process sees them; the first word is an absolute path."""
    environment: Mapping[str, str]
    folder: Path
    """Where it starts, as it sees it."""
    shown: tuple[Shown, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    """Small read-only files made for it, by absolute path."""
    devices: tuple[Path, ...] = ()
    """Device nodes beside the harmless ones; those that the machine lacks are left out."""
    tmp_bytes: int = 0
    """Size of a /tmp in memory of its own; 0: none is made (the caller may show one)."""
    network: Literal["none", "inherited"] = "none"
    descriptors: tuple[int, ...] = ()
    """Open files that it inherits beside its standard streams."""
    limits: Limits = Limits()
    workbench: Path | None = None
    """A private folder of ours in which a provider may make what it needs; the process can't change what is there."""
    dispensable: bool = False
    """The kernel ends it before others where memory is short."""


@dataclass(frozen=True)
class Prepared:
    """A command line, and the descriptors that go with it; who starts it closes them."""

    argv: tuple[str, ...]
    descriptors: tuple[int, ...] = ()


class Provider(Protocol):
    """Turns a :class:`Confined` into a command line.  It starts nothing by itself."""

    def __hash__(self) -> int:
        """There is one of each kind."""

    @property
    def name(self) -> str:
        """As reports and settings name it."""

    @property
    def separates(self) -> bool:
        """Whether the process sees only what is shown to it.  Without, paths inside and outside are the same."""

    def missing(self) -> str | None:
        """A code that says why it can't work on this machine, as far as can be told without starting it."""

    def trials(self) -> tuple[tuple[str, ...], ...]:
        """Commands of which one succeeds where it works: for whoever looks at a machine from elsewhere."""

    def prepare(self, confined: Confined, up: int | None) -> Prepared:
        """``up``: a descriptor; a provider that separates writes a text that ends with ``}`` to it once the process
        is confined.  Raises SandboxFailedError."""
