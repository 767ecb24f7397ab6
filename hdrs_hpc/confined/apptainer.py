"""Namespaces of one's own by Apptainer, for sites that have it and no bubblewrap.  Untried: no test of ours ran it.

Options as in apptainer-exec(1), version 1.4.  ``--userns``: where the setuid helper is installed Apptainer would use
that, which can't work below the agent, whose private memory stands in a user namespace already.  The container is an
empty folder with places for what is shown.  Seccomp filters are root's alone there (``--security``), so ``inside.py``
puts ours on the process before it becomes the command.
"""

from __future__ import annotations

import json
from pathlib import Path

from hdrs_hpc.confined import inside
from hdrs_hpc.confined.bubblewrap import SYSTEM_FILES, SYSTEM_LINKS
from hdrs_hpc.confined.port import Confined, Limits, Prepared, Shown
from hdrs_hpc.confined.running import SandboxFailedError
from hdrs_hpc.core import seccomp

PROGRAMS = ("/usr/bin/apptainer", "/usr/local/bin/apptainer")
FILTER, FIRST = "/.hdrs-filter", "/.hdrs-inside.py"
_OPTIONS = (
    *("--userns", "--containall", "--cleanenv", "--no-home", "--no-eval"),
    *("--no-mount", "home,cwd,tmp,hostfs,sys,bind-paths"),
    *("--uts", "--hostname", "node", "--drop-caps", "all", "--no-privs"),
)


class Apptainer:
    name = "apptainer"
    separates = True

    def missing(self) -> str | None:
        if not any(Path(path).exists() for path in PROGRAMS):
            return "apptainer-missing"
        return "processor-without-filter" if seccomp.program() is None else None

    def trials(self) -> tuple[tuple[str, ...], ...]:
        return tuple((program, "--version") for program in PROGRAMS)

    def prepare(self, confined: Confined, up: int | None) -> Prepared:
        filter_code, root = seccomp.program(), confined.workbench
        program = next((path for path in PROGRAMS if Path(path).exists()), None)
        if program is None or filter_code is None:
            raise SandboxFailedError(str(self.missing()))
        if root is None or confined.tmp_bytes or confined.limits != Limits():
            raise SandboxFailedError("apptainer-only-for-workloads")
        shown = (
            *_system(),
            *confined.shown,
            *(Shown(path, path, True) for path in confined.devices if path.exists()),
        )
        _make_container(root, shown, confined, filter_code)
        request = {"argv": confined.command, "environment": dict(confined.environment), "up": up}
        # The interpreter of the first process may be a relocated one, which finds its libraries by this.
        libraries = confined.environment.get("LD_LIBRARY_PATH")
        argv = (
            *(program, "exec", *_OPTIONS),
            *(() if confined.network == "inherited" else ("--net", "--network", "none")),
            *(() if libraries is None else ("--env", f"LD_LIBRARY_PATH={libraries}")),
            *(word for each in shown for word in ("--bind", _bind(each))),
            *("--cwd", str(confined.folder), str(root)),
            *(confined.command[0], "-I", "-S", "-B", FIRST, FILTER, json.dumps(request)),
        )
        return Prepared(argv)


def _system() -> tuple[Shown, ...]:
    places = [Path("/usr"), *(Path("/", name) for name in SYSTEM_LINKS), *map(Path, SYSTEM_FILES)]
    return tuple(Shown(path, path) for path in places if path.exists() and not path.is_symlink())


def _bind(each: Shown) -> str:
    paths = (str(each.outside), str(each.inside))
    if any(mark in path for path in paths for mark in ":,"):
        raise SandboxFailedError("path-unfit-for-apptainer")
    return ":".join((*paths, "rw" if each.writable else "ro"))


def _make_container(root: Path, shown: tuple[Shown, ...], confined: Confined, filter_code: bytes) -> None:
    """Folders and empty files that things are bound to; what is made here the process can't change."""
    for name in ("proc", "dev", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for each in shown:
        place = root / each.inside.relative_to("/")
        (place if each.outside.is_dir() else place.parent).mkdir(parents=True, exist_ok=True)
        if not each.outside.is_dir():
            place.touch()
    for name in SYSTEM_LINKS:
        if (link := Path("/", name)).is_symlink() and not (root / name).is_symlink():
            (root / name).symlink_to(str(link.readlink()).lstrip("/"))
    files = {path: text.encode("ascii") for path, text in confined.files.items()}
    files |= {FILTER: filter_code, FIRST: Path(inside.__file__).read_bytes()}
    for path, content in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
