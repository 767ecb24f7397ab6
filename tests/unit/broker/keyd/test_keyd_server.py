"""keyd as a process: nothing sent to its socket stops it, and kill -9 changes no answer."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hdrs_hpc.broker import heartbeats
from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.broker.keyd import channel, client, server
from hdrs_hpc.broker.keyd import messages as m
from hdrs_hpc.broker.keyd.channel import KeydVersionError
from hdrs_hpc.broker.keyd.client import KeydRefusedError, KeydUnreachableError, ask
from hdrs_hpc.broker.keyd.keyd import Keyd
from hdrs_hpc.core import strict_json, wire
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.core.line import Line
from tests.support import narrow
from tests.support.keyroom import ATTEMPT, KeyRoom, Node
from tests.support.party import OTHERS

NOBODY = 65534


@pytest.fixture
def home() -> Iterator[BrokerHome]:
    with tempfile.TemporaryDirectory(prefix="keyd-") as name:  # short: a socket's path has 108 bytes
        made = BrokerHome(Path(name))
        made.settings_file.write_text('audience = "north-sde"\n')
        made.keyd_dir.mkdir(mode=0o700)
        yield made


@contextlib.contextmanager
def running(home: BrokerHome) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "hdrs_hpc.broker.keyd.server", "--home", str(home.root)],
        stderr=subprocess.PIPE,
    )
    try:
        ask(home.keyd_socket, m.Status(), wait_s=30)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def keyd(home: BrokerHome) -> Iterator[BrokerHome]:
    with running(home):
        yield home


@pytest.fixture
def in_process(home: BrokerHome) -> Iterator[BrokerHome]:
    """The same server in a thread, so that thousands of requests are quick and its bugs are seen."""
    serving = server._Server(home.keyd_socket, Keyd.open(home))
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield home
    serving.shutdown()
    serving.server_close()


def raw_exchange(home: BrokerHome, raw: bytes, *, framed: bool = True) -> dict[str, Any] | None:
    """Send bytes as they are; gives the reply, or None where the connection was closed."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(str(home.keyd_socket))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            peer.sendall(struct.pack(">I", len(raw)) + raw if framed else raw)
            peer.shutdown(socket.SHUT_WR)
        try:
            return channel.receive(Line(peer), time.monotonic() + 10)
        except ConnectionError:
            return None


def written(name: object, args: object, version: object = m.VERSION) -> bytes:
    return strict_json.dumps({"version": version, "ask": name, "args": args})


def assert_refused_as_input(reply: dict[str, Any] | None) -> None:
    """Somebody else's bad data, never our bug."""
    assert reply is not None
    assert reply["error"]["kind"] in ("bad-document", "not-allowed", "not-found", "conflict", "site"), reply


# --- malformed requests

NAMES = st.sampled_from(sorted(m.ASKS))
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzz
@given(raw=st.binary(max_size=200))
def test_bytes_that_are_no_request(in_process: BrokerHome, raw: bytes) -> None:
    assert_refused_as_input(raw_exchange(in_process, raw))


@fuzz
@given(value=ANY_JSON)
def test_json_that_is_no_request(in_process: BrokerHome, value: Any) -> None:
    assert_refused_as_input(raw_exchange(in_process, strict_json.dumps(value)))


