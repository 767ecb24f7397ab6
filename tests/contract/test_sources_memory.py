"""Archives that answer with much: what it costs the process that asks is bounded, and measured here."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_FIND

from connectors.sources import SourceRefusedError
from connectors.sources import json_results as limits
from connectors.sources.dimse_associations import Associations
from connectors.sources.dimse_inflow import MAX_WAITING, Inflow
from connectors.sources.json_results import results
from hdrs_hpc.documents.models.source import DimseLocation, location_from_value

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
from hdrs_hpc.documents.models.source import location_from_value

def peak_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

def ask(value):
    source = open_source(location_from_value(value), Limits(retrying=Retrying(attempts=1)))
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
                headers, body = service.bodies[self.path.split("/")[1].partition("?")[0]]
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


# --- archives that are asked over associations


def found(**values: Any) -> Dataset:
    dataset = Dataset()
    dataset.StudyInstanceUID = "1.2"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def nested(event: evt.Event) -> list[Any]:
    """Sequences in sequences without end, which no library would write."""
    open_item = struct.pack("<HHLHHL", 0x40, 0x275, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    said = C_FIND()
    said.MessageIDBeingRespondedTo = event.request.MessageID
    said.AffectedSOPClassUID = event.request.AffectedSOPClassUID
    said.Status = 0xFF00
    said.Identifier = BytesIO(open_item * 50_000)
    event.assoc.dimse.send_msg(said, event.context.context_id)
    return []


def line_of(event: evt.Event) -> socket.socket:
    line: socket.socket = event.assoc.dul.socket.socket
    return line


def pieces(event: evt.Event, control: int) -> None:
    """Fragments of a message that never ends."""
    value = bytes([event.context.context_id, control]) + b"x" * 60_000
    item = struct.pack(">L", len(value)) + value
    with contextlib.suppress(OSError):
        for _ in range(MOST_BYTES // len(item) * 4):
            line_of(event).sendall(b"\x04\0" + struct.pack(">L", len(item)) + item)


def one_pdu(event: evt.Event) -> None:
    with contextlib.suppress(OSError):
        line_of(event).sendall(b"\x04\0" + struct.pack(">L", 0xFFFFFFF0))
        for _ in range(256):
            line_of(event).sendall(bytes(1 << 20))


DIMSE_ATTACKS: dict[str, Callable[[evt.Event], Any]] = {
    "one long value": lambda event: [(0xFF00, found(ImageComments="x" * (200 << 20)))],
    "a long uid": lambda event: [(0xFF00, found(StudyID="x" * 1_000_000, StudyInstanceUID="1" * 4096))],
    "deep sequences": nested,
    "many elements": lambda event: [(0xFF00, found(OtherPatientIDs=["1"] * 900_000))],
    "a command without end": lambda event: pieces(event, 1) or [],
    "data without end": lambda event: pieces(event, 0) or [],
    "one protocol data unit of 4 GiB": lambda event: one_pdu(event) or [],
}


@pytest.fixture
def archive() -> Iterator[Callable[[Callable[[evt.Event], Any]], dict[str, Any]]]:
    servers: list[Any] = []

    def start(answer: Callable[[evt.Event], Any]) -> dict[str, Any]:
        entity = AE("ARCHIVE")
        entity.add_supported_context("1.2.840.10008.5.1.4.1.2.2.1")
        entity.maximum_pdu_size = 0

        def handle(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
            yield from answer(event) if event.identifier.QueryRetrieveLevel == "STUDY" else []

        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, handle)])
        servers.append(server)
        port = server.socket.getsockname()[1]
        return {
            "type": "dimse", "host": "127.0.0.1", "port": port, "called-ae": "ARCHIVE",
            "select": {"everything": True},
        }  # fmt: skip

    yield start
    for server in servers:
        server.shutdown()


@pytest.mark.parametrize("attack", DIMSE_ATTACKS)
def test_a_large_answer_over_an_association_takes_little_memory(
    archive: Callable[..., dict[str, Any]], attack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    items, code, more = measured(archive(lambda event: []), archive(DIMSE_ATTACKS[attack]))
    with capsys.disabled():
        print(f" {attack}: {more:.0f} MiB", end=" ")
    harmless = attack == "many elements"  # below the limits: read, and without a series
    assert (items, code) == (0, None) if harmless else code == "source-refused"
    assert more < ALLOWED_MIB


def test_only_who_asks_is_given_answers(archive: Callable[..., dict[str, Any]]) -> None:
    place = location_from_value(archive(lambda event: []))
    assert isinstance(place, DimseLocation)
    associations = Associations(place, 30.0)
    with associations.lend(()) as lent:
        dimse: Any = lent.association.dimse
        dimse.msg_queue.put((1, C_FIND()))
        time.sleep(0.3)  # the library's thread looks a thousand times a second
        assert dimse.msg_queue.qsize() == 1
        assert isinstance(dimse.get_msg(block=True)[1], C_FIND)
    associations.close()


@pytest.mark.parametrize("way_out", ["somebody reads", "nobody will"])
def test_the_line_waits_while_answers_are_not_read(way_out: str) -> None:
    inflow, event = Inflow(), SimpleNamespace(assoc=SimpleNamespace(dimse=SimpleNamespace(msg_queue=Queue())))
    waiting: Queue[int] = event.assoc.dimse.msg_queue
    for number in range(MAX_WAITING):
        waiting.put(number)
    reading = threading.Thread(target=inflow._whole, args=(event,))
    reading.start()
    reading.join(0.2)
    assert reading.is_alive()
    if way_out == "somebody reads":
        waiting.get()
    else:
        inflow.stop()
    reading.join(10)
    assert not reading.is_alive()


# --- packed archives


def directory(count: int, declared: int) -> bytes:
    """A zip file that is all directory: entries of no name at one place, of which it declares some."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *[0] * 16)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, declared, declared, count * len(entry), 0, 0)
    return entry * count + end


