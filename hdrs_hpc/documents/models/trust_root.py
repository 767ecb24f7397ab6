"""The trust root: whose the people are, which keys are theirs, what they may do, and the broker's own keys."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.documents import sshsig
from hdrs_hpc.documents.models.grant import SupersedesError
from hdrs_hpc.forms.document import BadValueError, Document, Items, Part, fault
from hdrs_hpc.forms.words import Digest, Line, Name

Role = Literal["custodian", "researcher", "checker", "code-reviewer", "admin"]


class KeySharedError(BadDocumentError):
    code = "key-listed-twice"
    meaning = "One key is listed twice: under two names, twice under one, or for two duties of the broker."
    remedy = "Each person and each duty of the broker needs a key of its own; list every key once."


class ThresholdUnreachableError(BadDocumentError):
    code = "threshold-out-of-reach"
    meaning = "A threshold asks for more people than hold the role."
    remedy = "Lower the threshold or list more people with the role."


class OrganisationUnknownError(BadDocumentError):
    code = "organisation-unknown"
    meaning = "Somebody is said to belong to an organisation that the trust root does not list."
    remedy = "List the organisation: `--organisation ID:NAME` of `hdrs-hpc trust init`, or mend the id."


class RecoveryPeopleError(BadDocumentError):
    code = "recovery-people"
    meaning = (
        "The people named for recovery are not people of the trust root, too few, or custodians themselves."
    )
    remedy = (
        "Name people of the root who are no custodians, at least as many as the threshold of recovery asks."
    )


class Organisation(Part):
    """A body that people and datasets belong to, such as a hospital trust or a university."""

    name: Line
    threshold: Annotated[int, Field(ge=1, le=16)] = 2
    """How many of its custodians decide for it: on grants of its data, and on its part of the trust root."""


class Recovery(Part):
    """Who helps when a custodian's key is lost: never alone, see ``documents/succession.py``."""

    people: Annotated[Items[Name], Field(min_length=2, max_length=16)]
    threshold: Annotated[int, Field(ge=2, le=16)] = 2


class KeyRecord(Part):
    """A public key of a person, and from which log entry on it is no longer good."""

    key: Annotated[str, Field(max_length=8192)]
    """``type base64 [comment]``, one line."""
    retired_from: Annotated[int, Field(ge=0)] | None = None
    """Log entry from which the key signs nothing new; what was accepted before stays good."""
    compromised_from: Annotated[int, Field(ge=0)] | None = None
    """Log entry from which nothing signed with the key is believed, also if it was accepted then."""

    @model_validator(mode="after")
    def _readable(self) -> KeyRecord:
        try:
            sshsig.fingerprint(self.key)
        except BadDocumentError as error:
            fault(type(error), error.message)
        return self

    @property
    def fingerprint(self) -> str:
        return sshsig.fingerprint(self.key)

    def refused_at(self, entry: int | None) -> Literal["retired", "compromised"] | None:
        """Whether the key is no good for a document accepted at this log entry (None: now)."""
        if self.compromised_from is not None and (entry is None or entry >= self.compromised_from):
            return "compromised"
        if self.retired_from is not None and (entry is None or entry >= self.retired_from):
            return "retired"
        return None


def _as_record(value: Any) -> Any:
    return {"key": value} if isinstance(value, str) else value


class Person(Part):
    """A person, known in logs by the pseudonymous id that is the key of this record."""

    name: Line
    organisation: Name
    keys: Annotated[
        Items[Annotated[KeyRecord, BeforeValidator(_as_record, json_schema_input_type=str | KeyRecord)]],
        Field(min_length=1, max_length=8),
    ]
    roles: Annotated[Items[Role], Field(max_length=5)]
    """Empty for those who are only named for recovery."""

    def is_custodian_of(self, organisation: str) -> bool:
        return self.organisation == organisation and "custodian" in self.roles


class Thresholds(Part):
    """How many people must sign; a person with two keys is one."""

    trust_root: Annotated[int, Field(ge=1, le=16)] = 2
    grant: Annotated[int, Field(ge=1, le=16)] = 2
    dataset_registration: Annotated[int, Field(ge=1, le=16)] = 2
    closure: Annotated[int, Field(ge=1, le=16)] = 1
    """One is enough even for real data: what takes away must not wait for a second person."""
    code_approval: Literal[1] = 1


BrokerKey = Annotated[str, Field(max_length=8192)]
BrokerKeyList = Annotated[Items[BrokerKey], Field(min_length=1, max_length=8)]


class BrokerKeys(Part):
    """The broker's own public keys, one or more lines a duty, never one key for two duties."""

    checkpoint: BrokerKeyList
    release_record: BrokerKeyList
    certificate: BrokerKeyList
    handover_answer: BrokerKeyList

    def of(self, kind_name: str) -> tuple[str, ...]:
        """The lines that may sign documents of this kind."""
        duty = kind_name.replace("-", "_")
        return tuple(getattr(self, duty)) if duty in type(self).model_fields else ()

    def all_lines(self) -> tuple[str, ...]:
        return tuple(line for duty in type(self).model_fields for line in self.of(duty))