@fuzz
@given(name=NAMES | ANY_JSON, args=ANY_JSON)
def test_requests_with_made_up_names_and_arguments(in_process: BrokerHome, name: Any, args: Any) -> None:
    reply = raw_exchange(in_process, written(name, args))
    if not (args == {} and name in ("Status", "SigningKeys")):
        assert_refused_as_input(reply)


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    """Values of the right form and arbitrary content, so that they get past the decoder."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        inner, *rules = arguments
        pattern = next((rule.regex for rule in rules if isinstance(rule, wire.Pattern)), None)
        bounds = next((rule for rule in rules if isinstance(rule, wire.Between)), None)
        if pattern is not None:
            return st.from_regex(pattern, fullmatch=True).filter(str.isascii)
        assert bounds is not None
        high = min(bounds.high, bounds.low + 300)
        if inner is int:
            return st.integers(bounds.low, bounds.high)
        if inner is bytes:
            return st.binary(min_size=bounds.low, max_size=high)
        if inner is str:
            return st.text(min_size=bounds.low, max_size=high)
        item = typing.get_args(inner)[0]
        return st.lists(of_type(item), min_size=bounds.low, max_size=bounds.low + 2).map(tuple)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if type(None) in arguments:
        return st.none() | of_type(next(item for item in arguments if item is not type(None)))
    if hint is bool:
        return st.booleans()
    if origin is tuple:
        return st.lists(of_type(arguments[0]), max_size=2).map(tuple)
    if hint in (str, bytes):
        return st.text(max_size=20) if hint is str else st.binary(max_size=20)
    if origin is dict:
        return st.dictionaries(*map(of_type, arguments), max_size=2)
    fields = wire._hints(hint)
    return st.builds(hint, **{name: of_type(field) for name, field in fields.items()})


@fuzz
@given(request=st.one_of([of_type(cls) for cls in m.ASKS.values()]))
def test_well_formed_requests_about_nothing_that_exists(in_process: BrokerHome, request: m.Ask[Any]) -> None:
    reply = raw_exchange(in_process, written(type(request).__name__, wire.to_value(request)))
    assert reply is not None
    assert "ok" in reply or reply["error"]["kind"] != "bug", (request, reply)


def test_half_requests_lying_lengths_and_silence_are_dropped(in_process: BrokerHome) -> None:
    for raw in (b"", b"\0", struct.pack(">I", 100) + b"{}", struct.pack(">I", 0xFFFFFFFF), b"\xff" * 64):
        reply = raw_exchange(in_process, raw, framed=False)
        assert reply is None or "error" in reply
    assert ask(in_process.keyd_socket, m.Status()).giving


def test_a_request_nested_too_deeply(in_process: BrokerHome) -> None:
    reply = raw_exchange(in_process, b'{"ask":"Status","args":' + b"[" * 5000 + b"]" * 5000 + b"}")
    assert reply is not None
    assert reply["error"]["code"] == "document-too-deep"


def test_a_document_with_one_flipped_bit_is_refused_through_the_socket(in_process: BrokerHome) -> None:
    room = KeyRoom(in_process.root / "elsewhere")
    raw = room.party.sign("closure", OTHERS["closure"][1], "ada").to_bytes()
    for place in range(0, len(raw), 37):
        altered = bytearray(raw)
        altered[place] ^= 0x10
        request = m.AdmitClosure(bytes(altered))
        assert_refused_as_input(raw_exchange(in_process, written("AdmitClosure", wire.to_value(request))))


# --- what is replied


@pytest.mark.parametrize("cls", m.ASKS.values(), ids=lambda cls: cls.__name__)
def test_every_request_names_its_reply_and_keyd_does_something_for_it(
    home: BrokerHome, cls: type[m.Ask[Any]]
) -> None:
    assert dataclasses.is_dataclass(cls.reply())
    empty = object.__new__(cls)
    try:
        assert isinstance(Keyd.open(home)._reply(empty), cls.reply())
    except AttributeError as missing:
        assert missing.obj is empty, "it went as far as looking into the request"


@fuzz
@given(reply=st.one_of([of_type(reply) for reply in {cls.reply() for cls in m.ASKS.values()}]))
def test_a_reply_arrives_as_it_was_said(in_process: BrokerHome, reply: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Keyd, "_reply", lambda *_: reply)
        patch.setattr(m.Status, "reply", classmethod(lambda _cls: type(reply)))
        assert ask(in_process.keyd_socket, m.Status()) == reply


def test_keyd_says_nothing_but_the_reply_that_a_request_names(
    in_process: BrokerHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Keyd, "_reply", lambda *_: m.GivenKey(b"k" * 32, None))
    with pytest.raises(KeydRefusedError) as refused:
        ask(in_process.keyd_socket, m.Status())
    assert refused.value.code == "internal-bug"


def test_a_key_is_base_64_once_on_the_wire_and_in_no_traceback(tmp_path: Path) -> None:
    given = KeyRoom(tmp_path / "keyd").begin().ask(m.UseKey("collect", "lung-fm", ATTEMPT))
    assert base64.b64encode(given.key) in strict_json.dumps(wire.to_value(given))
    assert repr(given) == "GivenKey()"


# --- versions


@pytest.mark.parametrize("version", ["hdrs-hpc/keyd/1", "hdrs-hpc/keyd/3", ""])
def test_a_request_of_another_version_is_refused_by_name(in_process: BrokerHome, version: str) -> None:
    reply = raw_exchange(in_process, written("Status", {}, version))
    assert reply is not None
    assert (reply["error"]["code"], reply["error"]["kind"]) == ("keyd-version", "site")
    assert repr(version) in reply["error"]["message"]


def test_a_request_without_a_version_is_none(in_process: BrokerHome) -> None:
    reply = raw_exchange(in_process, strict_json.dumps({"ask": "Status", "args": {}}))
    assert reply is not None
    assert reply["error"]["code"] == "message-malformed"


def test_a_reply_of_another_version_is_refused_by_name(
    in_process: BrokerHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keyd that went on running while the program was replaced."""
    real = channel.send

    def older(line: Line, said: dict[str, Any]) -> None:
        real(line, said | {"version": "hdrs-hpc/keyd/1"})

    monkeypatch.setattr(server, "send", older)
    with pytest.raises(KeydVersionError, match="hdrs-hpc/keyd/1"):
        ask(in_process.keyd_socket, m.Status())


