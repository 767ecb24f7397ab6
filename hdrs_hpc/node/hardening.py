"""What keeps other processes of the same account out of the agent's memory."""

from __future__ import annotations

import ctypes
import resource

from hdrs_hpc.core import die_with_parent

# linux/prctl.h
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 3, 4, 36
# linux/capability.h
_CAPABILITY_VERSION_3 = 0x20080522


def harden() -> bool:
    """No capabilities, no core files, no ptrace, no /proc/<pid>/mem.  Gives whether the kernel agreed to the last.

    After the last exec, since exec makes a process dumpable again.  The limit is for the workload, which
    inherits it but not that: its memory holds what it read, and no core file or handler of the node may get it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    # A hard limit of 0 can't be raised; a site that sets it writes no core files, piped ones it may.
    limit = 0 if hard == 0 else die_with_parent.CORE_LIMIT
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
    libc = ctypes.CDLL(None, use_errno=True)
    # In a user namespace of our own we hold every capability; none is needed once memory is mounted, and with
    # them a workload's files would be read against their mode.
    header, nothing = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    libc.capset(header, nothing)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return int(libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)) == 0


def adopt_orphans() -> None:
    """Orphaned descendants become our children, so that none outlives the attempt unseen."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
