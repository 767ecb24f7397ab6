"""Uploads through the web, by the client that `hdrs-hpc submit` uses: broken lines, and memory."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from hdrs_hpc.client import uploads
from hdrs_hpc.client.http import Api, BrokerRefusedError, BrokerUnreachableError
from tests.support.office import Office, digest

LARGE_BYTES = 300 << 20


class Zeros(io.RawIOBase):
    """A large file that takes no memory."""

    def __init__(self) -> None:
        self.place = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self.place = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        piece = bytes(min(size, LARGE_BYTES - self.place))
        self.place += len(piece)
        return piece


class Line(httpx.BaseTransport):
    """A line to the office that breaks whenever it is told to, before or after the request arrived."""

    def __init__(self, office: Office, breaks: str = "") -> None:
        self.office, self.breaks, self.calls = office, list(breaks), 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        how = self.breaks.pop(0) if self.breaks else "."
        if how == "x":
            raise httpx.ConnectError("no line")
        answer = self.office.http.request(
            request.method, str(request.url), content=request.read(), headers=request.headers
        )
        if how == "y":
            raise httpx.ReadError("the answer got lost")
        return httpx.Response(answer.status_code, content=answer.content)


def session(office: Office, line: Line, person: str = "rae") -> Any:
    api = Api("http://127.0.0.1:1", token=office.header(person)["Authorization"].removeprefix("Bearer "))
    api._client = httpx.Client(transport=line, base_url=api.url, headers=api._client.headers)
    return SimpleNamespace(api=api)


def send(office: Office, line: Line, content: bytes, **more: Any) -> list[float]:
    waits: list[float] = []
    uploads.send(
        session(office, line),
        "lung-fm",
        io.BytesIO(content),
        more.get("digest", digest(content)),
        len(content),
        wait=waits.append,
    )
    return waits


@pytest.mark.parametrize("breaks", ["", "x", "y", ".x", ".y", ".yxy", "..x.x.y"])
def test_a_line_that_breaks_costs_a_piece_and_not_the_file(
    office: Office, breaks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PIECE_BYTES", 1000)
    content = f"{breaks} ".encode() * 1500
    waits = send(office, Line(office, breaks), content)
    assert office.home.file(digest(content)).read_bytes() == content
    assert len(waits) == breaks.count("x") + breaks.count("y")


def test_a_line_that_stays_broken_ends_the_command(office: Office) -> None:
    line = Line(office, "x" * 100)
    with pytest.raises(BrokerUnreachableError):
        send(office, line, b"some code")
    assert line.calls == 8


def test_a_wrong_digest_is_not_tried_again(office: Office) -> None:
    line = Line(office)
    with pytest.raises(BrokerRefusedError) as refused:
        send(office, line, b"some code", digest=f"sha256:{'7' * 64}")
    assert (refused.value.code, line.calls) == ("upload-digest-mismatch", 2)


def test_what_the_broker_holds_is_not_sent_again(office: Office) -> None:
    send(office, Line(office), b"code that stays")
    line = Line(office)
    send(office, line, b"code that stays")
    assert line.calls == 1


def test_300_mb_take_a_few_pieces_of_memory_here_and_there(office: Office) -> None:
    whole = hashlib.sha256()
    for _ in range(LARGE_BYTES >> 20):
        whole.update(bytes(1 << 20))
    named = f"sha256:{whole.hexdigest()}"
    tracemalloc.start()
    try:
        source: Any = Zeros()
        uploads.send(session(office, Line(office)), "lung-fm", source, named, LARGE_BYTES)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert office.home.file(named).stat().st_size == LARGE_BYTES
    assert peak < 100 << 20  # client and broker are one process here, and each holds copies of one piece
    office.home.file(named).unlink()
