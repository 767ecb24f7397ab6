"""The trust root in force, as keyd pinned it: in the keystore's file, outside the broker's database."""

from __future__ import annotations

import base64

from hdrs_hpc.broker.keyd.keystore import FileKeystore
from hdrs_hpc.core.errors import NotFoundError
from hdrs_hpc.documents import succession, trust


class NoTrustRootError(NotFoundError):
    code = "no-trust-root"
    meaning = "This broker has no trust root yet, so it can believe nobody."
    remedy = "Install the signed one: `hdrs-hpc broker trust FILE --root-digest DIGEST`."


class RootHolder:
    """The trust root in force, as keyd pinned it."""

    def __init__(self, keystore: FileKeystore) -> None:
        self._keys = keystore
        raw = keystore.fact("trust-root")
        self._root = trust.load_root(base64.b64decode(raw), keystore.fact("trust-digest")) if raw else None

    def current_or_none(self) -> trust.VerifiedRoot | None:
        return self._root

    def current(self) -> trust.VerifiedRoot:
        if self._root is None:
            raise NoTrustRootError()
        return self._root

    def pin(self, raw: bytes, digest: str | None, entries: int) -> None:
        """Pin the first root by its digest, or follow a proper succession.  Idempotent.

        ``entries`` is the length of the log that keyd signed last.
        """
        new = trust.load_root(raw, digest)
        if self._root is not None and new.digest == self._root.digest:
            return
        if self._root is None:
            if digest is None:
                raise trust.TrustRootMismatchError("the first trust root is pinned by its digest")
        else:
            succession.check(self._root, new, entries=entries)
        with self._keys.transaction():
            self._keys.remember("trust-root", base64.b64encode(raw).decode())
            self._keys.remember("trust-digest", new.digest)
        self._root = new
