"""Whose data: which custodians decide on a registration, a grant, and the end of a project.

Datasets and people belong to organisations of the trust root.  An organisation's data are registered and granted
by its own custodians; a project is ended by custodians whom it concerns.  Pure: the broker, keyd and whoever
verifies a log offline judge by the same functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hdrs_hpc.core.errors import NotAllowedError
from hdrs_hpc.documents.models.trust_root import TrustRoot


class RegisteredByOthersError(NotAllowedError):
    code = "dataset-not-theirs"
    meaning = "A dataset was registered by somebody who is no custodian of the organisation that owns it."
    remedy = (
        "Have custodians of the owner sign the registration; `hdrs-hpc trust show` lists who belongs where."
    )


class OwnerNotAskedError(NotAllowedError):
    code = "owner-signatures-missing"
    meaning = "Too few custodians of the organisation that owns a dataset have signed."
    remedy = "Pass the file on to them; `hdrs-hpc grant sign` says whose signatures are missing."


class NotTheirProjectError(NotAllowedError):
    code = "not-their-project"
    meaning = "Somebody freezes, closes or revokes a project that does not concern them."
    remedy = "Ask a custodian of an organisation that owns data of the project, or one who signed its grant."


class OnePersonDecidesError(NotAllowedError):
    code = "real-data-needs-two"
    meaning = "Real patient data never meets a trust root under which one person alone decides."
    remedy = "Make a new version of the trust root with thresholds of two or more, for organisations too."


@dataclass(frozen=True)
class Need:
    """So many of some people must have signed."""

    of: str
    """Such as ``custodians of north``."""
    needed: int
    signed: tuple[str, ...]
    missing: tuple[str, ...]
    """Those who could still sign."""

    @property
    def met(self) -> bool:
        return len(self.signed) >= self.needed

    def sentence(self) -> str:
        """``1 of 2 custodians of north (adeyemi); still missing: 1 of brandt, cole``"""
        text = f"{len(self.signed)} of {self.needed} {self.of}"
        text += f" ({', '.join(self.signed)})" if self.signed else ""
        if self.met:
            return text
        if len(self.missing) == 1 and self.needed - len(self.signed) == 1:
            return f"{text}; still missing: {self.missing[0]}"
        return f"{text}; still missing: {self.needed - len(self.signed)} of {', '.join(self.missing) or 'nobody'}"


@dataclass(frozen=True)
class Consent(Need):
    """How far one organisation has agreed to a grant of its data."""

    datasets: tuple[str, ...]


def asked(owners: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
    """Whose agreement a version of a grant needs: the owners of what it gives, and of what the version before gave.

    The project holds copies and outputs of the latter's data, and a version rules over these too: who reviews them,
    when they are destroyed, whom the project concerns.
    """
    return {**before, **owners}


def consents(root: TrustRoot, people: Iterable[str], owners: Mapping[str, str]) -> tuple[Consent, ...]:
    """What each owner has agreed to.  ``owners``: dataset → organisation; ``people``: verified signers."""
    signed, found = set(people), []
    for name in sorted(set(owners.values())):
        own = root.custodians_of(name)
        listed = root.organisations.get(name)
        found.append(
            Consent(
                of=f"custodians of {name}",
                datasets=tuple(sorted(dataset for dataset, owner in owners.items() if owner == name)),
                # An organisation that the root does not list has no custodians: its consent is out of reach.
                needed=listed.threshold if listed is not None else 1,
                signed=tuple(person for person in own if person in signed),
                missing=tuple(person for person in own if person not in signed),
            )
        )
    return tuple(found)


def require_consents(root: TrustRoot, people: Iterable[str], owners: Mapping[str, str]) -> None:
    """Raise OwnerNotAskedError unless every owner has agreed."""
    for consent in consents(root, people, owners):
        if not consent.met:
            raise OwnerNotAskedError(consent.sentence(), where=f"data.{consent.datasets[0]}")


def strangers_to_dataset(root: TrustRoot, people: Iterable[str], owner: str) -> tuple[str, ...]:
    """Signers of a registration who are not custodians of the owner."""
    own = root.custodians_of(owner)
    return tuple(sorted(person for person in people if person not in own))


def require_own(root: TrustRoot, people: Iterable[str], owner: str, dataset: str) -> None:
    """Raise RegisteredByOthersError unless all who signed the registration are custodians of ``owner``."""
    strangers = strangers_to_dataset(root, people, owner)
    if strangers:
        raise RegisteredByOthersError(f"{strangers[0]} is no custodian of {owner}", where=dataset)


def strangers_to_project(
    root: TrustRoot, people: Iterable[str], granted_by: Iterable[str], owners: Mapping[str, str]
) -> tuple[str, ...]:
    """Those of ``people`` whom the project does not concern.

    It concerns the custodians who signed its grant and all custodians of their organisations and of the owners
    of its data.
    """
    signers = set(granted_by)
    concerned = set(owners.values())
    concerned |= {root.people[name].organisation for name in signers if name in root.people}
    return tuple(
        sorted(
            person
            for person in people
            if "custodian" not in root.people[person].roles
            or (person not in signers and root.people[person].organisation not in concerned)
        )
    )


def require_concerned(
    root: TrustRoot, people: Iterable[str], granted_by: Iterable[str], owners: Mapping[str, str]
) -> None:
    """Raise NotTheirProjectError where the project does not concern a signer of a closure."""
    strangers = strangers_to_project(root, people, granted_by, owners)
    if strangers:
        raise NotTheirProjectError(f"the project does not concern {strangers[0]}")


def require_two_decide(root: TrustRoot, what: str) -> None:
    """Raise OnePersonDecidesError: ``what`` is real data."""
    alone = root.one_person_decides
    if alone:
        raise OnePersonDecidesError(f"the threshold {alone[0]} is one", where=what)
