"""May this trust root follow that one, and whose signatures are still missing?

Ways for a new version to come into force:

*By agreement.*  As many custodians of the root in force as its threshold asks, and as many custodians of every
organisation that the change concerns as that organisation's threshold asks.  A change concerns an organisation
that it changes, or whose people it changes.  What rules all of them (thresholds, the broker's keys, recovery,
people who check outputs, review code or administer) concerns every organisation that has custodians.  So two
custodians of one hospital can't make themselves custodians of another.  A custodian who gets a further key signs
with it too, which shows that they hold it: a replaced key is signed for by the old key, the new one, and another
person.

*By recovery.*  Where one custodian lost every key: as many of the recovery people named in the root in force as it
asks, the custodians who are left (one fewer than each threshold asks, and at least one), and the new key.  Nothing
but that one person's keys may change, and the lost ones are marked.

A key that the new root marks as compromised counts for nothing here, and a mark is never taken back.
The design follows the root role of The Update Framework, section 5.3.4 of its specification: a new root is signed
by the thresholds of the old and of the new.
"""

from __future__ import annotations

from dataclasses import dataclass

from hdrs_hpc.documents import kinds, trust
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.trust_root import KeyRecord, Person, TrustRoot
from hdrs_hpc.documents.owners import Need
from hdrs_hpc.documents.trust import SuccessionError, ThresholdNotMetError, VerifiedRoot

_DECIDE_FOR_ALL = frozenset({"checker", "code-reviewer", "admin"})
"""Roles that act on everybody's projects, whatever organisation their holder belongs to."""


@dataclass(frozen=True)
class Progress:
    """Who has signed a trust root, by every count that matters."""

    needs: tuple[Need, ...]
    recovery: bool
    """Whether these are the needs of a recovery, not of an agreement."""

    @property
    def complete(self) -> bool:
        return all(need.met for need in self.needs)


def check(old: VerifiedRoot, new: VerifiedRoot, *, entries: int | None = None) -> None:
    """Whether ``new`` may follow ``old``.

    ``entries`` is the length of the log so far, where it is known: no mark on a key may lie ahead of it, since up
    to its entry a marked key is still believed.  Raises SuccessionError, or ThresholdNotMetError with what is
    missing.
    """
    _check_follows(old, new.document)
    _check_marks(old.document, new.document, entries)
    found = progress(old, new.envelope, new.document)
    if not found.complete:
        raise ThresholdNotMetError("; ".join(need.sentence() for need in found.needs if not need.met))


def progress(old: VerifiedRoot | None, envelope: Envelope, new: TrustRoot) -> Progress:
    """Whose signatures ``new`` needs and has; of the first root (``old`` is None) its own custodians'.

    Every signature of ``envelope`` is verified; an altered one raises a BadDocumentError.
    """
    kind = kinds.TRUST_ROOT
    keys = frozenset(trust.fingerprints(envelope, kind))
    own = _need(
        "custodians of this trust root", new.thresholds.trust_root, new, new.having("custodian"), keys
    )
    if old is None:
        return Progress((own,), False)
    agreed = (own, *_agreement(old.document, new, keys))
    recovered = _recovery(old.document, new, keys)
    if recovered is None or all(need.met for need in agreed):
        return Progress(agreed, False)
    # Of the two ways, the one that somebody has begun to go.
    begun = all(need.met for need in recovered) or bool(recovered[0].signed)
    return Progress((own, *recovered), True) if begun else Progress(agreed, False)


def concerned(old: TrustRoot, new: TrustRoot) -> frozenset[str]:
    """Organisations of ``old``, among those with custodians, that must agree to the change."""
    ruling = frozenset(name for name in old.organisations if old.custodians_of(name))
    if (old.thresholds, old.broker_keys, old.recovery) != (new.thresholds, new.broker_keys, new.recovery):
        return ruling
    found = {name for name in ruling if old.organisations[name] != new.organisations.get(name)}
    for name in old.people.keys() | new.people.keys():
        before, after = old.people.get(name), new.people.get(name)
        if before == after:
            continue
        sides = [person for person in (before, after) if person is not None]
        own = {person.organisation for person in sides} & ruling
        # Somebody known already, of an organisation without custodians, works in any organisation's projects.
        if (before is not None and not own) or any(_DECIDE_FOR_ALL & set(person.roles) for person in sides):
            return ruling
        found |= own
    return frozenset(found)


def _agreement(old: TrustRoot, new: TrustRoot, keys: frozenset[str]) -> tuple[Need, ...]:
    good = keys - _compromised(new)
    needs = [
        _need(
            "custodians of the trust root in force",
            old.thresholds.trust_root,
            old,
            old.having("custodian"),
            good,
        )
    ]
    for name in sorted(concerned(old, new)):
        threshold = old.organisations[name].threshold
        needs.append(
            _need(f"custodians of {name}, whom it concerns", threshold, old, old.custodians_of(name), good)
        )
    for name, person in sorted(new.people.items()):
        if name in old.people and _holds_power(old, name):
            needs += _new_keys(name, old.people[name], person, keys)
    return tuple(needs)


