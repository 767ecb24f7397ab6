"""What a request works with: the database, the narrow way to keyd, and who is asking."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request

from hdrs_hpc.broker.filing.uploads import PIECE_BYTES
from hdrs_hpc.broker.home import BrokerHome, BrokerSettings
from hdrs_hpc.broker.keyd import client, messages
from hdrs_hpc.broker.reading import broker as reading
from hdrs_hpc.broker.reading.permissions import Who
from hdrs_hpc.broker.store.database import Database
from hdrs_hpc.broker.web.rate_limits import RefusalLimit
from hdrs_hpc.broker.web.tokens import Challenges, TokenInvalidError, TokenMissingError, Tokens
from hdrs_hpc.core.errors import BadDocumentError, InternalError
from hdrs_hpc.documents import opt_out_ids

ASKED_BY_WEB = (
    messages.Status,
    messages.SignCheckpoint,
    messages.PinRoot,
    messages.AdmitUnfreeze,
    messages.HeldGrant,
    messages.AdmitGrant,
    messages.HeldOptOut,
    messages.AdmitOptOut,
    messages.AdmitClosure,
)
"""All that web may ask of keyd: what filing a document needs.  It never asks for a key or a release."""
MAX_DOCUMENT_BYTES = 2 << 20


class BodyTooLargeError(BadDocumentError):
    http_status = 413
    code = "body-too-large"
    meaning = "What was sent is larger than it may be."
    remedy = "A document may have 1 MiB, a piece of an upload 8 MiB, a file of opted-out ids 8 MiB."


@dataclass(frozen=True)
class Web:
    home: BrokerHome
    settings: BrokerSettings
    db: Database
    ask: messages.AskKeyd
    tokens: Tokens
    challenges: Challenges
    refusal_limit: RefusalLimit

    @classmethod
    def open(cls, home: BrokerHome) -> Web:
        def ask[R](request: messages.Ask[R]) -> R:
            if type(request) not in ASKED_BY_WEB:
                raise InternalError(f"web may not ask keyd for {type(request).__name__}")
            return client.ask(home.keyd_socket, request)

        return cls(
            home,
            home.settings(),
            Database(home.database),
            ask,
            Tokens.open(home.root / "web" / "token-secret"),
            Challenges(),
            RefusalLimit(),
        )


def get_web(request: Request) -> Web:
    found: Web = request.app.state.web
    return found


WebHere = Annotated[Web, Depends(get_web)]


def get_who(
    request: Request,
    web: WebHere,
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Who:
    """The person behind the token, with today's roles: a person who left the trust root is out at once."""
    if authorization is None:
        raise TokenMissingError()
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise TokenInvalidError()
    person = web.tokens.person(token.strip())
    with web.db.read() as tx:
        root = reading.root(tx)
    who = Who.under(root.document, person)
    if who is None:
        raise TokenInvalidError("the trust root in force does not list this person")
    request.state.person = person
    return who


def get_address(request: Request) -> str:
    """Where the request came from: for counting refusals, and for metrics, which tell nothing of people or data."""
    return request.client.host if request.client else "unknown"


Address = Annotated[str, Depends(get_address)]
Asker = Annotated[Who, Depends(get_who)]


def body(max_bytes: int) -> Callable[[Request], Awaitable[bytes]]:
    """A dependency: the raw body, read no further than ``max_bytes`` whatever its header claims."""

    async def read(request: Request) -> bytes:
        parts = bytearray()
        async for piece in request.stream():
            parts += piece
            if len(parts) > max_bytes:
                raise BodyTooLargeError(f"more than {max_bytes} bytes")
        return bytes(parts)

    return read


DocumentBody = Annotated[bytes, Depends(body(MAX_DOCUMENT_BYTES))]
OptOutIdsBody = Annotated[bytes, Depends(body(opt_out_ids.MAX_BYTES))]
PieceBody = Annotated[bytes, Depends(body(PIECE_BYTES))]
