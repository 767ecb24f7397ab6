"""Objects of an S3-compatible store as a source.

Credentials come from where S3 clients look for them (profile of the shared file, environment, role of the
machine); a registration names at most the profile and the file.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import boto3
import google_crc32c
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
)
from botocore.session import Session
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from connectors.sources import (
    SourceCorruptError,
    SourceCredentialError,
    SourceItem,
    SourceItemMissingError,
    SourceLoginError,
    SourceRefusedError,
)
from connectors.sources.retrying import LineBrokenError, Retrying
from connectors.sources.spool import Partial
from hdrs_hpc.documents.models.source import S3Location

CONNECTIONS = 32
_BLOCK = 1 << 20
MAX_LISTING_BYTES = 4 << 20
"""Of an answer that is not an object's bytes: a page of 1,000 keys of 1,024 bytes, each written as %XX."""
MAX_LISTING_TAGS = 100_000
"""Of the same: some thirty a key."""
_LOGIN = (
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "403",
)
_MISSING = ("NoSuchKey", "NotFound", "404")


class S3Carrier:
    """See :class:`connectors.sources.remote.Carrier`."""

    def __init__(
        self, place: S3Location, retrying: Retrying | None = None, *, read_timeout_s: float = 60.0
    ) -> None:
        self._place = place
        self._retrying = retrying or Retrying()
        self._read_timeout_s = read_timeout_s
        self._lock = threading.Lock()
        self._client: Any = None

    def items(self) -> Iterator[SourceItem]:
        """Stores list in the order of the keys' UTF-8 bytes; marks of folders (``…/``, no bytes) are no items."""
        place, token = self._place, None
        while True:
            more: dict[str, Any] = {"ContinuationToken": token} if token else {}
            page = self._retrying.run(lambda: self._page(more))  # noqa: B023 (run at once)
            for entry in page.get("Contents", ()):
                if not (entry["Key"].endswith("/") and entry["Size"] == 0):
                    yield SourceItem(entry["Key"].removeprefix(place.prefix), entry["Size"])
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or token is None:
                return

    def fetch(self, path: str, partial: Partial) -> None:
        """Goes on with a range where a transfer broke, as long as the object is the same by its ETag."""
        wanted: dict[str, Any] = {"Bucket": self._place.bucket, "Key": self._place.prefix + path}
        goes_on = partial.size > 0 and partial.mark is not None
        try:
            if goes_on:
                part = {"Range": f"bytes={partial.size}-", "IfMatch": partial.mark}
                answer = self._call("get_object", **wanted, **part)
                # An answer to a range states no checksum of the whole.
                facts = self._call("head_object", **wanted, IfMatch=partial.mark, ChecksumMode="ENABLED")
            else:
                answer = facts = self._call("get_object", **wanted, ChecksumMode="ENABLED")
        except _ChangedError:
            partial.restart()
            raise LineBrokenError("an object was replaced while it was read") from None
        if not (goes_on and answer.get("ContentRange", "").startswith(f"bytes {partial.size}-")):
            partial.restart(answer["ETag"])
        self._copy(answer["Body"], partial)
        if partial.size != facts["ContentLength"]:
            raise LineBrokenError("an object ended before its length")
        _verify(facts, partial)

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (S3Carrier, (self._place, self._retrying))

    def _page(self, more: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._call(
            "list_objects_v2", Bucket=self._place.bucket, Prefix=self._place.prefix, **more
        )
        return found

    def _copy(self, body: Any, partial: Partial) -> None:
        try:
            while block := body.read(_BLOCK):
                partial.write(block)
        except (BotoCoreError, HTTPError, OSError) as error:
            raise LineBrokenError(f"the store broke off ({type(error).__name__})") from None
        finally:
            body.close()

    def _call(self, operation: str, **arguments: Any) -> Any:
        try:
            return getattr(self._connected(), operation)(**arguments)
        except ClientError as error:
            raise _translated(error) from None
        except (NoCredentialsError, PartialCredentialsError):
            raise SourceCredentialError("there are no credentials for the store, or half of them") from None
        except SSLError:
            raise SourceLoginError("the store's certificate is not one we trust") from None
        except (BotoCoreError, HTTPError, OSError) as error:
            raise LineBrokenError(f"the store did not answer ({type(error).__name__})") from None

    def _connected(self) -> Any:
        place = self._place
        with self._lock:
            if self._client is None:
                core = Session(profile=place.profile)
                if place.credentials_file:
                    core.set_config_variable("credentials_file", place.credentials_file)
                config = Config(
                    retries={"total_max_attempts": 1},  # tried again by us, with what came kept
                    connect_timeout=15,
                    read_timeout=self._read_timeout_s,
                    max_pool_connections=CONNECTIONS,
                    s3={"addressing_style": "path" if place.endpoint else "auto"},
                    response_checksum_validation="when_required",  # over the whole object, by us
                )
                try:
                    self._client = boto3.Session(botocore_session=core).client(
                        "s3",
                        endpoint_url=place.endpoint,
                        region_name=place.region,
                        verify=place.ca_file,
                        config=config,
                    )
                    self._client.meta.events.register("before-send.s3", _Bounded(self._client))
                except (ProfileNotFound, PartialCredentialsError):
                    raise SourceCredentialError("there is no such profile, or it is not whole") from None
                except (BotoCoreError, ValueError) as error:
                    raise SourceRefusedError(f"no client for this store ({type(error).__name__})") from None
            return self._client


class _Bounded:
    """Sends in the client's place, so that what the client would take and parse whole is bounded while it comes."""

    def __init__(self, client: Any) -> None:
        self._session = client._endpoint.http_session  # the one that has our certificates and time limits

    def __call__(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        is_object, request.stream_output = request.stream_output, True
        answer: AWSResponse = self._session.send(request)
        if is_object and answer.status_code < 300:
            return answer
        return AWSResponse(answer.url, answer.status_code, answer.headers, _Whole(answer.raw))


class _Whole:
    """A body that has come, as its response wants it."""

    def __init__(self, raw: HTTPResponse) -> None:
        self._data = bytearray()
        for block in raw.stream(64 << 10, decode_content=False):
            self._data += block
            if len(self._data) > MAX_LISTING_BYTES:
                raw.close()
                raise SourceRefusedError("the store sent an answer of excessive size")
        if self._data.count(b"<") > MAX_LISTING_TAGS:
            raise SourceRefusedError("the store sent an answer of too many parts")
        raw.release_conn()

    def stream(self) -> Iterator[bytes]:
        yield bytes(self._data)


class _ChangedError(Exception):
    """The object is another one than the transfer began with (If-Match, or a range beyond its end)."""


def _translated(error: ClientError) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in ("PreconditionFailed", "412", "InvalidRange", "416"):
        return _ChangedError()
    if code in _MISSING:
        return SourceItemMissingError("the store no longer has an object")
    if code == "InvalidObjectState":
        return SourceRefusedError("an object is in cold storage: it must be restored before it can be read")
    if code in _LOGIN or status in (401, 403):
        known = code if code in _LOGIN else str(status)
        return SourceLoginError(f"the store refused ({known})")
    if status >= 500 or status in (408, 429) or code in ("SlowDown", "RequestTimeout"):
        return LineBrokenError(f"the store answered {status}")
    plain = "".join(sign for sign in code if sign.isalnum())[:40]
    return SourceRefusedError(f"the store answered {status} {plain}".rstrip())


class _Running(Protocol):
    def update(self, data: bytes) -> None: ...
    def digest(self) -> bytes: ...


_CHECKSUMS: dict[str, Callable[[], _Running]] = {
    "ChecksumSHA256": hashlib.sha256,
    "ChecksumSHA1": lambda: hashlib.sha1(usedforsecurity=False),
    "ChecksumCRC32C": google_crc32c.Checksum,
}


def _verify(facts: dict[str, Any], partial: Partial) -> None:
    """Against the object's own checksum; else its ETag, where that is an MD5: uploaded in one part, and not
    encrypted under a key that S3 does not hold itself.  Raises :class:`SourceCorruptError`."""
    for name, begin in _CHECKSUMS.items():
        stated = facts.get(name)
        # A checksum of checksums of parts ends in -N: the parts' sizes are not told.
        if stated and "-" not in stated and facts.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
            running = begin()
            for block in partial.blocks():
                running.update(block)
            if base64.b64encode(running.digest()).decode() != stated:
                raise SourceCorruptError("an object does not have its stated checksum")
            return
    tag = facts["ETag"].strip('"')
    plain = facts.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in facts
    if plain and len(tag) == 32 and set(tag) <= set("0123456789abcdef"):
        md5 = hashlib.md5(usedforsecurity=False)
        for block in partial.blocks():
            md5.update(block)
        if md5.hexdigest() != tag:
            raise SourceCorruptError("an object does not have the checksum that its ETag states")
