"""A DICOMweb archive as a source: QIDO-RS finds, WADO-RS brings (PS3.18 10.6 and 10.4).

What WADO-RS brings goes to the spool as it comes.  The client library of this field parses each instance in the
calling process and in memory; here untrusted files are for the sandboxed parsers only.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from connectors.sources import (
    SourceItem,
    SourceItemMissingError,
    SourceLoginError,
    SourceRefusedError,
    SourceTooLargeError,
)
from connectors.sources.credentials import secret_text, tls_context
from connectors.sources.dicom_archive import MAX_STUDIES, InstanceRef, Level, Row, check_row, selected_items
from connectors.sources.json_results import results
from connectors.sources.multipart import boundary_of, copy_single_part
from connectors.sources.retrying import LineBrokenError, Retrying
from connectors.sources.spool import Partial
from hdrs_hpc.documents.models.source import DicomwebLocation

PAGE_ROWS = 200
SMALLEST_CAP_ROWS = 50
"""A page shorter than this is the last one: servers cap pages on their own, but none known so low."""
MAX_PAGE_CHARS = 24 << 20
"""Kept of one page: of 100,000 results, 250 characters each."""
CONNECTIONS = 32
_BLOCK = 256 << 10
_TAGS = {
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "SOPInstanceUID": "00080018",
    "SOPClassUID": "00080016",
    "PatientID": "00100020",
    "StudyDate": "00080020",
    "Modality": "00080060",
    "ModalitiesInStudy": "00080061",
    "NumberOfStudyRelatedSeries": "00201206",
    "NumberOfSeriesRelatedInstances": "00201209",
}
# As stored, whatever the syntax: the standard lets "*" stand for it (PS3.18 8.7.3.5.2); the default of a
# server would be explicit little-endian, decoded on the way.
_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'


class DicomwebCarrier:
    """See :class:`connectors.sources.remote.Carrier`."""

    def __init__(
        self, place: DicomwebLocation, retrying: Retrying | None = None, *, read_timeout_s: float = 120.0
    ) -> None:
        self._place = place
        self._retrying = retrying or Retrying()
        self._read_timeout_s = read_timeout_s
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._authorization: str | None = None

    def items(self) -> Iterator[SourceItem]:
        yield from selected_items(self._find, self._place.select)

    def fetch(self, path: str, partial: Partial) -> None:
        """From the start each time: WADO-RS has no ranges of an instance that servers agree on."""
        ref = InstanceRef.parse(path)
        url = f"/studies/{ref.study}/series/{ref.series}/instances/{ref.instance}"
        with self._get(url, _AS_STORED) as response:
            partial.restart()
            boundary = boundary_of(response.headers.get("content-type", ""))
            blocks = response.iter_raw(_BLOCK)
            if boundary is not None:
                copy_single_part(blocks, boundary, partial.write)
            elif response.headers.get("content-type", "").startswith("application/dicom"):
                for block in blocks:
                    partial.write(block)
            else:
                raise SourceRefusedError("an instance was answered as something that is not DICOM")
            if not partial.size:
                raise LineBrokenError("the archive answered with an instance of no bytes")

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (DicomwebCarrier, (self._place, self._retrying))

    def _find(self, level: Level, keys: Row) -> Iterator[Row]:
        """QIDO-RS, page by page until one has nothing new: servers cap pages, and some know no offset."""
        url = "/studies"
        keys = dict(keys)
        own = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}[level]
        if level != "STUDY":
            url += f"/{keys.pop('StudyInstanceUID')}/series"
        if level == "IMAGE":
            url += f"/{keys.pop('SeriesInstanceUID')}/instances"
        params = [(name, value) for name, value in keys.items() if value]
        params += [("includefield", _TAGS[name]) for name, value in keys.items() if not value]
        seen: set[str] = set()
        asked = 0
        while True:
            page_params = [*params, ("limit", str(PAGE_ROWS)), ("offset", str(asked))]
            rows = self._retrying.run(lambda: self._page(url, page_params))  # noqa: B023 (run at once)
            new = [row for row in rows if row.get(own) not in seen]
            seen.update(row.get(own, "") for row in new)
            if len(seen) > MAX_STUDIES:
                raise SourceTooLargeError(f"a search with more than {MAX_STUDIES} answers")
            yield from new
            asked += len(rows)
            if not new and len(rows) >= PAGE_ROWS:
                # Whatever follows its first page would be missing without a word.
                raise SourceRefusedError("the search service gives the same page for every offset")
            if not new or len(rows) < SMALLEST_CAP_ROWS:
                return

    def _page(self, url: str, params: list[tuple[str, str]]) -> list[Row]:
        try:
            with self._get(url, "application/dicom+json", params) as response:
                if response.status_code == 204:
                    return []
                if response.headers.get("content-encoding", "identity") != "identity":
                    # Unpacked, a block of it could be a thousand times as large.
                    raise SourceRefusedError("search results are packed, which nobody asked for")
                return _rows(response.iter_raw(_BLOCK))
        except SourceItemMissingError:
            raise SourceRefusedError("there is no search service at this address") from None

    @contextmanager
    def _get(
        self, url: str, accept: str, params: list[tuple[str, str]] | None = None
    ) -> Iterator[httpx.Response]:
        client, authorization = self._connected()
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        if authorization:
            headers["Authorization"] = authorization
        try:
            with client.stream(
                "GET", self._place.url + url, params=list(params or ()), headers=headers
            ) as response:
                self._check(response, authorization)
                yield response
        except (httpx.TransportError, httpx.DecodingError) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise SourceLoginError("the archive's certificate is not one we trust") from None
            raise LineBrokenError(f"the archive broke off ({type(error).__name__})") from None

    def _connected(self) -> tuple[httpx.Client, str | None]:
        place = self._place
        with self._lock:
            if self._client is None:
                context = tls_context(place.ca_file, place.certificate_file, place.key_file)
                self._client = httpx.Client(
                    verify=context,
                    trust_env=False,  # no proxy, no .netrc: only what the place says
                    follow_redirects=False,
                    timeout=httpx.Timeout(self._read_timeout_s, connect=15.0),
                    limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
                )
            if self._authorization is None:
                self._authorization = self._read_credential()
            return self._client, self._authorization

    def _read_credential(self) -> str | None:
        if self._place.token_file:
            return f"Bearer {secret_text(self._place.token_file, 'token')}"
        if self._place.login_file:
            login = secret_text(self._place.login_file, "login")
            return f"Basic {base64.b64encode(login.encode()).decode()}"
        return None

    def _check(self, response: httpx.Response, authorization: str | None) -> None:
        status = response.status_code
        if status in (200, 204, 206):
            return
        if status in (401, 403):
            with self._lock:
                self._authorization = renewed = self._read_credential()
            if renewed != authorization:
                raise LineBrokenError("the archive wants another credential")
            raise SourceLoginError(f"the archive answered {status}")
        if status in (404, 410):
            raise SourceItemMissingError(
                "the archive no longer has an instance, or not the service asked for"
            )
        if status in (408, 425, 429) or status >= 500:
            # 500 is what archives answer to an instance that they stumble over.
            of_item = status == 500
            raise LineBrokenError(f"the archive answered {status}", _retry_after_s(response), of_item=of_item)
        raise SourceRefusedError(f"the archive answered {status}")


def _retry_after_s(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _rows(blocks: Iterator[bytes]) -> list[Row]:
    rows: list[Row] = []
    chars = 0
    for result in results(blocks):
        row = _row(result)
        chars += sum(map(len, row.values()))
        if chars > MAX_PAGE_CHARS:
            raise SourceRefusedError("a page of search results with an excess of text")
        rows.append(row)
    return rows


def _row(item: dict[str, Any]) -> Row:
    """DICOM JSON model, PS3.18 F: only what we asked for, only text and whole numbers."""
    row = {}
    for keyword, tag in _TAGS.items():
        element = item.get(tag)
        values = element.get("Value") if isinstance(element, dict) else None
        if isinstance(values, list):
            row[keyword] = "\\".join(str(value) for value in values if type(value) in (str, int))
    return check_row(row)