# --- trouble of keyd's own


def test_a_failing_disk_is_told_as_trouble_that_may_pass(
    in_process: BrokerHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail[R](self: Keyd, request: m.Ask[R]) -> R:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Keyd, "answer", fail)
        with pytest.raises(KeydRefusedError) as refused:
            ask(in_process.keyd_socket, m.Status())
    assert (refused.value.code, refused.value.retry) == ("keystore-trouble", True)
    assert ask(in_process.keyd_socket, m.Status())


def test_our_own_bug_is_told_without_its_text_and_keyd_goes_on(
    in_process: BrokerHome, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail[R](self: Keyd, request: m.Ask[R]) -> R:
        raise KeyError("CANARY-of-a-key-in-a-message")

    with monkeypatch.context() as patch:
        patch.setattr(Keyd, "answer", fail)
        with pytest.raises(KeydRefusedError) as refused:
            ask(in_process.keyd_socket, m.Status())
    assert refused.value.code == "internal-bug"
    assert "CANARY" not in caplog.text + str(refused.value)
    assert "KeyError at" in caplog.text
    assert ask(in_process.keyd_socket, m.Status())


def test_the_reaper_survives_what_it_can_not_destroy(
    home: BrokerHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = server._Server(home.keyd_socket, Keyd.open(home))
    stop, calls = threading.Event(), 0

    def fail(self: Keyd) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            stop.set()
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Keyd, "destroy_expired", fail)
    monkeypatch.setattr(server, "REAP_EVERY_S", 0.01)
    serving.reap(stop)
    serving.server_close()
    assert calls == 3


def test_keyd_says_that_it_goes_on_but_not_while_a_request_hangs(
    home: BrokerHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BEAT_EVERY_S", 0.01)
    serving, stop = server._Server(home.keyd_socket, Keyd.open(home)), threading.Event()
    pulse = heartbeats.Pulse.of_keyd(home, 1.0)
    beating = threading.Thread(target=serving.beat, args=(pulse, stop), daemon=True)
    beating.start()
    until = time.monotonic() + 20
    while heartbeats.keyd(home) is None and time.monotonic() < until:
        time.sleep(0.01)
    with serving.lock:  # as the request holds it
        time.sleep(1.2)
        silent = heartbeats.keyd(home)
    stop.set()
    beating.join(20)
    again = heartbeats.keyd(home)
    serving.server_close()
    assert silent is not None and silent.stale and silent.pid == os.getpid()
    assert again is not None and not again.stale


# --- the process


def test_keyd_is_closed_to_other_accounts(keyd: BrokerHome) -> None:
    assert keyd.keyd_socket.stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o077 for path in keyd.keyd_dir.iterdir()} == {0}
    if os.getuid() != 0:
        pytest.skip("needs root to become another account")
    keyd.root.chmod(0o755)
    keyd.keyd_dir.chmod(0o755)
    keyd.keyd_socket.chmod(0o666)
    code = (
        "import socket, struct, sys; peer = socket.socket(socket.AF_UNIX); peer.connect(sys.argv[1])\n"
        'raw = b\'{"args":{},"ask":"SigningKeys","version":"hdrs-hpc/keyd/2"}\'\n'
        "peer.sendall(struct.pack('>I', len(raw)) + raw)\n"
        "print(peer.makefile('rb').read().decode('latin-1'))"
    )
    system = shutil.which("python3", path="/usr/bin:/bin")  # ours may be where that account can't read
    if system is None:
        pytest.skip("no python3 of the system's, to run as another account")
    account = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    done = subprocess.run(
        [*account, system, "-c", code, str(keyd.keyd_socket)], capture_output=True, check=False, cwd="/"
    )
    # keyd answers without reading what a stranger sent, so the kernel may end the connection before the answer.
    ended = (b"ConnectionResetError", b"BrokenPipeError")
    assert b"keyd-stranger" in done.stdout or any(error in done.stderr for error in ended)
    assert b"ssh-ed25519" not in done.stdout


@pytest.mark.parametrize("kind", narrow.KINDS)
def test_a_long_request_and_its_long_answer_pass_where_nothing_fits(home: BrokerHome, kind: str) -> None:
    """The answer to an unknown field quotes nothing of it, so a long answer is made by a patched keyd."""
    size = 300_000 if kind == "smallest buffers" else 20_000
    with narrow.sockets(narrow.KINDS[kind]):
        serving = server._Server(home.keyd_socket, Keyd.open(home))
        serving.keyd.answer = lambda ask: m.Signed(ask.payload * size)
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            told = ask(home.keyd_socket, m.SignCertificate(b"x"), wait_s=0)
            assert told.envelope == b"x" * size
            # A request that is refused before it is read whole, by an end that speaks first and listens later.
            reply = raw_exchange(home, written("Inspect", {"project": "lung-fm", "more": "y" * size}))
            assert_refused_as_input(reply)
            with pytest.raises(KeydRefusedError) as refused:
                client_says(home, struct.pack(">I", channel.MAX_MESSAGE_BYTES + 1) + b"z" * size)
            assert refused.value.code == "message-malformed"
        finally:
            serving.shutdown()
            serving.server_close()


def client_says(home: BrokerHome, raw: bytes) -> None:
    """What :func:`ask` does, with any bytes as its request."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(home.keyd_socket))
        line = Line(peer)
        line.say(raw)
        answer = channel.receive(line, time.monotonic() + 20)
    raise KeydRefusedError(answer["error"])


def test_keyd_leaves_no_core_and_lets_nobody_look_into_its_memory(home: BrokerHome) -> None:
    with running(home) as process:
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        (core,) = (line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core file"))
        assert core == ["0", "0"]
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        master = (home.keyd_dir / "master.key").read_bytes()
        for form in (master, master.hex().encode()):
            assert form not in arguments


def test_keyds_memory_is_not_dumpable() -> None:
    code = (
        "import ctypes; from hdrs_hpc.broker.keyd import server\n"
        "libc = ctypes.CDLL(None); before = libc.prctl(3, 0, 0, 0, 0)\n"  # PR_GET_DUMPABLE
        "server._harden(); print(before, libc.prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.split() == [b"1", b"0"]


def test_a_second_keyd_on_the_same_home_waits_for_the_first_ones_end(home: BrokerHome) -> None:
    with running(home) as first:
        listening = home.keyd_socket.stat().st_ino
        second = subprocess.Popen(
            [sys.executable, "-m", "hdrs_hpc.broker.keyd.server", "--home", str(home.root)]
        )
        try:
            time.sleep(2)
            assert second.poll() is None
            assert home.keyd_socket.stat().st_ino == listening, "the first one's socket, undisturbed"
            first.send_signal(signal.SIGKILL)
            first.wait()
            assert ask(home.keyd_socket, m.Status(), wait_s=20)
            assert second.poll() is None
        finally:
            second.kill()
            second.wait()


def test_kill_9_and_a_restart_change_no_answer(home: BrokerHome) -> None:
    """Bind and answer, kill, restart: the same keys, bindings and answer bytes; destroyed stays destroyed."""
    room = KeyRoom(home.keyd_dir).dated(0)
    room.keyd.close()
    node = Node()

    def live[R](request: m.Ask[R]) -> R:
        return ask(home.keyd_socket, request)

    room.ask = live  # type: ignore[method-assign]  # the same life, through the socket
    with running(home) as process:
        room.begin()
        bound = room.bind(node)
        answers = room.answer(*room.tell_bound(bound))
        asked = [room.ask(m.SigningKeys()).lines, room.ask(m.Inspect("lung-fm"))]
        process.send_signal(signal.SIGKILL)
        process.wait()
    with running(home):
        room.sign_log()
        assert room.bind(node) == bound
        assert room.answer(*room.tell_bound(bound)) == answers
        assert [room.ask(m.SigningKeys()).lines, room.ask(m.Inspect("lung-fm"))] == asked
        with pytest.raises(KeydRefusedError) as second:
            room.bind(Node())
        assert second.value.code == "handover-second-key"
        room.ask(m.Destroy("lung-fm", "all", None))
    with running(home):
        room.sign_log()
        with pytest.raises(KeydRefusedError) as destroyed:
            room.bind(node)
        assert destroyed.value.code == "key-destroyed"


@pytest.mark.parametrize(
    ("begun_days_ago", "left"),
    [(29, {"copy", "deid", "output"}), (31, {"deid", "output"}), (45, {"deid"}), (61, set())],
)
def test_a_broker_that_was_dead_at_the_end_does_not_keep_keys_alive(
    home: BrokerHome, begun_days_ago: int, left: set[str]
) -> None:
    room = KeyRoom(home.keyd_dir).dated(begun_days_ago).begin()
    room.keyd.close()
    with running(home):
        told = ask(home.keyd_socket, m.Inspect("lung-fm"))
    assert {key.role for key in told.live} == left


def test_keys_past_their_time_die_before_the_first_request_is_answered(
    home: BrokerHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(server, "_harden", lambda: None)
    monkeypatch.setattr(Keyd, "destroy_expired", lambda self: order.append("destroyed"))

    def listen(path: Path, keyd: Keyd) -> None:
        order.append("listening")
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "_Server", listen)
    with pytest.raises(KeyboardInterrupt):
        server.serve(home)
    assert order == ["destroyed", "listening"]


def test_a_keyd_that_is_down_is_told_as_such(home: BrokerHome) -> None:
    with pytest.raises(KeydUnreachableError) as down:
        ask(home.keyd_socket, m.Status(), wait_s=0.2)
    assert down.value.retry


def test_a_refusal_keeps_its_code_kind_and_remedy_on_the_way(keyd: BrokerHome) -> None:
    with pytest.raises(HdrsError) as refused:
        ask(keyd.keyd_socket, m.UseKey("collect", "lung-fm", ATTEMPT))
    assert (refused.value.code, refused.value.kind, refused.value.exit_code, refused.value.http_status) == (
        "keyd-project-unknown",
        "not-found",
        5,
        404,
    )
    assert client.KeydRefusedError.__name__ == type(refused.value).__name__
