"""Archives that answer with much: what it costs the process that asks is bounded, and measured here."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from connectors.sources import SourceRefusedError
from connectors.sources import json_results as limits
from connectors.sources.json_results import results

REPO = Path(__file__).resolve().parents[2]
MOST_BYTES = 63 << 20
ALLOWED_MIB = 160
"""More than before the question; a page of 200 results with all it needs takes some 2."""

ASK = """
import json, sys
sys.path.insert(0, {root!r})
from connectors.sources.opening import open_source
from connectors.sources.remote import Limits
from connectors.sources.retrying import Retrying
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents.models.source import place_from_value

def peak_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

def ask(value):
    source = open_source(place_from_value(value), Limits(retrying=Retrying(attempts=1)))
    try: return [len(list(source.items())), None]
    except HdrsError as error: return [None, error.code]
    finally: source.close()

first, second = json.loads(sys.argv[1])
ask(first)
before = peak_mib()
print(json.dumps([*ask(second), peak_mib() - before]))
"""


def measured(first: dict[str, Any], second: dict[str, Any]) -> tuple[int | None, str | None, float]:
    """Ask a modest archive, then the other, in a process of its own: items, reason code, MiB more at the peak."""
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(root=str(REPO)), json.dumps([first, second])],
        capture_output=True,
        check=True,
        timeout=240,
    )
    items, code, more = json.loads(done.stdout)
    return items, code, more


def filled(start: bytes, piece: bytes, end: bytes = b"") -> bytes:
    return start + piece * ((MOST_BYTES - len(start) - len(end)) // len(piece)) + end


def many_keys(limit: int) -> bytes:
    body = bytearray(b"{")
    number = 0
    while len(body) < limit - 20:
        body += b'"%x":1,' % number
        number += 1
    return bytes(body[:-1] + b"}")


ATTACKS: dict[str, Callable[[], bytes]] = {
    "empty objects": lambda: filled(b"[{}", b",{}", b"]"),
    "deep lists": lambda: b"[" * MOST_BYTES,
    "deep objects": lambda: filled(b"[", b'{"a":'),
    "deep lists in an object": lambda: filled(b'[{"a":', b"["),
    "one long string": lambda: filled(b'[{"0020000D":{"vr":"UI","Value":["', b"1", b'"]}}]'),
    "one long key": lambda: filled(b'[{"', b"1", b'":1}]'),
    "one long number": lambda: filled(b"[", b"1", b"]"),
    "many keys in one object": lambda: b"[" + many_keys(MOST_BYTES) + b"]",
    "many objects of many keys": lambda: filled(b"[{}", b"," + many_keys(200 << 10), b"]"),
    "many lists in one object": lambda: filled(b'[{"a":[[]', b",[]", b"]}]"),
    "numbers": lambda: filled(b"[1", b",1", b"]"),
    "empty lists": lambda: filled(b"[[]", b",[]", b"]"),
    "blanks": lambda: filled(b"[", b" ", b"]"),
    "results with long values": lambda: filled(
        b"[{}", b',{"0020000D":{"vr":"UI","Value":["' + ("1" * 1000 + "\U0001f600").encode() + b'"]}}', b"]"
    ),
}


class Service:
    def __init__(self) -> None:
        self.bodies: dict[str, tuple[dict[str, str], bytes]] = {}
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers, body = service.bodies[self.path.split("/")[1]]
                self.send_response(200)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    return  # it heard enough

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def place(self, body: bytes, **headers: str) -> dict[str, Any]:
        name = f"b{len(self.bodies)}"
        self.bodies[name] = (headers, body)
        url = f"http://127.0.0.1:{self._server.server_address[1]}/{name}"
        return {"type": "dicomweb", "url": url, "select": {"everything": True}}

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.stop()


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_large_search_answer_takes_little_memory(
    service: Service, attack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, code, more = measured(service.place(b"[]"), service.place(ATTACKS[attack]()))
    with capsys.disabled():
        print(f" {attack}: {more:.0f} MiB", end=" ")
    if attack == "blanks":
        assert code is None  # an empty list, written at length
    else:
        assert code in ("source-refused", "source-unreadable")  # not a list of results, or without UIDs
    assert more < ALLOWED_MIB


def test_a_packed_search_answer_is_not_unpacked(service: Service) -> None:
    packer = zlib.compressobj(9, wbits=31)
    packed = packer.compress(filled(b"[{}", b",{}", b"]")) + packer.flush()
    asked = service.place(packed, **{"Content-Encoding": "gzip"})
    _, code, more = measured(service.place(b"[]"), asked)
    assert code == "source-refused"
    assert more < ALLOWED_MIB


# --- how an answer is cut

ANSWER = [
    {"00100020": {"vr": "LO", "Value": ['a "quoted" } { ] [ \\ name', "é", "\u2028"]}},
    {},
    {"a": [[1, {"b": []}], {"c": "\\\\\\"}]},
]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 10_000])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_results_are_the_same_however_the_line_cuts_them(indent: int | None, size: int, mark: bytes) -> None:
    raw = mark + json.dumps(ANSWER, indent=indent, ensure_ascii=False).encode() + b" \n"
    blocks = [raw[at : at + size] for at in range(0, len(raw), size)]
    assert list(results(blocks)) == ANSWER
    assert list(results([b"  [ ] "])) == []


@pytest.mark.parametrize(
    "raw",
    [
        b"", b" ", b"[", b"[{}", b"[{},", b"[{},]", b"[,{}]", b"[{}{}]", b"[{}]]", b"[{}] x", b"{}", b"[1]", b"[[{}]]",
        b'[{"a":1]', b'[{"a":"}]', b'[{"a":1]}]', b"[{a:1}]", b"[{]", b"\xef\xbb", b"\xef\xbb[]", b'["{}"]', b"null",
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 100])
def test_what_is_no_list_of_objects_is_refused(raw: bytes, size: int) -> None:
    with pytest.raises(SourceRefusedError):
        list(results([raw[at : at + size] for at in range(0, len(raw), size)]))


@pytest.mark.parametrize(
    ("allowed", "refused"),
    [
        (b"[" + b"{}," * (limits.MAX_RESULTS - 1) + b"{}]", b"[" + b"{}," * limits.MAX_RESULTS + b"{}]"),
        (
            b'[{"a":' + b"[" * (limits.MAX_DEPTH - 1) + b"]" * (limits.MAX_DEPTH - 1) + b"}]",
            b'[{"a":' + b"[" * limits.MAX_DEPTH + b"]" * limits.MAX_DEPTH + b"}]",
        ),
        (
            b'[{"a":"' + b"x" * (limits.MAX_RESULT_BYTES - 8) + b'"}]',
            b'[{"a":"' + b"x" * (limits.MAX_RESULT_BYTES - 7) + b'"}]',
        ),
    ],
    ids=["results", "depth", "bytes of a result"],
)
def test_limits_are_as_stated(allowed: bytes, refused: bytes) -> None:
    assert sum(1 for _ in results([allowed])) in (1, limits.MAX_RESULTS)
    with pytest.raises(SourceRefusedError):
        sum(1 for _ in results([refused]))
