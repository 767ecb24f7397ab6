"""The courier: one request from stdin to this node's agent, one reply to stdout.

It runs as a Slurm step inside the attempt's own job, so Slurm vouches for job and node.  It understands
nothing of what it carries.
"""

from __future__ import annotations

import socket
import sys
import time

from hdrs_hpc.core.line import Line
from hdrs_hpc.core.wire import MAX_LINE_BYTES

TIMEOUT_S = 30.0
EX_UNAVAILABLE = 69


def main(argv: list[str]) -> int:
    """Exit 69 where there is no agent (yet): the broker asks again."""
    line = sys.stdin.buffer.readline(MAX_LINE_BYTES + 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_S)
        try:
            connection.connect(argv[0])
            agent = Line(connection)
            agent.say(line)
            agent.say_no_more()
            reply = agent.receive_line(MAX_LINE_BYTES + 1, time.monotonic() + TIMEOUT_S)
        except OSError:
            return EX_UNAVAILABLE
    if not reply.endswith(b"\n"):
        return EX_UNAVAILABLE
    sys.stdout.buffer.write(reply)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
