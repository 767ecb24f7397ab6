"""What an archive sends over an association, bounded before the library keeps it: it trusts every length it is told.

pynetdicom reads a PDU of whatever length the peer states, gathers a message of any number of fragments, and queues
messages without end; all in memory, all in the calling process.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from pynetdicom import evt
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.pdu import P_DATA_TF

from connectors.sources import SourceRefusedError

MAX_PDU_BYTES = 1 << 20
MAX_MESSAGE_BYTES = 2 << 20
"""Of what is not an instance, which goes to a file: more than one PDU, so that one that an instance begins in is never
too much."""
MAX_WAITING = 64
"""Messages that have come and were not looked at: then the line has to wait."""
_HEAD_BYTES = 1 << 10


class Inflow:
    """Of one association: its handlers run in the thread that reads the line, before what came is kept."""

    def __init__(self) -> None:
        self.failure: SourceRefusedError | None = None
        self._message_bytes = 0
        self._stopped = threading.Event()

    def handlers(self) -> list[evt.EventHandlerType]:
        return [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_PDU_RECV, self._came),
            (evt.EVT_DIMSE_RECV, self._whole),
        ]

    def stop(self) -> None:
        """Nobody will look at what comes: let the reading thread go, so that the association can end."""
        self._stopped.set()

    def _opened(self, event: evt.Event) -> None:
        line: Any = event.assoc.dul.socket
        read = line.recv

        def bounded(count: int) -> bytearray:
            if count > MAX_PDU_BYTES + _HEAD_BYTES:
                self._refuse("a protocol data unit of excessive size", event)
                return bytearray()
            received: bytearray = read(count)
            return received

        line.recv = bounded

    def _came(self, event: evt.Event) -> None:
        if not isinstance(event.pdu, P_DATA_TF):
            return
        to_file = isinstance(event.assoc.dimse.message, C_STORE_RQ)
        for item in event.pdu.presentation_data_value_items:
            value = item.presentation_data_value or b""
            # PS3.8 E.2: the first byte tells commands from data.
            if not to_file or (value[:1] and value[0] & 1):
                self._message_bytes += len(value) + 1
        if self._message_bytes > MAX_MESSAGE_BYTES:
            self._refuse("an answer of excessive size", event)

    def _whole(self, event: evt.Event) -> None:
        self._message_bytes = 0
        waiting = event.assoc.dimse.msg_queue
        while waiting.qsize() >= MAX_WAITING and not self._stopped.wait(0.001):
            pass

    def _refuse(self, why: str, event: evt.Event) -> None:
        self.failure = self.failure or SourceRefusedError(f"the archive sent {why}")
        line: Any = event.assoc.dul.socket
        with contextlib.suppress(OSError, AttributeError):  # closed meanwhile
            line.socket.shutdown(socket.SHUT_RDWR)
