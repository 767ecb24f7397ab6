"""Which broker a person works with, as whom, and what of it they hold it to.

In ``$XDG_CONFIG_HOME/hdrs-hpc/contexts.json``: each context's address, person, key and pinned first root.
In ``$XDG_STATE_HOME/hdrs-hpc/<context>/``: the login (0600), the trust root and the checkpoints received.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hdrs_hpc.client.http import Api
from hdrs_hpc.core import clock
from hdrs_hpc.core.errors import NotAllowedError, NotFoundError, UsageError
from hdrs_hpc.documents import succession, trust
from hdrs_hpc.documents.trust import VerifiedRoot

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}", re.ASCII)


class NotLoggedInError(NotAllowedError):
    code = "no-login"
    meaning = "No login to a broker is at hand, or it has run out."
    remedy = "`hdrs-hpc login URL --key KEY`; after the first time `hdrs-hpc login` is enough."


class ContextUnknownError(NotFoundError):
    code = "context-unknown"
    meaning = "There is no context of that name on this machine."
    remedy = "`hdrs-hpc login URL --key KEY --context NAME` makes one."


class RootRolledBackError(NotAllowedError):
    code = "trust-root-rolled-back"
    meaning = "The broker shows an older trust root than the one it showed before."
    remedy = "Do not go on; tell the custodian, and compare the digest by another way."


@dataclass(frozen=True)
class Settings:
    """One context as it is written down."""

    url: str
    key: str | None
    person: str | None
    audience: str
    pinned_root: str
    """Digest of the trust root at the first login; every later one is followed by succession only."""
    ca_file: str | None = None


class Session:
    """One context.  Reading one needs no network."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings

    @classmethod
    def current(cls, name: str | None = None) -> Session:
        """The context named, else ``$HDRS_HPC_CONTEXT``, else the last one logged in to."""
        written = _written()
        chosen = name or os.environ.get("HDRS_HPC_CONTEXT") or written.get("current")
        if chosen is None:
            raise NotLoggedInError()
        found = written.get("contexts", {}).get(chosen)
        if found is None:
            raise ContextUnknownError(where=chosen)
        return cls(chosen, Settings(**found))

    @classmethod
    def at_hand(cls) -> Session | None:
        """The current context, or None where nobody ever logged in."""
        try:
            return cls.current()
        except (NotLoggedInError, ContextUnknownError):
            return None

    def save(self) -> None:
        """Write the context down and make it the current one."""
        written = _written()
        contexts = {**written.get("contexts", {}), self.name: asdict(self.settings)}
        _write(_config_file(), json.dumps({"current": self.name, "contexts": contexts}, indent=2).encode())

    @cached_property
    def api(self) -> Api:
        """The API as a logged-in person; raises NotLoggedInError."""
        return self._api(self._token())

    @cached_property
    def open_api(self) -> Api:
        """The API for what needs no login: filing documents, proofs."""
        return self._api(None)

    def _api(self, token: str | None) -> Api:
        ca_file = self.settings.ca_file
        return Api(self.settings.url, token=token, ca_file=Path(ca_file) if ca_file else None)

    def _token(self) -> str:
        try:
            kept = json.loads((self.state_dir / "login.json").read_bytes())
        except FileNotFoundError:
            raise NotLoggedInError() from None
        if clock.from_text(kept["expires"]) <= clock.now():
            raise NotLoggedInError(f"the login ran out at {kept['expires']}")
        return str(kept["token"])

    @property
    def login_expires(self) -> str | None:
        """Until when the login kept here is good, None where there is none or it has run out; no network."""
        try:
            expires = str(json.loads((self.state_dir / "login.json").read_bytes())["expires"])
        except FileNotFoundError:
            return None
        return expires if clock.from_text(expires) > clock.now() else None

    def keep_login(self, token: str, expires: str) -> None:
        _write(self.state_dir / "login.json", json.dumps({"token": token, "expires": expires}).encode())

    @property
    def state_dir(self) -> Path:
        if not _NAME.fullmatch(self.name):
            raise UsageError("a context's name has up to 40 of a-z, 0-9 and -", where=self.name)
        return _folder("XDG_STATE_HOME", ".local/state") / self.name

    @property
    def key(self) -> Path | None:
        return Path(self.settings.key) if self.settings.key else None

    @property
    def root(self) -> VerifiedRoot:
        """The newest trust root that this person followed; no network."""
        try:
            raw = (self.state_dir / "trust-root.json").read_bytes()
        except FileNotFoundError:
            raise NotLoggedInError() from None
        root = trust.load_root(raw, None)
        if root.document.version == 1 and root.digest != self.settings.pinned_root:
            raise trust.TrustRootMismatchError("the trust root kept here is not the one that was pinned")
        return root

    def keep_root(self, root: VerifiedRoot) -> None:
        _write(self.state_dir / "trust-root.json", root.envelope.to_bytes())

    def refresh_root(self) -> VerifiedRoot:
        """The trust root in force at the broker, followed from the one held, version by version."""
        held = self.root
        newest = int(self.open_api.get("/v1/broker")["trust-root-version"] or 0)
        if newest < held.document.version:
            raise RootRolledBackError(f"version {newest} after version {held.document.version}")
        for version in range(held.document.version, newest + 1):
            shown = trust.load_root(self.open_api.get_bytes(f"/v1/trust-root/{version}"), None)
            if version == held.document.version:
                if shown.digest != held.digest:
                    raise trust.TrustRootMismatchError("the broker shows another trust root of that version")
                continue
            succession.check(held, shown)
            self.keep_root(shown)
            held = shown
        return held


def _config_file() -> Path:
    return _folder("XDG_CONFIG_HOME", ".config") / "contexts.json"


def _folder(variable: str, default: str) -> Path:
    base = os.environ.get(variable)
    # The XDG specification: a relative path is to be ignored.
    chosen = Path(base) if base and Path(base).is_absolute() else Path.home() / default
    return chosen / "hdrs-hpc"


def _written() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(_config_file().read_bytes())
    except FileNotFoundError:
        return {}
    return found


def _write(path: Path, raw: bytes) -> None:
    """Replace a file at once, readable by its owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(raw)
    draft.replace(path)
