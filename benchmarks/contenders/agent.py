"""The data server of a node agent in a process of its own: ``SOCKET SECRET NAME=COPY…``, until its input ends.

It alone has the key; what a workload asks goes through the socket, what it gets through shared memory, as in a job.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hdrs_hpc.node.dataserver import DataServer
from hdrs_hpc.node.meter import Meter
from imaging import standalone


def main(socket: Path, secret_file: Path, copies: dict[str, Path]) -> None:
    secret = standalone.read_secret(secret_file)
    inputs = {name: standalone.open_copy(dest, secret) for name, dest in copies.items()}
    server = DataServer(socket, inputs, Meter())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.close()


if __name__ == "__main__":
    pairs = (word.partition("=") for word in sys.argv[3:])
    main(Path(sys.argv[1]), Path(sys.argv[2]), {name: Path(dest) for name, _, dest in pairs})
