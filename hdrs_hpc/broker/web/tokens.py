"""The log-in on the server: challenges that are good once, short-lived tokens that a restart does not forget."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hdrs_hpc.core import clock, strict_json
from hdrs_hpc.core.errors import BadDocumentError, NotAllowedError

TOKEN_LIFE = timedelta(hours=1)
CHALLENGE_LIFE = timedelta(minutes=2)
MAX_CHALLENGES = 4096
SECRET_BYTES = 32
SECRET_LIFE = timedelta(days=1)
"""A secret older than this is replaced when web starts: one from an old backup opens nothing."""
_PURPOSE = b"hdrs-hpc/token@1\0"


class TokenMissingError(NotAllowedError):
    http_status = 401
    code = "not-logged-in"
    meaning = "This needs a login."
    remedy = "`hdrs-hpc login` with your SSH key; a login lasts an hour."


class TokenInvalidError(NotAllowedError):
    http_status = 401
    code = "login-invalid"
    meaning = "The login is not one that this broker gave."
    remedy = "`hdrs-hpc login` again."


class TokenExpiredError(NotAllowedError):
    http_status = 401
    code = "login-expired"
    meaning = "The login has expired."
    remedy = "`hdrs-hpc login` again; a login lasts an hour."


@dataclass(frozen=True)
class Token:
    """A login as it travels; ``text`` goes into the Authorization header."""

    text: str
    expires: datetime


class Tokens:
    """Makes and checks tokens: ``base64url(claims).base64url(HMAC-SHA256)`` under one secret of the web process.

    ``former`` is the secret before and until when it still checks (but never makes) tokens.
    """

    def __init__(
        self,
        secret: bytes,
        now: Callable[[], datetime] = clock.now,
        former: tuple[bytes, datetime] | None = None,
    ) -> None:
        self._secret = secret
        self._now = now
        self._former = former

    @classmethod
    def open(cls, path: Path, now: Callable[[], datetime] = clock.now) -> Tokens:
        """With the secret in ``path`` (0600), which is as old as the file; made if there is none.

        A restart keeps everybody logged in.  One that replaces the secret keeps the former behind the new one
        in the file, and believes it for as long as a token lives.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        held, made_at = _read_secrets(path)
        if held is None or abs(now() - made_at) > SECRET_LIFE:
            held = secrets.token_bytes(SECRET_BYTES) + (held[:SECRET_BYTES] if held else b"")
            made_at = now()
            _write_secrets(path, held, made_at)
        former = held[SECRET_BYTES:]
        return cls(held[:SECRET_BYTES], now, (former, made_at + TOKEN_LIFE) if former else None)

    def issue(self, person: str) -> Token:
        expires = (self._now() + TOKEN_LIFE).replace(microsecond=0)
        claims = strict_json.dumps({"person": person, "expires": clock.to_text(expires)})
        return Token(f"{_b64(claims)}.{_b64(_mac(self._secret, claims))}", expires)

    def person(self, text: str) -> str:
        """Whose token it is; raises TokenInvalidError or TokenExpiredError."""
        body, dot, mac = text.partition(".")
        try:
            claims, given = _unb64(body), _unb64(mac)
        except (binascii.Error, ValueError):
            raise TokenInvalidError() from None
        # The claims are parsed only after the MAC holds: until then they are anybody's bytes.
        if not dot or not any(
            hmac.compare_digest(given, _mac(secret, claims)) for secret in self._believed()
        ):
            raise TokenInvalidError()
        value = strict_json.loads(claims)
        if clock.from_text(value["expires"]) <= self._now():
            raise TokenExpiredError()
        return str(value["person"])

    def _believed(self) -> list[bytes]:
        if self._former is None or self._now() >= self._former[1]:
            return [self._secret]
        return [self._secret, self._former[0]]


class Challenges:
    """Challenges that were given out and not yet answered.  In memory: a restart makes all of them void."""

    def __init__(self, now: Callable[[], datetime] = clock.now) -> None:
        self._now = now
        self._open: OrderedDict[str, datetime] = OrderedDict()
        self._lock = threading.Lock()

    def give(self) -> tuple[str, datetime]:
        challenge = secrets.token_urlsafe(32)
        expires = self._now() + CHALLENGE_LIFE
        with self._lock:
            while len(self._open) >= MAX_CHALLENGES:  # a flood costs the oldest logins, not memory
                self._open.popitem(last=False)
            self._open[challenge] = expires
        return challenge, expires

    def take(self, challenge: str) -> bool:
        """Whether it was given by us, is not expired and was never answered; it is void afterwards."""
        with self._lock:
            expires = self._open.pop(challenge, None)
        return expires is not None and self._now() < expires


def _mac(secret: bytes, claims: bytes) -> bytes:
    return hmac.new(secret, _PURPOSE + claims, hashlib.sha256).digest()


def _read_secrets(path: Path) -> tuple[bytes | None, datetime]:
    """The file's secrets, the one in use first, and when that was made."""
    try:
        with path.open("rb") as stream:
            held = stream.read()
            made_at = datetime.fromtimestamp(os.fstat(stream.fileno()).st_mtime, UTC)
    except FileNotFoundError:
        return None, datetime.min.replace(tzinfo=UTC)
    if len(held) not in (SECRET_BYTES, 2 * SECRET_BYTES):
        raise BadDocumentError(
            "the secret for logins is cut short", remedy="Delete the file; all log in anew."
        )
    return held, made_at


def _write_secrets(path: Path, held: bytes, made_at: datetime) -> None:
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(held)
    os.utime(draft, (made_at.timestamp(), made_at.timestamp()))
    draft.replace(path)


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def _unb64(text: str) -> bytes:
    if len(text) > 1024 or not text.isascii():
        raise ValueError("not a part of a token")
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _b64(raw) != text:  # unused bits would let one token travel as several texts
        raise ValueError("not written in the one way")
    return raw
