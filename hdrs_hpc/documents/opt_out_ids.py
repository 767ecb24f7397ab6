"""The file of patient ids that an opt-out change names: it stays in the data zone, its keyed digest is signed.

``{"schema": …, "key": base64 of 32 random bytes, "ids": […]}`` as canonical JSON.  The digest is HMAC-SHA256 under the
file's own key, so that nobody who sees it can try whether some patient is among the ids.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import BadDocumentError

SCHEMA = "hdrs-hpc/opt-out-ids/1"
KEY_BYTES = 32
MAX_BYTES = 8 << 20
"""Some 500,000 ids; a longer list is brought in several changes."""


class OptOutIdsError(BadDocumentError):
    code = "opt-out-ids-malformed"
    meaning = (
        "A file of opted-out ids is not written as the format requires, or is not the one that was signed."
    )
    remedy = (
        "Make and send it with `hdrs-hpc opt-out`; if it lies in the broker's home, restore it from a backup."
    )


@dataclass(frozen=True, slots=True)
class OptOutIds:
    """What one change adds or removes.  Not printable: it holds ids and the key of their digest."""

    key: bytes
    ids: tuple[str, ...]

    def __repr__(self) -> str:
        return f"OptOutIds({len(self.ids)} ids)"

    @classmethod
    def new(cls, ids: Iterable[str]) -> OptOutIds:
        """With a fresh key; the order of the ids tells nothing."""
        return cls(secrets.token_bytes(KEY_BYTES), tuple(sorted(set(ids))))

    @classmethod
    def parse(cls, raw: bytes, digest: str | None = None) -> OptOutIds:
        """Read a file, and hold it against the digest that was signed.  Raises :class:`OptOutIdsError`."""
        value = strict_json.loads(raw, max_bytes=MAX_BYTES)
        if (
            not isinstance(value, dict)
            or value.keys() != {"schema", "key", "ids"}
            or value["schema"] != SCHEMA
        ):
            raise OptOutIdsError()
        ids, key = value["ids"], value["key"]
        if (
            not isinstance(ids, list)
            or not all(isinstance(one, str) for one in ids)
            or not isinstance(key, str)
        ):
            raise OptOutIdsError()
        try:
            found = cls(base64.b64decode(key, validate=True), tuple(ids))
        except (binascii.Error, ValueError):
            raise OptOutIdsError("its key is not base64") from None
        if any("\ud800" <= char <= "\udfff" for one in ids for char in one):
            raise OptOutIdsError("an id is not valid Unicode")
        if len(found.key) != KEY_BYTES or list(found.ids) != sorted(set(found.ids)):
            raise OptOutIdsError("its key has another length, or its ids are not sorted and different")
        if digest is not None and not hmac.compare_digest(found.digest, digest):
            raise OptOutIdsError("it is not the one that was signed")
        return found

    def to_bytes(self) -> bytes:
        value = {"schema": SCHEMA, "key": base64.b64encode(self.key).decode(), "ids": list(self.ids)}
        return strict_json.dumps(value)

    @property
    def digest(self) -> str:
        """What is signed: nobody without the key can try ids against it."""
        return keyed_digest(self.key, self.ids)


def keyed_digest(key: bytes, ids: Sequence[str]) -> str:
    """``sha256:…``: HMAC-SHA256 over the ids as canonical JSON."""
    return f"sha256:{hmac.new(key, strict_json.dumps(list(ids)), hashlib.sha256).hexdigest()}"


def chain_key(keys: Iterable[bytes]) -> bytes:
    """The key of a whole list's digest, from the keys of the changes it is made of: each list has its own."""
    made = b""
    for key in keys:
        made = hmac.new(key, made, hashlib.sha256).digest()
    return made
