"""What broker and node must agree on: names on a site, hand-over messages, data socket, progress, outputs.

Pure and versioned.  Nothing here opens a socket or reads a file; both sides import it, neither owns it.
"""

from typing import Final

PROTOCOL: Final = "hdrs-hpc/protocol/1"
"""Carried in every message; a broker and a runtime that disagree on it refuse each other."""
