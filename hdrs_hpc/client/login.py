"""Logging in: see the trust root first, then prove who you are by signing a challenge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from hdrs_hpc.client.http import Api, BrokerAnswerError
from hdrs_hpc.client.session import ContextUnknownError, Session, Settings
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import ConflictError, NotAllowedError
from hdrs_hpc.documents import kinds, signing, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.login import Login
from hdrs_hpc.documents.trust import VerifiedRoot


class RootNotConfirmedError(NotAllowedError):
    code = "trust-root-not-confirmed"
    meaning = "The broker's trust root was not confirmed, so nothing was believed or sent."
    remedy = (
        "Get its digest by another way (the custodian, a web page, paper) and give it with --root-digest."
    )


class ContextTakenError(ConflictError):
    code = "context-taken"
    meaning = "A context of that name belongs to another broker."
    remedy = "Give this one another name with --context NAME."


@dataclass(frozen=True)
class LoggedIn:
    session: Session
    person: str
    name: str
    roles: tuple[str, ...]
    expires: str
    root: VerifiedRoot
    first: bool


def login(
    url: str,
    key: Path,
    *,
    context: str | None = None,
    root_digest: str | None = None,
    ca_file: Path | None = None,
    confirm: Callable[[VerifiedRoot], bool] = lambda root: False,
) -> LoggedIn:
    """Log in to a broker at an address.  ``confirm`` is asked about a trust root seen for the first time
    whose digest was not given.  Raises what the broker or the trust root breaks."""
    api = Api(url, ca_file=ca_file)
    audience = str(api.get("/v1/broker")["audience"])
    name = context or audience
    known = _known(name)
    if known is not None and known.settings.audience != audience:
        raise ContextTakenError(where=name)
    if known is None:
        root = trust.load_root(api.get_bytes("/v1/trust-root"), root_digest)
        if root.document.audience != audience:
            raise BrokerAnswerError(
                f"its trust root is for {root.document.audience}, it calls itself {audience}"
            )
        if root_digest is None and not confirm(root):
            raise RootNotConfirmedError(f"it is {root.digest}")
        settings = Settings(api.url, str(key.absolute()), None, audience, root.digest)
        session = Session(name, settings)
        session.keep_root(root)
    else:
        session = Session(name, replace(known.settings, url=api.url, key=str(key.absolute())))
    if ca_file is not None:
        session = Session(name, replace(session.settings, ca_file=str(ca_file.absolute())))
    return _prove(session, key, first=known is None, root_digest=root_digest)


def again(key: Path | None = None, context: str | None = None) -> LoggedIn:
    """Log in once more to a broker that is known."""
    session = Session.current(context)
    chosen = key or session.key
    if chosen is None:
        raise ContextUnknownError("the context has no key", remedy="Give one with --key.")
    ca_file = Path(session.settings.ca_file) if session.settings.ca_file else None
    return login(session.settings.url, chosen, context=session.name, ca_file=ca_file)


def _prove(session: Session, key: Path, *, first: bool, root_digest: str | None) -> LoggedIn:
    root = session.refresh_root()
    if root_digest is not None and root_digest not in (root.digest, session.settings.pinned_root):
        raise trust.TrustRootMismatchError(f"the trust root in force is {root.digest}")
    kind = kinds.LOGIN
    payload = Login.from_value(
        {
            "schema": Login.SCHEMA,
            "audience": session.settings.audience,
            "challenge": session.open_api.post("/v1/login/challenge")["challenge"],
            "at": clock.to_text(clock.now()),
        }
    ).to_payload()
    envelope = Envelope(kind.payload_type, payload, (signing.sign(kind, payload, key),))
    answer = session.open_api.post("/v1/login", envelope.to_bytes())
    session = Session(session.name, replace(session.settings, person=str(answer["person"])))
    session.save()
    session.keep_login(str(answer["token"]), str(answer["expires"]))
    roles = tuple(str(role) for role in answer["roles"])
    return LoggedIn(
        session, str(answer["person"]), str(answer["name"]), roles, str(answer["expires"]), root, first
    )


def _known(name: str) -> Session | None:
    try:
        return Session.current(name)
    except ContextUnknownError:
        return None
