"""What the API answers that is no view: failures, logins, and what was filed or uploaded."""

from __future__ import annotations

from pydantic import Field

from hdrs_hpc.broker.reading.models import View


class Failure(View):
    kind: str
    code: str
    message: str
    where: str | None
    remedy: str
    retry: bool


class Failed(View):
    """The body of every answer that is not 2xx."""

    error: Failure


class Challenge(View):
    challenge: str
    expires: str


class LoggedIn(View):
    token: str
    person: str
    name: str
    roles: list[str]
    expires: str


class Receipt(View):
    """What a filed document became, and a signed checkpoint of the log that holds it: keep it."""

    kind: str
    digest: str
    project: str | None
    job: str | None
    known: bool = Field(description="The same document had been filed before; nothing was done twice.")
    checkpoint: str = Field(description="The signed envelope, as text.")


class Upload(View):
    """How far an uploaded file came."""

    id: str | None = Field(description="Where to send the next piece; null once it is complete.")
    offset: int = Field(description="Where the next piece begins.")
    size: int
    complete: bool
    piece: int = Field(description="The most bytes that a piece may have.")


class OptOutIds(View):
    digest: str
    count: int
    listed: list[int] = Field(description="Which of the ids, by place from 0, are on the list already.")
