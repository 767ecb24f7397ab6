"""The system calls that a workload has no use for and that reach past its namespaces, as a seccomp filter.

Kernel keyrings and vsock belong to no namespace that a sandbox could have anew: both carry bytes to other jobs
of the node or to the host.  io_uring would open the same sockets unseen; nested user namespaces, bpf and perf
are the usual way to kernel bugs.  Denied calls fail as on a kernel without them.
"""

from __future__ import annotations

import errno
import platform
import struct

_LD, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NR, _ARCH, _ARG0 = 0, 4, 16  # offsets in struct seccomp_data; arguments little-endian, low half first
_CLONE_NEWUSER = 0x10000000
_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: all belong to a network namespace
# machine: (audit arch, socket, socketpair, clone, unshare, {denied: errno})
_NOSYS, _PERM = errno.ENOSYS, errno.EPERM
_TABLES = {
    "x86_64": (
        0xC000003E,
        41,
        56,
        272,
        {
            248: _NOSYS,
            249: _NOSYS,
            250: _NOSYS,
            425: _NOSYS,
            426: _NOSYS,
            427: _NOSYS,
            435: _NOSYS,
            308: _PERM,
            321: _PERM,
            298: _PERM,
            323: _PERM,
            165: _PERM,
            155: _PERM,
            101: _PERM,
        },
    ),
    "aarch64": (
        0xC00000B7,
        198,
        220,
        97,
        {
            217: _NOSYS,
            218: _NOSYS,
            219: _NOSYS,
            425: _NOSYS,
            426: _NOSYS,
            427: _NOSYS,
            435: _NOSYS,
            268: _PERM,
            280: _PERM,
            241: _PERM,
            282: _PERM,
            40: _PERM,
            41: _PERM,
            117: _PERM,
        },
    ),
}


def program() -> bytes:
    """The filter in the form that bwrap's --seccomp reads: struct sock_filter[]."""
    arch, socket_nr, clone_nr, unshare_nr, denied = _TABLES[platform.machine()]
    code: list[tuple[int, int, int, int]] = []

    def ret_errno(n: int) -> tuple[int, int, int, int]:
        return (_RET, 0, 0, _ERRNO | n)

    code += [(_LD, 0, 0, _ARCH), (_JEQ, 1, 0, arch), ret_errno(_NOSYS), (_LD, 0, 0, _NR)]
    code += [(_JGE, 0, 1, 0x40000000), ret_errno(_NOSYS)]  # x32
    for nr, number in denied.items():
        code += [(_JEQ, 0, 1, nr), ret_errno(number)]
    code += [(_JEQ, 0, 2 + len(_FAMILIES) + 1, socket_nr), (_LD, 0, 0, _ARG0)]
    code += [(_JEQ, len(_FAMILIES) - n, 0, family) for n, family in enumerate(_FAMILIES)]
    code += [ret_errno(errno.EAFNOSUPPORT), (_RET, 0, 0, _ALLOW)]
    for nr in (clone_nr, unshare_nr):
        code += [
            (_JEQ, 0, 4, nr),
            (_LD, 0, 0, _ARG0),
            (_JSET, 0, 1, _CLONE_NEWUSER),
            ret_errno(_PERM),
            (_RET, 0, 0, _ALLOW),
        ]
    code += [(_RET, 0, 0, _ALLOW)]
    return b"".join(struct.pack("<HBBI", *line) for line in code)
