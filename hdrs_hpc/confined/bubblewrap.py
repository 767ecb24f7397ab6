"""Namespaces of one's own by bubblewrap: no network but loopback, nothing of the machine but /usr.

Mount, PID, IPC, UTS, cgroup, user and network namespaces are new.  What is there is listed here and in what is shown,
and everything else is not: no /run (Slurm's and munge's sockets), no /etc but the linker's cache and made files, no
home, no scratch, no sockets of others, since abstract ones belong to a network namespace.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hdrs_hpc.confined.port import Confined, Prepared
from hdrs_hpc.confined.running import SandboxFailedError
from hdrs_hpc.core import seccomp

PROGRAMS = ("/usr/bin/bwrap", "/usr/local/bin/bwrap")
SYSTEM_LINKS = ("bin", "sbin", "lib", "lib32", "lib64")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives")

_NAMESPACES = (
    *("--unshare-all", "--die-with-parent", "--new-session", "--clearenv"),
    *("--cap-drop", "ALL", "--hostname", "node"),
)


class Bubblewrap:
    name = "bubblewrap"
    separates = True

    def missing(self) -> str | None:
        if not any(Path(path).exists() for path in PROGRAMS):
            return "bubblewrap-missing"
        return "processor-without-filter" if seccomp.program() is None else None

    def trials(self) -> tuple[tuple[str, ...], ...]:
        words = ("--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "/usr/bin/true")
        return tuple((program, *words) for program in PROGRAMS)

    def prepare(self, confined: Confined, up: int | None) -> Prepared:
        filter_code = seccomp.program()
        program = next((path for path in PROGRAMS if Path(path).exists()), None)
        if program is None or filter_code is None:
            raise SandboxFailedError(str(self.missing()))
        allowed = seccomp.memory_file(filter_code)
        made = {path: seccomp.memory_file(text.encode("ascii")) for path, text in confined.files.items()}
        argv = (
            *(program, *_NAMESPACES),
            *(("--share-net",) if confined.network == "inherited" else ()),
            *_system(),
            *_words(("--ro-bind-data", str(fd), path) for path, fd in made.items()),
            *(("--size", str(confined.tmp_bytes), "--tmpfs", "/tmp") if confined.tmp_bytes else ()),  # noqa: S108
            *_words(
                ("--bind" if each.writable else "--ro-bind", str(each.outside), str(each.inside))
                for each in confined.shown
            ),
            *_words(("--dev-bind-try", str(path), str(path)) for path in confined.devices),
            *("--remount-ro", "/dev", "--remount-ro", "/"),
            *_words(("--setenv", name, value) for name, value in confined.environment.items()),
            *(() if up is None else ("--info-fd", str(up))),
            *("--chdir", str(confined.folder), "--seccomp", str(allowed), "--"),
            *confined.command,
        )
        return Prepared(argv, (allowed, *made.values()))


def _words(options: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(word for option in options for word in option)


def _system() -> tuple[str, ...]:
    """A read-only /usr, the links that Debian and Red Hat have at the root, /proc and a minimal /dev."""
    found = ["--ro-bind", "/usr", "/usr"]
    for name in SYSTEM_LINKS:
        path = Path("/", name)
        if path.is_symlink():
            found += ["--symlink", str(path.readlink()).lstrip("/"), f"/{name}"]
        elif path.is_dir():
            found += ["--ro-bind", str(path), str(path)]
    return (
        *found,
        *_words(("--ro-bind-try", name, name) for name in SYSTEM_FILES),
        *("--proc", "/proc", "--dev", "/dev"),
    )
