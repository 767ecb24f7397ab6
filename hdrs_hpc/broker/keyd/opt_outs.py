"""Opt-out lists as keyd holds to them, dataset by dataset."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hdrs_hpc.audit.entries import Entry
from hdrs_hpc.broker.keyd.keystore import FileKeystore
from hdrs_hpc.broker.keyd.roots import RootHolder
from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import NotAllowedError
from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.policy.opt_out import OptOutNotYoursError, OptOutOutdatedError
from hdrs_hpc.policy.refusals import OptOutChangedError, OptOutNotStatedError, WrongAudienceError


class OptOutNotLoggedError(NotAllowedError):
    code = "opt-out-not-logged"
    meaning = "keyd holds to an opt-out list only once the signed log says that it was accepted."
    remedy = "File the statement with the broker: `hdrs-hpc opt-out`."


class OptOutHolder:
    """Every dataset's opt-out list in force, by its keyed digest: keyd knows no patient.

    A copy made under another list is given to nobody, whatever the broker's database says, and neither is one whose
    list was ever changed by somebody who is no custodian of the organisation that owns the dataset.
    """

    def __init__(self, keystore: FileKeystore, roots: RootHolder) -> None:
        self._keys, self._roots = keystore, roots

    def admit(self, raw: bytes, logged: list[tuple[int, Entry]]) -> None:
        """Verify a change that the log says was accepted, and hold to the list it led to."""
        envelope = Envelope.parse(raw)
        told = next(
            (
                (index, entry)
                for index, entry in logged
                if entry.event == "opt-out-changed" and entry.subject["document"] == envelope.digest
            ),
            None,
        )
        if told is None:
            raise OptOutNotLoggedError()
        index, entry = told
        root = self._roots.current()
        found = trust.verify(envelope, kinds.OPT_OUT_CHANGE, root, accepted_at=index)
        change = found.document
        if change.audience != root.document.audience:
            raise WrongAudienceError(f"the statement is for {change.audience}")
        with self._keys.transaction():
            held = self.held(change.dataset)
            if held.get("document") == envelope.digest:
                return
            if (change.version, change.supersedes) != (held["version"] + 1, held.get("document")):
                raise OptOutOutdatedError(f"version {change.version} does not follow the one in force")
            # Kept, since the owner is known only once a grant came with the registration.
            organisations = {root.document.people[person].organisation for person in found.people}
            organisations |= set(held.get("organisations", ()))
            self._require_owners(change.dataset, organisations)
            value = {
                "version": change.version,
                "document": envelope.digest,
                "list": entry.detail["list"],
                "organisations": sorted(organisations),
            }
            self._keys.remember(f"opt-out/{change.dataset}", strict_json.dumps(value).decode())

    def held(self, dataset: str) -> dict[str, Any]:
        """``{version, document, list}``; version 0 alone where nobody said anything."""
        raw = self._keys.fact(f"opt-out/{dataset}")
        found: dict[str, Any] = strict_json.loads(raw.encode()) if raw else {"version": 0}
        return found

    def require_current(self, dataset: str, listed: str | None) -> str:
        """The list in force, which must be the one that a copy is or was made under."""
        held = self.held(dataset)
        if held.get("list") is None:
            raise OptOutNotStatedError(where=dataset)
        self._require_owners(dataset, held["organisations"])
        if listed != held["list"]:
            raise OptOutChangedError(where=dataset)
        return str(held["list"])

    def _require_owners(self, dataset: str, organisations: Iterable[str]) -> None:
        owner = self._keys.fact(f"owner/{dataset}")
        if owner is not None and set(organisations) != {owner}:
            raise OptOutNotYoursError(f"not only custodians of {owner} signed", where=dataset)
