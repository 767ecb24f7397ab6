"""Obtaining keys: the agent's side of the hand-over, and the socket through which couriers reach it.

The key pair exists in this process only.  One answer is believed: signed by the broker's hand-over key, for
this attempt, node and public key, complete for all nodes, in time.  The same bytes again are answered in the
same way; anything else after that is an alarm and changes nothing.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import HdrsError, NotAllowedError
from hdrs_hpc.core.line import Line
from hdrs_hpc.documents import sshsig
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.protocol import handover, wire
from hdrs_hpc.protocol.handover import Answer, HandoverState, Hello, LaunchOrder, Probe, Reply, Request

_TIMEOUT_S = 30.0
_GRACE_S = 2.0


class AnswerRefusedError(NotAllowedError):
    code = "handover-answer-refused"
    meaning = "A hand-over answer is not the broker's, or not for this attempt, node and key."
    remedy = "Nothing was released.  If it happens again, somebody on the site alters what couriers carry."


class AnswerIncompleteError(NotAllowedError):
    code = "handover-incomplete"
    meaning = "Not every node of the attempt has an answer, so no node starts."
    remedy = "The broker answers again once every node has said hello."


class AnswerConflictError(NotAllowedError):
    code = "handover-answer-conflict"
    meaning = "Another answer came to an agent that has already accepted one."
    remedy = "The attempt goes on with the first; look in the log for who sent the second."


@dataclass(frozen=True)
class Identity:
    """Who this agent is and whom it believes."""

    audience: str
    project: str
    attempt: str
    node: str
    broker_key: str


class Handover:
    """State of one agent's hand-over.  All methods may be called from any thread."""

    def __init__(
        self,
        identity: Identity,
        probe: Probe,
        address: str,
        port: int,
        runtime: str,
        *,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._identity = identity
        self._private: X25519PrivateKey | None = X25519PrivateKey.generate()
        self._now = now
        self._lock = threading.Lock()
        self._accepted: bytes | None = None
        self.changed = threading.Event()
        """Set whenever there is something new: an order, or a request to stop."""
        self.order: LaunchOrder | None = None
        self.stop_asked = False
        self.alarms = 0
        self.hello = Hello(
            attempt=identity.attempt,
            node=identity.node,
            public_key=self._private.public_key().public_bytes_raw(),
            probe=probe,
            address=address,
            port=port,
            runtime=runtime,
        )

    def handle(self, line: bytes) -> bytes:
        """One request line to one reply line.  Never raises for what a courier may carry."""
        refused = None
        with self._lock:
            try:
                self._act(handover.parse_request(line))
            except HdrsError as error:
                self.alarms += 1
                refused = error.code
            state = self._state()
        return wire.to_line(Reply(self._identity.node, state, self.hello, refused))

    def close(self) -> None:
        """Forget the private key: from now on no answer can be opened any more."""
        with self._lock:
            self._private = None

    def _state(self) -> HandoverState:
        if self.stop_asked:
            return HandoverState.STOPPED
        return HandoverState.WAITING if self._accepted is None else HandoverState.ACCEPTED

    def _act(self, request: Request) -> None:
        if request.ask == "stop":
            self.stop_asked = True
            self._private = None
            self.changed.set()
        elif request.ask == "answers":
            self._accept(request.answers or {})

    def _accept(self, answers: dict[str, bytes]) -> None:
        mine = answers.get(self._identity.node)
        if mine is None:
            raise AnswerIncompleteError("there is none for this node")
        if self._accepted is not None:
            if mine != self._accepted:
                raise AnswerConflictError()
            return
        if self._private is None:
            raise AnswerRefusedError("the hand-over is closed")
        answer = self._verified(mine, self._identity.node)
        if answer.binding.public_key != self.hello.public_key:
            raise AnswerRefusedError("it is sealed to another key")
        for node in answer.binding.nodes:
            if node not in answers:
                raise AnswerIncompleteError(where=node)
            if self._verified(answers[node], node).binding.nodes != answer.binding.nodes:
                raise AnswerRefusedError("two nodes were told of different attempts")
        order = handover.open_order(answer, self._private)
        self._accepted, self._private, self.order = mine, None, order
        self.changed.set()

    def _verified(self, raw: bytes, node: str) -> Answer:
        envelope = Envelope.parse(raw)
        if envelope.payload_type != handover.ENVELOPE_TYPE or len(envelope.signatures) != 1:
            raise AnswerRefusedError("the envelope is of another kind")
        signature = envelope.signatures[0].sig
        sshsig.verify(self._identity.broker_key, signature, handover.NAMESPACE, envelope.pae())
        answer = handover.parse_answer(envelope.payload)
        binding = answer.binding
        meant = (binding.audience, binding.project, binding.attempt, binding.node)
        if meant != (self._identity.audience, self._identity.project, self._identity.attempt, node):
            raise AnswerRefusedError("it is for another broker, project, attempt or node")
        if clock.from_text(binding.not_after) <= self._now():
            raise AnswerRefusedError("its time is over")
        return answer


class CourierSocket:
    """Listens at ``path`` and lets ``handover`` answer, one courier at a time."""

    def __init__(self, path: Path, handover: Handover) -> None:
        self._handover = handover
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, name="couriers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let the courier that is being answered have its answer, and no other."""
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(_GRACE_S)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            with connection:
                courier = Line(connection)
                try:
                    line = courier.receive_line(wire.MAX_LINE_BYTES + 1, time.monotonic() + _TIMEOUT_S)
                    courier.say(self._handover.handle(line))
                    courier.flush(time.monotonic() + _TIMEOUT_S)
                except OSError:
                    continue  # the courier went away; it will come again
