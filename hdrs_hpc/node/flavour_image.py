"""Reads the file of a flavour into memory while it is hashed, and shows what is in it.

A process of its own, started by the agent (:mod:`hdrs_hpc.node.flavour`).  It holds no key, and understands nothing of
the file before its digest was found to be the right one.

It reads from scratch once, into a memory file that is sealed then: what is hashed is what is shown, whoever may write
on scratch.  It says ``read <digest>`` or ``failed``, and waits for ``show``.  Then it becomes squashfuse, which serves
the mount that the agent made while it still could; or, where there is none, it has the file unpacked.  ``shown`` is
said before that, and after this.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from hdrs_hpc.core import die_with_parent
from hdrs_hpc.node import hardening

PIECE_BYTES = 4 << 20
# linux/fcntl.h, of which the module fcntl has all but the first from Python 3.15 on
_ADD_SEALS, _SEAL_SEAL, _SEAL_SHRINK, _SEAL_GROW, _SEAL_WRITE = 1033, 1, 2, 4, 8
PROGRAMS = Path(sys.executable).parent
SERVE, UNPACK = PROGRAMS / "squashfuse_ll", PROGRAMS / "unsquashfs"


class TooLargeError(Exception):
    """The file is larger than what it may take of the memory."""


def read(path: Path, most_bytes: int) -> tuple[int, str]:
    """A sealed memory file with what was read of ``path``, and its digest.  Raises OSError, TooLargeError."""
    found = hashlib.sha256()
    image = os.memfd_create("flavour", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    taken = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE_BYTES):
            taken += len(piece)
            if taken > most_bytes:
                os.close(image)
                raise TooLargeError
            found.update(piece)
            view = memoryview(piece)
            while view:
                view = view[os.write(image, view) :]
    fcntl.fcntl(image, _ADD_SEALS, _SEAL_SEAL | _SEAL_SHRINK | _SEAL_GROW | _SEAL_WRITE)
    return image, f"sha256:{found.hexdigest()}"


def main(argv: list[str]) -> int:
    hardening.harden()
    try:
        image, digest = read(Path(argv[0]), int(argv[1]))
    except (OSError, TooLargeError):
        _say("failed")
        return 1
    _say(f"read {digest}")
    if os.read(0, 16) != b"show\n":
        return 1
    os.set_inheritable(image, True)
    file = f"/proc/self/fd/{image}"
    if argv[3]:
        fuse = int(argv[3])
        os.set_inheritable(fuse, True)
        _say("shown")
        os.execve(SERVE, [str(SERVE), "-f", file, f"/dev/fd/{fuse}"], die_with_parent.environment())  # noqa: S606
    unpacking = [str(UNPACK), "-no-progress", "-quiet", "-no-xattrs", "-force", "-dest", argv[2], file]
    done = subprocess.run(
        unpacking, env=die_with_parent.environment(), pass_fds=(image,), stdout=2, check=False
    )
    _say("shown" if done.returncode == 0 else "failed")
    return done.returncode


def _say(text: str) -> None:
    os.write(1, f"{text}\n".encode("ascii"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
