"""The parser process: reads untrusted files handed to it as descriptors; holds no key, has no network.

Started by :mod:`imaging.staging.pool` under :mod:`imaging.staging.sandbox`; standard input is the socket.
Imports nothing of the broker, and nothing that can reach a key.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket
import sys
from typing import Any

from imaging.staging import wire
from imaging.staging.lean import hidden

_UNUSED = ("gdcm", "pylibjpeg", "requests")


def main() -> None:
    """Answer requests until the stager closes the socket."""
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


if __name__ == "__main__":
    sys.excepthook = lambda *_: None  # a traceback could print bytes of the file
    main()
