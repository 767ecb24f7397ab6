"""DICOMweb services that behave in the ways that services do: a small one of our own says what each test needs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from connectors.sources import (
    Source,
    SourceItemMissingError,
    SourceListingShortError,
    SourceLoginError,
    SourceRefusedError,
    SourceUnreachableError,
    SourceUnreadableError,
)
from connectors.sources.multipart import copy_single_part
from connectors.sources.opening import open_source
from connectors.sources.remote import Limits
from connectors.sources.retrying import LineBrokenError, Retrying
from hdrs_hpc.documents.models.source import location_from_value

LIMITS = Limits(retrying=Retrying(attempts=3, first_s=0.01, longest_s=0.02))
ITEM = "studies/1.2/series/1.2.3/instances/1.2.3.4.dcm"
MULTIPART = 'multipart/related; type="application/dicom"; boundary="b-1"'
Answer = tuple[int, dict[str, str], bytes]


class Service:
    """Answers by ``answer(path, query, headers)`` and keeps what was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[str, dict[str, list[str]], Any], Answer] = lambda *_: (404, {}, b"")
        self.asked: list[tuple[str, dict[str, list[str]], Any]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                asked = (parts.path, parse_qs(parts.query), self.headers)
                service.asked.append(asked)
                status, headers, body = service.answer(*asked)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                if "Content-Length" in headers:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def source(self, select: dict[str, Any] | None = None, **fields: str) -> Source:
        url = f"http://127.0.0.1:{self._server.server_address[1]}/rs"
        value = {"type": "dicomweb", "url": url, "select": select or {"everything": True}}
        return open_source(location_from_value(value | fields), LIMITS)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.stop()


def rows(keyword_tag: str, values: list[str], **more: str) -> bytes:
    return json.dumps(
        [
            {keyword_tag: {"vr": "UI", "Value": [value]}}
            | {tag: {"vr": "LO", "Value": [text]} for tag, text in more.items()}
            for value in values
        ]
    ).encode()


def archive(studies: list[str], instances: int = 1, page: int | None = None, offsets: bool = True) -> Any:
    """An archive of these studies with one series each; pages capped to ``page``, offsets perhaps not known."""

    def answer(path: str, query: dict[str, list[str]], _: Any) -> Answer:
        parts = path.removeprefix("/rs/").split("/")
        if len(parts) == 1:
            tag, found = "0020000D", studies
        elif len(parts) == 3:
            tag, found = "0020000E", [f"{parts[1]}.1"]
        else:
            tag, found = "00080018", [f"{parts[3]}.{number}" for number in range(1, instances + 1)]
        start = int(query["offset"][0]) if offsets else 0
        count = min(int(query["limit"][0]), page or 10**9)
        return 200, {}, rows(tag, found[start : start + count])

    return answer


@pytest.mark.parametrize(("page", "offsets"), [(None, True), (100, True), (60, True), (None, False)])
def test_results_are_whole_whether_pages_are_capped_or_offsets_unknown(
    service: Service, page: int | None, offsets: bool
) -> None:
    count = 150 if not offsets else 450
    service.answer = archive(["1.2"], instances=count, page=page, offsets=offsets)
    assert len(list(service.source().items())) == count


def test_a_service_whose_further_pages_can_not_be_had_is_refused_not_cut_short(service: Service) -> None:
    service.answer = archive(["1.2"], instances=450, offsets=False)
    with pytest.raises(SourceRefusedError, match="same page"):
        list(service.source().items())


@pytest.mark.parametrize("lacking", ["0020000E", "00080018"])
def test_a_listing_that_lacks_what_the_archive_says_it_holds_is_asked_for_again(
    service: Service, lacking: str
) -> None:
    short = [True, False]
    service.answer = forgetful(lacking, lambda: short.pop(0))
    assert len(list(service.source().items())) == 4


@pytest.mark.parametrize("lacking", ["0020000E", "00080018"])
def test_a_listing_that_stays_short_is_refused_and_not_staged_as_if_whole(
    service: Service, lacking: str
) -> None:
    service.answer = forgetful(lacking, lambda: True)
    with pytest.raises(SourceListingShortError, match="1 where it says that there are 2"):
        list(service.source().items())


def forgetful(lacking: str, forgets: Callable[[], bool]) -> Any:
    """A study of two series with two instances each, of which answers by ``lacking`` may lack the last."""

    def answer(path: str, _query: dict[str, list[str]], _: Any) -> Answer:
        parts = path.removeprefix("/rs/").split("/")
        if len(parts) == 1:
            return 200, {}, told("0020000D", ["1.2"], **{"00201206": 2})
        if len(parts) == 3:
            tag, found, more = "0020000E", ["1.2.1", "1.2.2"], {"00201209": 2}
        else:
            tag, found, more = "00080018", [f"{parts[3]}.{number}" for number in (1, 2)], {}
        cut = tag == lacking and (parts[-2:] != ["1.2.2", "instances"]) and forgets()
        return 200, {}, told(tag, found[:1] if cut else found, **more)

    return answer


def told(tag: str, uids: list[str], **counts: int) -> bytes:
    number = {tag: {"vr": "IS", "Value": [count]} for tag, count in counts.items()}
    return json.dumps([{tag: {"vr": "UI", "Value": [uid]}} | number for uid in uids]).encode()


def test_no_content_means_no_results(service: Service) -> None:
    service.answer = lambda *_: (204, {}, b"")
    assert list(service.source().items()) == []


def test_paths_come_in_order_of_bytes_where_one_uid_begins_as_another(service: Service) -> None:
    service.answer = archive(["1.2", "1.10", "1", "1.2.3", "12"])
    paths = [item.path.encode() for item in service.source().items()]
    assert paths == sorted(paths)
    assert len(paths) == 5


def test_the_selection_is_asked_for_and_what_a_service_answers_beyond_it_is_dropped(
    service: Service, tmp_path: Path
) -> None:
    (tmp_path / "patients").write_text("P1\n")

    def answer(path: str, query: dict[str, list[str]], headers: Any) -> Answer:
        if path == "/rs/studies":  # one that knows no keys and answers all it has
            found = [
                {"0020000D": uid, "00100020": patient, "00080020": date}
                for uid, patient, date in (
                    ("1.1", "P1", "20200101"),
                    ("1.2", "P10", "20200101"),
                    ("1.3", "P1", "20210101"),
                    ("1.4", "P1", ""),
                )
            ]
            as_json = [{tag: {"vr": "LO", "Value": [text]} for tag, text in row.items()} for row in found]
            return 200, {}, json.dumps(as_json).encode()
        if path.endswith("/series"):
            return 200, {}, rows("0020000E", ["9.1"], **{"00080060": "CT"})
        return 200, {}, rows("00080018", ["9.1.1"])

    service.answer = answer
    select = {
        "patients-file": str(tmp_path / "patients"),
        "study-date-to": "2020-12-31",
        "modalities": ["CT"],
    }
    listed = [item.path for item in service.source(select).items()]
    assert listed == ["studies/1.1/series/9.1/instances/9.1.1.dcm"]
    path, query, _ = service.asked[0]
    assert path == "/rs/studies"
    assert query["PatientID"] == ["P1"]
    assert query["StudyDate"] == ["-20201231"]
    assert query["ModalitiesInStudy"] == ["CT"]


@pytest.mark.parametrize("uid", ["../../x", "1.2/3", "*", "", "1" * 65, "1.2\r\nX: y"])
def test_a_uid_that_would_lead_elsewhere_is_refused(service: Service, uid: str) -> None:
    service.answer = archive([uid])
    with pytest.raises(SourceUnreadableError, match="no UID"):
        list(service.source().items())


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"<html>", b"[" * 100_000])
def test_search_results_of_another_form_are_refused(service: Service, body: bytes) -> None:
    service.answer = lambda *_: (200, {}, body)
    with pytest.raises(SourceRefusedError):
        list(service.source().items())


