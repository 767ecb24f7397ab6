"""Starting a confined process: beside this one, or in the place of this one."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path
from typing import NoReturn

from hdrs_hpc.confined.port import Confined, Prepared, Provider
from hdrs_hpc.confined.running import Running, SandboxFailedError
from hdrs_hpc.core import die_with_parent

TRIAL_TIMEOUT_S = 20.0
_TRIAL = Confined(("/usr/bin/true",), {}, Path("/"))


def start(
    provider: Provider,
    confined: Confined,
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> Running:
    """Start it beside this process, without waiting until it is confined.

    ``stdin`` and ``stdout`` as Popen takes them; what it writes to its standard error is dropped.  Raises
    SandboxFailedError.
    """
    prepared = provider.prepare(confined, None)
    try:
        process = subprocess.Popen(
            _guarded(provider, confined, prepared),
            env=_environment(provider, confined),
            cwd=_folder(provider, confined),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            pass_fds=(*prepared.descriptors, *confined.descriptors),
            start_new_session=not provider.separates,
        )
    except OSError as error:
        raise SandboxFailedError(type(error).__name__) from None
    finally:
        for fd in prepared.descriptors:
            os.close(fd)
    return Running(process)


def become(provider: Provider, confined: Confined, up: int, parent: int) -> NoReturn:
    """Become its guard, with this process's standard streams.

    ``parent``: who started this process, which the guard is bound to; told by that one, as it may have died meanwhile.
    ``up``: where it is said that it is confined (:meth:`Running.wait_until_up`).  Raises SandboxFailedError, OSError.
    """
    prepared = provider.prepare(confined, up if provider.separates else None)
    for fd in (*prepared.descriptors, *confined.descriptors):
        os.set_inheritable(fd, True)
    argv = _guarded(provider, confined, prepared, parent=parent, tell=up)
    os.set_inheritable(up, provider.separates)
    os.chdir(_folder(provider, confined))
    if not provider.separates:
        os.setsid()
        os.write(up, b"{}")
    os.execve(argv[0], argv, _environment(provider, confined))  # noqa: S606


def _guarded(
    provider: Provider,
    confined: Confined,
    prepared: Prepared,
    *,
    parent: int | None = None,
    tell: int | None = None,
) -> list[str]:
    return die_with_parent.guarded(
        prepared.argv,
        namespace=True,
        clear=provider.separates,
        dispensable=confined.dispensable,
        tell=tell if provider.separates else None,
        limits=confined.limits.by_name(),
        parent=parent,
    )


def _environment(provider: Provider, confined: Confined) -> dict[str, str]:
    """The guard's: one that separates sets the process's by itself."""
    return die_with_parent.environment() if provider.separates else dict(confined.environment)


def _folder(provider: Provider, confined: Confined) -> Path:
    return Path("/") if provider.separates else confined.folder


def works(provider: Provider) -> bool:
    """Whether a sandbox of this kind really starts here, tried once: a machine may forbid user namespaces."""
    return provider.missing() is None and _starts(provider)


@functools.cache
def _starts(provider: Provider) -> bool:
    try:
        running = start(provider, _TRIAL)
    except SandboxFailedError:
        return False
    try:
        return running.process.wait(TRIAL_TIMEOUT_S) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        running.kill()
