"""The parser process: reads untrusted files handed to it as descriptors; holds no key, has no network.

Started by :mod:`imaging.staging.pool` under :mod:`imaging.staging.sandbox`; standard input is the socket.
Imports nothing of the broker, and nothing that can reach a key.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import socket
import sys
from typing import Any

from imaging.staging import wire
from imaging.staging.lean import hidden

MEMORY_LIMIT_BYTES = 4 << 30
"""Address space of one parser; a decompression bomb ends there."""
_CPU_LIMIT_S = 3600
_UNUSED = ("gdcm", "pylibjpeg", "requests")


def main() -> None:
    """Answer requests until the stager closes the socket."""
    _limit()
    # After the limits: a library that can't load within them should fail here, not on somebody's file.
    # pydicom's start takes half the time, and decoders of foreign files that nothing asks for are not in the process.
    with hidden(*_UNUSED):
        importlib.import_module("pydicom")
    from imaging.staging.parsing import operations

    with socket.socket(fileno=os.dup(0)) as sock:
        wire.send(sock, b'{"ready":true}')
        while (received := wire.receive_request(sock)) is not None:
            request, handle = received
            with os.fdopen(handle, "rb") as file:
                try:
                    for header, blob in operations.answer(request, file):
                        wire.send(sock, header, blob)
                except operations.Unreadable as unreadable:
                    _end(sock, {"refused": str(unreadable)})
                except MemoryError:
                    gc.collect()
                    _end(sock, {"refused": "too-large"})
                else:
                    _end(sock, {"end": True})


def _end(sock: socket.socket, message: dict[str, Any]) -> None:
    wire.send(sock, json.dumps(message).encode())


def _limit() -> None:
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_LIMIT_BYTES),
        (resource.RLIMIT_CPU, _CPU_LIMIT_S),
        # A core file would be an unsealed copy of a patient's image.  1 byte stops dumps into a pipe as well, which
        # ignore 0 (hdrs_hpc.core.seccomp.CORE_LIMIT; not imported, since the sandbox shows nothing but imaging).
        (resource.RLIMIT_CORE, 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        _, hard = resource.getrlimit(limit)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(limit, (value, value))


if __name__ == "__main__":
    sys.excepthook = lambda *_: None  # a traceback could print bytes of the file
    main()