def part(data: bytes, end: bytes = b"\r\n--b-1--\r\n") -> bytes:
    return b"\r\n--b-1\r\nContent-Type: application/dicom\r\n\r\n" + data + end


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        (MULTIPART, part(b"DICM"), b"DICM"),
        (MULTIPART, part(b"DICM").removeprefix(b"\r\n"), b"DICM"),
        (MULTIPART, b"preamble" + part(b"a\r\n--b-\r\n\r\nb", b"\r\n--b-1--"), b"a\r\n--b-\r\n\r\nb"),
        (MULTIPART.replace('"b-1"', "b-1"), part(b"\r\n"), b"\r\n"),
        ("application/dicom", b"DICM", b"DICM"),
    ],
)
def test_an_instance_is_taken_out_of_its_answer(
    service: Service, content_type: str, body: bytes, expected: bytes
) -> None:
    service.answer = lambda *_: (200, {"Content-Type": content_type}, body)
    with service.source().open(ITEM) as file:
        assert file.read() == expected
    assert service.asked[0][2]["Accept"].endswith("transfer-syntax=*")


@pytest.mark.parametrize("size", range(1, 40))
def test_a_body_is_the_same_however_the_line_cuts_it(size: int) -> None:
    whole = part(b"x\r\n--b-\r\ny" * 3 + b"\r\n--b")
    blocks = [whole[at : at + size] for at in range(0, len(whole), size)]
    got: list[bytes] = []
    copy_single_part(blocks, b"b-1", got.append)
    assert b"".join(got) == b"x\r\n--b-\r\ny" * 3 + b"\r\n--b"


