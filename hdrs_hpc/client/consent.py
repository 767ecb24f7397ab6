"""Whose signatures a grant still needs from the owners of its data, and the lifting of a freeze likewise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hdrs_hpc.client.session import Session
from hdrs_hpc.client.signatures import Count, signers
from hdrs_hpc.core.errors import HdrsError
from hdrs_hpc.documents import kinds, owners
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.kinds import BY_PAYLOAD_TYPE
from hdrs_hpc.documents.models.grant import Grant
from hdrs_hpc.documents.models.trust_root import TrustRoot


@dataclass(frozen=True)
class Told:
    """Something that stands in the way, in words."""

    text: str
    met: bool = False

    def sentence(self) -> str:
        return self.text


def of_grant(session: Session | None, root: TrustRoot | None, envelope: Envelope) -> tuple[Count, ...]:
    """How far each owner has agreed; without a login nobody can tell whose the data are."""
    if session is None or session.settings.person is None or root is None:
        return (Told("whose data they are, and who of the owner must sign, is not known without a login"),)
    grant = Grant.from_payload(envelope.payload)
    try:
        listed = session.api.get("/v1/datasets")
    except HdrsError as error:  # signing and reading work without the broker; only this can't be told then
        text = f"who of the owners must sign is not known, since the broker gave no answer: {error.code}"
        return (Told(text),)
    registered = {(item["name"], item["version"]): item["owner"] for item in listed}
    owned, unknown = {}, []
    for name, granted in grant.data.items():
        owner = registered.get((name, granted.version))
        if owner is None:
            unknown.append(Told(f"{name} is not registered in the version that the grant names"))
        else:
            owned[name] = owner
    return (*owners.consents(root, _people(envelope, root), owned), *unknown)


def of_unfreeze(project: dict[str, Any], root: TrustRoot, envelope: Envelope) -> tuple[Count, ...]:
    """As many as sign a grant, with every owner among them.  ``project``: as the broker shows it."""
    people = _people(envelope, root)
    owned = {name: data["owner"] for name, data in project["data"].items() if data["owner"] is not None}
    needed = root.threshold(kinds.GRANT.name)
    named = f" ({', '.join(people)})" if people else ""
    enough = Told(f"{len(people)} of {needed} custodians have signed{named}", met=len(people) >= needed)
    return (enough, *owners.consents(root, people, owned))


def _people(envelope: Envelope, root: TrustRoot) -> tuple[str, ...]:
    """Whose signatures count, each verified."""
    found = signers(envelope, BY_PAYLOAD_TYPE[envelope.payload_type], root)
    return tuple(sorted({item.person for item in found if item.counts and item.person}))
