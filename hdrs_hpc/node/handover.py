"""Obtaining keys: the agent's side of the hand-over, and the socket through which couriers reach it.

The key pair exists in this process only.  One answer is believed: signed by the broker's hand-over key, for
this attempt, node and public key, with the list of all nodes that it names, in time.  The same bytes again are
answered in the same way; anything else after that is an alarm and changes nothing.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hdrs_hpc.catalogue.workloads.plan import Rendezvous
from hdrs_hpc.core import clock, wire
from hdrs_hpc.core.errors import HdrsError, NotAllowedError
from hdrs_hpc.core.line import Line
from hdrs_hpc.documents import sshsig
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.node.arguments import AgentArguments
from hdrs_hpc.node.network import PeerAddress
from hdrs_hpc.protocol import handover
from hdrs_hpc.protocol.handover import Answer, HandoverState, Hello, LaunchOrder, NodeList, Reply, Request

_TIMEOUT_S = 30.0
_GRACE_S = 2.0


class AnswerRefusedError(NotAllowedError):
    code = "handover-answer-refused"
    meaning = "A hand-over answer is not the broker's, or not for this attempt, node and key."
    remedy = "Nothing was released.  If it happens again, somebody on the site alters what couriers carry."


class AnswerIncompleteError(NotAllowedError):
    code = "handover-incomplete"
    meaning = "What came holds no answer for this node, or does not name every node of the attempt."
    remedy = "The broker answers again once every node has said hello."


class AnswerConflictError(NotAllowedError):
    code = "handover-answer-conflict"
    meaning = "Another answer came to an agent that has already accepted one."
    remedy = "The attempt goes on with the first; look in the log for who sent the second."


class Handover:
    """State of one agent's hand-over.  All methods may be called from any thread."""

    def __init__(self, given: AgentArguments, probe: handover.Probe, place: PeerAddress) -> None:
        self._given = given
        self._private: X25519PrivateKey | None = X25519PrivateKey.generate()
        self._lock = threading.Lock()
        self._accepted: tuple[handover.NodeAnswer, bytes] | None = None
        self.changed = threading.Event()
        """Set whenever there is something new: an order, or a request to stop."""
        self.order: LaunchOrder | None = None
        self.nodes: NodeList | None = None
        self.stop_asked = False
        self.alarms = 0
        self.hello = Hello(
            attempt=given.attempt,
            node=given.node,
            public_key=self._private.public_key().public_bytes_raw(),
            probe=probe,
            address=place.address,
            told=Rendezvous(place.port).to_bytes(),
            runtime=given.runtime,
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
        return wire.to_line(Reply(self._given.node, state, self.hello, refused))

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
        elif request.ask == "answer":
            if request.answer is None or request.nodes is None:
                raise AnswerIncompleteError("there is no answer, or no list of nodes")
            self._accept(request.answer, request.nodes)

    def _accept(self, brought: handover.NodeAnswer, raw_nodes: bytes) -> None:
        if self._accepted is not None:
            if (brought, raw_nodes) != self._accepted:
                raise AnswerConflictError()
            return
        if self._private is None:
            raise AnswerRefusedError("the hand-over is closed")
        answer = self._verified(brought.envelope)
        nodes = self._listed(answer, raw_nodes)
        order = handover.open_order(answer, brought.sealed, self._private)
        self._accepted, self._private, self.order, self.nodes = (brought, raw_nodes), None, order, nodes
        self.changed.set()

    def _verified(self, raw: bytes) -> Answer:
        envelope = Envelope.parse(raw)
        if envelope.payload_type != handover.ENVELOPE_TYPE or len(envelope.signatures) != 1:
            raise AnswerRefusedError("the envelope is of another kind")
        signature = envelope.signatures[0].sig
        sshsig.verify(self._given.broker_key, signature, handover.NAMESPACE, envelope.pae())
        answer = handover.parse_answer(envelope.payload)
        given, bound = self._given, answer.binding
        if (bound.audience, bound.project, bound.attempt) != (given.audience, given.project, given.attempt):
            raise AnswerRefusedError("it is for another broker, project or attempt")
        if (bound.node, bound.public_key) != (given.node, self.hello.public_key):
            raise AnswerRefusedError("it is sealed to another node or key")
        if clock.from_text(bound.not_after) <= clock.now():
            raise AnswerRefusedError("its time is over")
        return answer

    def _listed(self, answer: Answer, raw: bytes) -> NodeList:
        """The list that the signed answer names: complete, and with all that this node said of itself."""
        nodes = handover.parse_nodes(raw)
        if (nodes.digest(), nodes.attempt) != (answer.binding.nodes, self._given.attempt):
            raise AnswerRefusedError("the list of nodes is another than the answer names")
        if len(nodes.nodes) != self._given.nodes:
            raise AnswerIncompleteError(f"{len(nodes.nodes)} of {self._given.nodes} nodes")
        if not any((it.node, it.hello) == (self._given.node, self.hello.digest()) for it in nodes.nodes):
            raise AnswerRefusedError("the list of nodes tells otherwise of this one")
        return nodes


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