@pytest.mark.parametrize(
    ("headers", "body", "error"),
    [
        ({"Content-Type": MULTIPART}, part(b"DICM", b""), SourceUnreachableError),
        ({"Content-Type": MULTIPART, "Content-Length": "999"}, part(b"DICM", b""), SourceUnreachableError),
        ({"Content-Type": MULTIPART}, part(b""), SourceUnreachableError),
        ({"Content-Type": MULTIPART}, part(b"1", b"") + part(b"2"), SourceRefusedError),
        ({"Content-Type": "multipart/related"}, part(b"1"), SourceRefusedError),
        ({"Content-Type": MULTIPART}, b"\r\n--b-1\r\n" + b"x" * 100_000, SourceRefusedError),
        ({"Content-Type": "text/html"}, b"<html>", SourceRefusedError),
    ],
)
def test_an_answer_that_is_not_one_whole_instance_is_never_taken_for_one(
    service: Service, headers: dict[str, str], body: bytes, error: type[Exception]
) -> None:
    service.answer = lambda *_: (200, headers, body)
    with pytest.raises(error):
        service.source().open(ITEM)


@pytest.mark.parametrize(
    ("status", "error", "tries"),
    [
        (400, SourceRefusedError, 1),
        (401, SourceLoginError, 1),
        (403, SourceLoginError, 1),
        (404, SourceItemMissingError, 1),
        (406, SourceRefusedError, 1),
        (302, SourceRefusedError, 1),
        (429, SourceUnreachableError, 3),
        (500, SourceUnreadableError, 3),
        (503, SourceUnreachableError, 3),
    ],
)
def test_each_refusal_has_its_code_and_only_what_may_pass_is_tried_again(
    service: Service, status: int, error: type[Exception], tries: int
) -> None:
    service.answer = lambda *_: (status, {"Location": "http://127.0.0.1:1/elsewhere"}, b"")
    with pytest.raises(error):
        service.source().open(ITEM)
    assert len(service.asked) == tries


def test_a_token_is_renewed_when_the_service_wants_another(service: Service, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")
    token.chmod(0o600)

    def answer(_: str, __: Any, headers: Any) -> Answer:
        if headers["Authorization"] != "Bearer new":
            token.write_text("new")  # as the program that renews it would
            return 401, {}, b""
        return 200, {"Content-Type": "application/dicom"}, b"DICM"

    service.answer = answer
    with service.source(**{"token-file": str(token)}).open(ITEM) as file:
        assert file.read() == b"DICM"


def test_an_answer_that_ends_before_its_boundary_is_a_broken_line() -> None:
    with pytest.raises(LineBrokenError):
        copy_single_part([part(b"DICM", b"\r\n--b-")], b"b-1", lambda _: None)
