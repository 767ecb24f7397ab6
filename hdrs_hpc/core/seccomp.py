"""The system calls that sandboxed code has no use for and that reach past its namespaces, as a seccomp filter.

Kernel keyrings and vsock belong to no namespace that a sandbox could have anew: both carry bytes to other jobs
of the node or to the host.  io_uring would open the same sockets unseen; nested user namespaces, bpf and perf
are the usual way to kernel bugs.  Denied calls fail as on a kernel without them.

Numbers: x86-64 from the kernel's ``arch/x86/entry/syscalls/syscall_64.tbl``, 64-bit Arm from
``include/uapi/asm-generic/unistd.h``.  A machine that is not in the table has no filter, and so no sandbox.
"""

from __future__ import annotations

import errno
import os
import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h, 32-bit words
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
# struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits, low half first
_NR, _ARCH, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000
_CLONE_NEWUSER = 0x10000000
_RLIMIT_CORE = 4
_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: all belong to a network namespace
_DENIED: Mapping[str, int] = {
    "add_key": errno.ENOSYS,
    "request_key": errno.ENOSYS,
    "keyctl": errno.ENOSYS,
    "io_uring_setup": errno.ENOSYS,
    "io_uring_enter": errno.ENOSYS,
    "io_uring_register": errno.ENOSYS,
    # Its flags lie in memory, where no filter can look; libc then uses clone, whose flags are seen below.
    "clone3": errno.ENOSYS,
    # Segments that nobody has mapped are memory that no process accounts for; POSIX shared memory is in a tmpfs.
    "shmget": errno.ENOSYS,
    "setns": errno.EPERM,
    "bpf": errno.EPERM,
    "perf_event_open": errno.EPERM,
    "userfaultfd": errno.EPERM,
    "mount": errno.EPERM,
    "pivot_root": errno.EPERM,
    "ptrace": errno.EPERM,
}


@dataclass(frozen=True)
class _Machine:
    architecture: int
    """AUDIT_ARCH_… of linux/audit.h."""
    numbers: Mapping[str, int]


_MACHINES = {
    "x86_64": _Machine(
        0xC000003E,
        {
            "add_key": 248,
            "request_key": 249,
            "keyctl": 250,
            "io_uring_setup": 425,
            "io_uring_enter": 426,
            "io_uring_register": 427,
            "clone3": 435,
            "shmget": 29,
            "setns": 308,
            "bpf": 321,
            "perf_event_open": 298,
            "userfaultfd": 323,
            "mount": 165,
            "pivot_root": 155,
            "ptrace": 101,
            "socket": 41,
            "clone": 56,
            "unshare": 272,
            "setrlimit": 160,
            "prlimit64": 302,
        },
    ),
    "aarch64": _Machine(
        0xC00000B7,
        {
            "add_key": 217,
            "request_key": 218,
            "keyctl": 219,
            "io_uring_setup": 425,
            "io_uring_enter": 426,
            "io_uring_register": 427,
            "clone3": 435,
            "shmget": 194,
            "setns": 268,
            "bpf": 280,
            "perf_event_open": 241,
            "userfaultfd": 282,
            "mount": 40,
            "pivot_root": 41,
            "ptrace": 117,
            "socket": 198,
            "clone": 220,
            "unshare": 97,
            "setrlimit": 164,
            "prlimit64": 261,
        },
    ),
}

_Line = tuple[int, int, int, int]
"""struct sock_filter: code, jump if true, jump if false, operand."""


def program(machine: str | None = None) -> bytes | None:
    """The filter in the form that bwrap's ``--seccomp`` reads (struct sock_filter[]), or None.

    None: the machine (default: this one) is not known here, so nothing on it may be called a sandbox.
    RLIMIT_CORE stays what it was when the sandbox began: a process that lowered ``die_with_parent.CORE_LIMIT`` to 0
    would bring dumps into a pipe back.
    """
    found = _MACHINES.get(machine or platform.machine())
    if found is None:
        return None
    nr = found.numbers
    code: list[_Line] = [(_LD, 0, 0, _ARCH), (_JEQ, 1, 0, found.architecture), _fail(errno.ENOSYS)]
    code += [(_LD, 0, 0, _NR), (_JGE, 0, 1, _X32), _fail(errno.ENOSYS)]
    for name, number in _DENIED.items():
        code += [(_JEQ, 0, 1, nr[name]), _fail(number)]
    families: list[_Line] = [(_JEQ, len(_FAMILIES) - at, 0, family) for at, family in enumerate(_FAMILIES)]
    code += _only(nr["socket"], [_argument(0), *families, _fail(errno.EAFNOSUPPORT)])
    for name in ("clone", "unshare"):
        code += _only(nr[name], [_argument(0), (_JSET, 0, 1, _CLONE_NEWUSER), _fail(errno.EPERM)])
    code += _only(nr["setrlimit"], [_argument(0), (_JEQ, 0, 1, _RLIMIT_CORE), _fail(errno.EPERM)])
    # Asking for the limit, where the pointer to the new one is null, harms nobody.
    asked = [_argument(1), (_JEQ, 0, 5, _RLIMIT_CORE)]
    given = [_argument(2), (_JEQ, 0, 2, 0), _argument(2, high=True), (_JEQ, 1, 0, 0), _fail(errno.EPERM)]
    code += _only(nr["prlimit64"], [*asked, *given])
    code += [(_RET, 0, 0, _ALLOW)]
    return b"".join(struct.pack("<HBBI", *line) for line in code)


def memory_file(content: bytes) -> int:
    """A descriptor from which ``content`` can be read once, from its beginning."""
    fd = os.memfd_create("given")
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _fail(number: int) -> _Line:
    return (_RET, 0, 0, _ERRNO | number)


def _argument(at: int, *, high: bool = False) -> _Line:
    return (_LD, 0, 0, _ARGUMENTS + 8 * at + (4 if high else 0))


def _only(number: int, lines: list[_Line]) -> list[_Line]:
    """``lines`` where the call has this number; who falls or jumps off their end is allowed."""
    return [(_JEQ, 0, len(lines) + 1, number), *lines, (_RET, 0, 0, _ALLOW)]