class TrustRoot(Document):
    """What everything else is believed by.  The first one's digest is pinned out of band."""

    SCHEMA: ClassVar[str] = "hdrs-hpc/trust-root/2"
    SINCE_BEFORE: ClassVar[str] = (
        "since hdrs-hpc/trust-root/1 it lists organisations, and each person's organisation"
    )

    audience: Name
    """The broker's name; specs and logins are made for it."""
    version: Annotated[int, Field(ge=1, le=1_000_000)]
    supersedes: Digest | None = None
    """Digest of the version before; absent for the first."""
    demo: bool
    """A demo root never meets real data, and what it signs is stamped DEMO."""
    organisations: Annotated[dict[Name, Organisation], Field(min_length=1, max_length=100)]
    people: Annotated[dict[Name, Person], Field(min_length=1, max_length=500)]
    thresholds: Thresholds = Thresholds()
    recovery: Recovery | None = None
    """Absent: a lost key is replaced only by as many other custodians as the threshold asks for."""
    broker_keys: BrokerKeys

    @model_validator(mode="after")
    def _consistent(self) -> TrustRoot:
        if (self.supersedes is None) != (self.version == 1):
            fault(SupersedesError, "version 1 supersedes nothing, every later version names the one before")
        self._check_keys()
        custodians = len(self.having("custodian"))
        for name, needed in (
            ("trust-root", self.thresholds.trust_root),
            ("grant", self.thresholds.grant),
            ("dataset-registration", self.thresholds.dataset_registration),
            ("closure", self.thresholds.closure),
        ):
            if needed > custodians:
                fault(ThresholdUnreachableError, f"{name} needs {needed} custodians, {custodians} are listed")
        self._check_organisations()
        self._check_recovery()
        return self

    def _check_organisations(self) -> None:
        for name, person in self.people.items():
            if person.organisation not in self.organisations:
                fault(OrganisationUnknownError, f"{name} belongs to {person.organisation}")
            if not person.roles and (self.recovery is None or name not in self.recovery.people):
                fault(BadValueError, f"{name} has no role")
        for name, organisation in self.organisations.items():
            own = len(self.custodians_of(name))
            if 0 < own < organisation.threshold:
                message = f"{name} needs {organisation.threshold} custodians of its own, {own} are listed"
                fault(ThresholdUnreachableError, message)

    def _check_recovery(self) -> None:
        if self.recovery is None:
            return
        named = self.recovery.people
        if len(set(named)) != len(named) or self.recovery.threshold > len(named):
            fault(RecoveryPeopleError, f"{self.recovery.threshold} of {len(set(named))} people")
        for name in named:
            if name not in self.people:
                fault(RecoveryPeopleError, f"{name} is not in the trust root")
            if "custodian" in self.people[name].roles:
                fault(RecoveryPeopleError, f"{name} is a custodian")

    def _check_keys(self) -> None:
        """One key belongs to one person or one duty, compared by fingerprint over the re-encoded key."""
        owners: dict[str, str] = {}
        listed = [(f"person {name}", record.key) for name, who in self.people.items() for record in who.keys]
        for line in self.broker_keys.all_lines():
            listed.append(("the broker", line))
        for owner, line in listed:
            try:
                fingerprint = sshsig.fingerprint(line)
            except BadDocumentError as error:
                fault(type(error), f"{owner}: {error.message}")
            if fingerprint in owners:
                fault(KeySharedError, f"{fingerprint} is listed for {owners[fingerprint]} and for {owner}")
            owners[fingerprint] = owner

    def having(self, role: str) -> tuple[str, ...]:
        """Ids of the people with a role, sorted."""
        return tuple(sorted(name for name, person in self.people.items() if role in person.roles))

    def custodians_of(self, organisation: str) -> tuple[str, ...]:
        """Ids of an organisation's own custodians, sorted."""
        return tuple(
            sorted(name for name, person in self.people.items() if person.is_custodian_of(organisation))
        )

    @property
    def one_person_decides(self) -> tuple[str, ...]:
        """What a single custodian could decide alone, by name of the threshold; a root for real data has none.

        Closures do not count: freezing and revoking take away.
        """
        ruling = {
            "trust-root": self.thresholds.trust_root,
            "grant": self.thresholds.grant,
            "dataset-registration": self.thresholds.dataset_registration,
        }
        ruling |= {f"organisations.{name}": item.threshold for name, item in self.organisations.items()}
        return tuple(name for name, needed in ruling.items() if needed < 2)

    def threshold(self, kind_name: str) -> int:
        """How many people must sign a document of this kind."""
        field = kind_name.replace("-", "_")
        needed: int = getattr(self.thresholds, field, 1)
        return needed
