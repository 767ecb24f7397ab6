"""The system call filter: what it says for every call, and that a kernel obeys it under bubblewrap."""

from __future__ import annotations

import errno
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from hdrs_hpc.core import seccomp

ALLOW = 0x7FFF0000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# From the kernel's tables, in the order: x86-64, 64-bit Arm.
NUMBERS = {
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "clone3": (435, 435),
    "shmget": (29, 194),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "mount": (165, 40),
    "pivot_root": (155, 41),
    "ptrace": (101, 117),
    "socket": (41, 198),
    "clone": (56, 220),
    "unshare": (272, 97),
    "setrlimit": (160, 164),
    "prlimit64": (302, 261),
}
HIDDEN = (
    "add_key",
    "request_key",
    "keyctl",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "shmget",
    "clone3",
)
REFUSED = ("setns", "bpf", "perf_event_open", "userfaultfd", "mount", "pivot_root", "ptrace")
machines = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])


def number(machine: str, name: str) -> int:
    return NUMBERS[name][list(ARCHITECTURES).index(machine)]


def verdict(machine: str, call: int, *arguments: int, architecture: int | None = None) -> int:
    """What the kernel's interpreter would return, as the errno (0: allowed)."""
    program = seccomp.program(machine)
    assert program is not None
    six = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", call, architecture or ARCHITECTURES[machine], 0, *six)
    lines = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    while True:
        code, true, false, operand = lines[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == 0x06:
            assert operand == ALLOW or operand >> 16 == 5
            return 0 if operand == ALLOW else operand & 0xFFFF
        else:
            holds = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: accumulator & operand}[
                code
            ]
            at += true if holds else false


@machines
def test_calls_that_reach_past_namespaces_fail(machine: str) -> None:
    assert {verdict(machine, number(machine, name)) for name in HIDDEN} == {errno.ENOSYS}
    assert {verdict(machine, number(machine, name)) for name in REFUSED} == {errno.EPERM}


@machines
def test_every_other_call_is_allowed(machine: str) -> None:
    denied = {number(machine, name) for name in (*HIDDEN, *REFUSED)}
    special = {number(machine, "socket")}
    assert {verdict(machine, call) for call in set(range(470)) - denied - special} == {0}


@machines
def test_sockets_are_of_the_families_that_a_network_namespace_holds(machine: str) -> None:
    allowed = {family for family in range(64) if verdict(machine, number(machine, "socket"), family) == 0}
    assert allowed == {1, 2, 10, 16}
    assert verdict(machine, number(machine, "socket"), 40) == errno.EAFNOSUPPORT  # vsock
    assert verdict(machine, number(machine, "socket"), (1 << 32) | 40) == errno.EAFNOSUPPORT


@machines
@pytest.mark.parametrize("name", ["clone", "unshare"])
def test_user_namespaces_can_not_be_nested(machine: str, name: str) -> None:
    call = number(machine, name)
    assert verdict(machine, call, 0x10000000) == errno.EPERM
    assert verdict(machine, call, 0x10000000 | 0x00020000 | 17) == errno.EPERM
    assert verdict(machine, call, 0x00010F00) == 0  # threads


@machines
def test_the_limit_of_core_files_stays(machine: str) -> None:
    set_old, set_new = number(machine, "setrlimit"), number(machine, "prlimit64")
    assert verdict(machine, set_old, 4, 4096) == errno.EPERM
    assert verdict(machine, set_old, 7, 4096) == 0
    assert verdict(machine, set_new, 0, 4, 0x7FFE_0000_1000) == errno.EPERM
    assert verdict(machine, set_new, 0, 4, 1 << 32) == errno.EPERM  # a pointer whose low half is 0
    assert verdict(machine, set_new, 0, 4, 0, 4096) == 0
    assert verdict(machine, set_new, 0, 7, 4096) == 0


@machines
def test_calls_of_another_architecture_do_not_pass_by(machine: str) -> None:
    assert verdict(machine, 3, architecture=0x40000003) == errno.ENOSYS  # 32-bit x86
    assert verdict(machine, 0x40000000 | 41, 40) == errno.ENOSYS  # x32


def test_an_unknown_machine_has_no_filter() -> None:
    assert seccomp.program("ppc64le") is None


@pytest.mark.parametrize(
    ("at", "header"),
    [(0, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), (1, "/usr/include/asm-generic/unistd.h")],
)
def test_numbers_are_those_of_the_kernels_headers(at: int, header: str) -> None:
    if not Path(header).exists():
        pytest.skip("no kernel headers here")
    text = Path(header).read_text()
    for name, numbers in NUMBERS.items():
        found = re.search(rf"#define __NR(?:3264)?_{name}\s+(\d+)", text)
        assert found is not None and int(found[1]) == numbers[at], name


TRYING = """
import ctypes, errno, json, os, resource, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
found = {}
def attempt(name, call):
    try:
        call()
        found[name] = None
    except OSError as error:
        found[name] = error.errno
    except ValueError:
        found[name] = "ValueError"
def system(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
attempt("unix", lambda: socket.socket(socket.AF_UNIX))
attempt("add_key", lambda: system(int(sys.argv[1]), b"user", b"x", b"x", ctypes.c_size_t(1), -2))
attempt("user namespace", lambda: os.unshare(os.CLONE_NEWUSER))
attempt("thread", lambda: __import__("threading").Thread(target=print, args=("",), kwargs={"end": ""}).start())
attempt("core", lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
print(json.dumps(found))
"""


@pytest.mark.root_parts
def test_the_kernel_obeys_the_filter_under_bubblewrap() -> None:
    if not Path("/usr/bin/bwrap").exists():
        if os.environ.get("CI") == "true":
            pytest.fail("bubblewrap is missing")
        pytest.skip("bubblewrap is missing")
    bare = ["/usr/bin/bwrap", "--unshare-all", "--ro-bind", "/", "/", "--", sys.executable, "-c", TRYING]
    bare.append(str(number(os.uname().machine, "add_key")))

    def run(command: list[str], given: tuple[int, ...] = ()) -> dict[str, object]:
        done = subprocess.run(command, capture_output=True, check=True, pass_fds=given, timeout=60)
        value = json.loads(done.stdout)
        assert isinstance(value, dict)
        return value

    assert run(bare)["user namespace"] is None  # without the filter it is there
    expected = {
        "vsock": errno.EAFNOSUPPORT,
        "unix": None,
        "add_key": errno.ENOSYS,
        "user namespace": errno.EPERM,
        "thread": None,
        "core": "ValueError",  # Python's word for EPERM here
    }
    program = seccomp.program()
    assert program is not None
    fd = seccomp.memory_file(program)
    assert run([bare[0], "--seccomp", str(fd), *bare[1:]], (fd,)) == expected
    os.close(fd)