def test_a_directory_of_more_entries_than_it_says_takes_little_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "small.zip", "w") as small:
        small.writestr("a", b"1")
    (tmp_path / "large.zip").write_bytes(directory(MOST_BYTES // 46, 1))
    places = [{"type": "zip", "path": str(tmp_path / name)} for name in ("small.zip", "large.zip")]
    _, code, more = measured(places[0], places[1])
    with capsys.disabled():
        print(f" {more:.0f} MiB", end=" ")
    assert code == "zip-refused"
    assert more < ALLOWED_MIB


# --- object stores

LISTING = b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'


@pytest.mark.parametrize("size", ["whole", "cut to what is allowed"])
@pytest.mark.parametrize(
    "piece", [b"<a/>", b"<Contents/>", b"<a>", b"<Contents><Key>k</Key><Size>1</Size></Contents>"]
)
def test_a_large_listing_takes_little_memory(
    service: Service, tmp_path: Path, piece: bytes, size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    login = tmp_path / "credentials"
    login.write_text("[default]\naws_access_key_id = tester\naws_secret_access_key = of-tests\n")
    login.chmod(0o600)
    most = (MOST_BYTES if size == "whole" else 4 << 20) - 200
    body = LISTING + piece * (most // len(piece)) + b"</ListBucketResult>"
    modest = LISTING + b"<IsTruncated>false</IsTruncated></ListBucketResult>"

    def place(answer: bytes) -> dict[str, Any]:
        url = urlsplit(service.place(answer)["url"])
        bucket = f"bucket-{url.path.strip('/')}"
        service.bodies[bucket] = ({}, answer)
        return {
            "type": "s3", "bucket": bucket, "endpoint": f"http://{url.netloc}", "region": "eu-west-2",
            "credentials-file": str(login),
        }  # fmt: skip

    items, code, more = measured(place(modest), place(body))
    with capsys.disabled():
        print(f" {more:.0f} MiB", end=" ")
    assert more < ALLOWED_MIB
    if size == "whole":
        assert (items, code) == (None, "source-refused")


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