def _recovery(old: TrustRoot, new: TrustRoot, keys: frozenset[str]) -> tuple[Need, ...] | None:
    """None where the change is not that one custodian's lost keys are replaced, or nobody is named for it."""
    lost = _who_lost_all_keys(old, new)
    if old.recovery is None or lost is None:
        return None
    good = keys - _compromised(new)
    home = old.people[lost].organisation
    others = tuple(name for name in old.having("custodian") if name != lost)
    own = tuple(name for name in old.custodians_of(home) if name != lost)
    left = max(1, old.thresholds.trust_root - 1)
    return (
        _need("recovery people", old.recovery.threshold, old, old.recovery.people, good),
        _need(f"custodians beside {lost}", left, old, others, good),
        _need(f"custodians of {home} beside {lost}", old.organisations[home].threshold - 1, old, own, good),
        *_new_keys(lost, old.people[lost], new.people[lost], keys),
    )


def _who_lost_all_keys(old: TrustRoot, new: TrustRoot) -> str | None:
    """The one custodian whose keys are all marked and followed by new ones, if nothing else changed."""
    differing = [
        name for name in old.people.keys() | new.people.keys() if old.people.get(name) != new.people.get(name)
    ]
    if len(differing) != 1:
        return None
    (name,) = differing
    before, after = old.people.get(name), new.people.get(name)
    if before is None or after is None or "custodian" not in before.roles:
        return None
    same = {"people": {**old.people, name: after}, "version": new.version, "supersedes": new.supersedes}
    if old.model_copy(update=same) != new or before.model_copy(update={"keys": after.keys}) != after:
        return None
    now = {record.fingerprint: record for record in after.keys}
    kept = [now.get(record.fingerprint) for record in before.keys]
    if any(record is None or record.refused_at(None) is None for record in kept):
        return None
    return name if len(now) > len(kept) else None


def _new_keys(name: str, before: Person, after: Person, keys: frozenset[str]) -> list[Need]:
    """Every key that a person of power gets has signed, so that nobody is given a key that is not theirs."""
    known = {record.fingerprint for record in before.keys}
    added = [record.fingerprint for record in after.keys if record.fingerprint not in known]
    return [
        Need(f"new key of {name}, {print_}", 1, (name,) if print_ in keys else (), (name,))
        for print_ in added
    ]


def _need(of: str, needed: int, root: TrustRoot, people: tuple[str, ...], keys: frozenset[str]) -> Need:
    signed = tuple(name for name in sorted(people) if _good_keys(root.people[name]) & keys)
    return Need(of, needed, signed, tuple(name for name in sorted(people) if name not in signed))


def _good_keys(person: Person) -> frozenset[str]:
    return frozenset(record.fingerprint for record in person.keys if record.refused_at(None) is None)


def _holds_power(root: TrustRoot, name: str) -> bool:
    return "custodian" in root.people[name].roles or (
        root.recovery is not None and name in root.recovery.people
    )


def _records(root: TrustRoot) -> dict[str, KeyRecord]:
    return {record.fingerprint: record for person in root.people.values() for record in person.keys}


def _compromised(root: TrustRoot) -> frozenset[str]:
    return frozenset(
        print_ for print_, record in _records(root).items() if record.compromised_from is not None
    )


def _check_follows(old: VerifiedRoot, new: TrustRoot) -> None:
    if new.supersedes != old.digest:
        raise SuccessionError("it does not name the digest of the trust root in force")
    if new.version != old.document.version + 1:
        raise SuccessionError(f"version {new.version} does not follow version {old.document.version}")
    if new.audience != old.document.audience or new.demo != old.document.demo:
        raise SuccessionError("audience and demo mark can not change")


def _check_marks(old: TrustRoot, new: TrustRoot, entries: int | None) -> None:
    """A mark on a key stays as long as its person does, and is never moved to a later entry."""
    before, after = _records(old), _records(new)
    for name, person in old.people.items():
        for record in person.keys:
            now = after.get(record.fingerprint)
            if now is None and record.compromised_from is not None and name in new.people:
                raise SuccessionError(f"{record.fingerprint} of {name} is compromised and must stay listed")
            if now is not None and not (
                _stays(record.compromised_from, now.compromised_from)
                and _stays(record.retired_from, now.retired_from)
            ):
                raise SuccessionError(f"the mark on {record.fingerprint} of {name} is taken back")
    for print_, record in after.items():
        known = before.get(print_)
        for mark, earlier in (
            (record.retired_from, known and known.retired_from),
            (record.compromised_from, known and known.compromised_from),
        ):
            if entries is not None and mark is not None and mark != earlier and mark > entries:
                raise SuccessionError(f"{print_} is marked from entry {mark}, and the log has {entries}")


def _stays(before: int | None, now: int | None) -> bool:
    return before is None or (now is not None and now <= before)
