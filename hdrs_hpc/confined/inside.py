"""The first process of a container, run by file: puts the system call filter on itself and becomes the command.

``inside.py <filter file> <request>``: the request is JSON with ``argv``, ``environment`` and ``up``, a descriptor to
which ``{}`` is written once the filter stands, or null.  Standard library only, and nothing of ours.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
_LINE_BYTES = 8


class _Program(ctypes.Structure):
    """struct sock_fprog (linux/filter.h)."""

    _fields_ = [("lines", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def filter_calls(code: bytes) -> None:
    """Raises OSError where the kernel does not take it."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(code) // _LINE_BYTES, code)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the system call filter was not taken")


def main(filter_path: str, request: str) -> None:
    asked = json.loads(request)
    with open(filter_path, "rb") as file:  # noqa: PTH123  pathlib costs a start
        filter_calls(file.read())
    if asked["up"] is not None:
        os.write(asked["up"], b"{}")
        os.close(asked["up"])
    os.execve(asked["argv"][0], asked["argv"], asked["environment"])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
