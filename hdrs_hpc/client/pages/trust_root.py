"""A trust root as one page: who may do what, by which keys, and who gains or loses what by it."""

from __future__ import annotations

from collections.abc import Iterator

from hdrs_hpc.client.pages.layout import Block, NamedValues, Page, Section, Table, listed
from hdrs_hpc.documents import sshsig
from hdrs_hpc.documents.models.trust_root import BrokerKeys, KeyRecord, Person, TrustRoot


def page(root: TrustRoot, before: TrustRoot | None = None) -> Page:
    """``before``: the root that it takes the place of, where that is known."""
    return Page(
        f"trust root of broker {root.audience}, version {root.version}",
        (
            Section("What it rules", [_rules(root)]),
            Section("Whose the people are", [_organisations(root)]),
            Section("Who may do what", [_people(root)]),
            Section("By which keys", [_keys(root)]),
            Section("By which keys the broker signs", [_broker_keys(root)]),
            Section("What changes", list(_changes(root, before))),
            Section("What it leads to", list(_consequences(root))),
        ),
    )


def _rules(root: TrustRoot) -> Block:
    needed = root.thresholds.model_dump(by_alias=True)
    recovery = root.recovery
    return NamedValues(
        [
            ("signatures", ", ".join(f"{kind} {number}" for kind, number in needed.items())),
            (
                "recovery",
                f"{_helpers(root)}, with the custodians who are left"
                if recovery
                else "nobody is named: a lost key needs as many other custodians as a trust root",
            ),
            ("real data", _fit_for_real(root)),
            ("demo", "yes: for trying out, never for patient data" if root.demo else "no"),
            ("supersedes", root.supersedes),
        ]
    )


def _fit_for_real(root: TrustRoot) -> str:
    if root.demo:
        return "never: a demo root"
    alone = root.one_person_decides
    return f"no: one person decides on {', '.join(alone)}" if alone else "may be used under it"


def _organisations(root: TrustRoot) -> Block:
    rows = [
        (name, item.name, item.threshold, ", ".join(own))
        if (own := root.custodians_of(name))
        else (name, item.name, f"{item.threshold}, once it has any", "none, as yet")
        for name, item in root.organisations.items()
    ]
    return Table(("organisation", "name", "decide for it", "its custodians"), rows)


def _people(root: TrustRoot) -> Block:
    rows = [
        (name, who.name, who.organisation, ", ".join(who.roles) or "none")
        for name, who in root.people.items()
    ]
    return Table(("person", "name", "organisation", "roles"), rows)


def _keys(root: TrustRoot) -> Block:
    rows = [
        (name, record.fingerprint, _state(record)) for name, who in root.people.items() for record in who.keys
    ]
    return Table(("person", "fingerprint of the key", "key is"), rows)


def _broker_keys(root: TrustRoot) -> Block:
    return Table(
        ("signs", "fingerprint of the key"),
        [(duty, mark) for duty, marks in _of_duties(root).items() for mark in marks],
    )


def _of_duties(root: TrustRoot) -> dict[str, tuple[str, ...]]:
    """Fingerprints of the broker's keys by the kind of document that they sign."""
    duties = (name.replace("_", "-") for name in BrokerKeys.model_fields)
    return {duty: tuple(map(sshsig.fingerprint, root.broker_keys.of(duty))) for duty in duties}


def _state(record: KeyRecord) -> str:
    entries = (("compromised", record.compromised_from), ("retired", record.retired_from))
    said = (f"{word} from entry {entry} of the log" for word, entry in entries if entry is not None)
    return ", ".join(said) or "good"


def _changes(root: TrustRoot, before: TrustRoot | None) -> Iterator[str]:
    if root.version == 1:
        yield "It is the first: everything in it is new."
        return
    if before is None:
        yield "The root before it is not at hand here: give it with --succeeds, or log in, before you sign."
        return
    found = [*_changed_people(before, root), *_changed_rules(before, root)]
    yield from (f"- {line}" for line in found or ["nothing but the version"])


def _changed_people(before: TrustRoot, root: TrustRoot) -> Iterator[str]:
    for name, who in root.people.items():
        if name not in before.people:
            yield f"{name} ({who.name}, {who.organisation}) is new, with {_roles(who.roles)}"
            continue
        was = before.people[name]
        gained, lost = set(who.roles) - set(was.roles), set(was.roles) - set(who.roles)
        if gained:
            yield f"{name} gains {_roles(sorted(gained))}"
        if lost:
            yield f"{name} loses {_roles(sorted(lost))}"
        if (was.name, was.organisation) != (who.name, who.organisation):
            yield f"{name} was {was.name} of {was.organisation}, and is {who.name} of {who.organisation}"
        yield from _changed_keys(name, was, who)
    for name, was in before.people.items():
        if name not in root.people:
            yield f"{name} ({was.name}) is left out, and loses {_roles(was.roles)}"


def _changed_keys(name: str, was: Person, who: Person) -> Iterator[str]:
    old = {record.fingerprint: record for record in was.keys}
    new = {record.fingerprint: record for record in who.keys}
    for fingerprint, record in new.items():
        if fingerprint not in old:
            yield f"{name} gets the key {fingerprint}"
        elif record != old[fingerprint]:
            yield f"the key {fingerprint} of {name} is {_state(record)}"
    yield from (f"{name} loses the key {item}" for item in old if item not in new)


def _changed_rules(before: TrustRoot, root: TrustRoot) -> Iterator[str]:
    for name in sorted(before.organisations.keys() | root.organisations.keys()):
        was, now = before.organisations.get(name), root.organisations.get(name)
        if was is None:
            yield f"the organisation {name} is new"
        elif now is None:
            yield f"the organisation {name} is left out"
        elif was != now:
            yield f"{name} was {was.name}, {was.threshold} to decide; is {now.name}, {now.threshold} to decide"
    needed = root.thresholds.model_dump(by_alias=True)
    for kind, number in before.thresholds.model_dump(by_alias=True).items():
        if needed[kind] != number:
            yield f"a {kind} needs {needed[kind]} signatures in place of {number}"
    if before.recovery != root.recovery:
        yield f"when a custodian's key is lost, {_helpers(before)} helped; now {_helpers(root)}"
    if before.audience != root.audience:
        yield f"it was for the broker {before.audience}, and is for {root.audience}"
    if before.demo != root.demo:
        yield "it becomes a demo root" if root.demo else "it is no demo root any more"
    old, new = _of_duties(before), _of_duties(root)
    for duty in new:
        word = duty.replace("-", " ")
        yield from (
            f"the broker signs a {word} with the new key {key}" for key in new[duty] if key not in old[duty]
        )
        yield from (
            f"the broker signs no {word} with {key} any more" for key in old[duty] if key not in new[duty]
        )


def _helpers(root: TrustRoot) -> str:
    return f"{root.recovery.threshold} of {listed(root.recovery.people)}" if root.recovery else "nobody named"


def _roles(roles: tuple[str, ...] | list[str]) -> str:
    return f"the role{'' if len(roles) == 1 else 's'} {listed(roles)}" if roles else "no role"


def _consequences(root: TrustRoot) -> Iterator[str]:
    if root.version == 1:
        yield (
            "- Everything that the broker believes will rest on it. Its digest, below, is what everybody compares: "
            "write it down where nobody can change it."
        )
    else:
        yield "- Once enough people have signed and it is sent, it alone tells whom the broker believes."
    yield (
        "- Custodians in it decide on data, grants and the end of projects; nobody else can. Compare the fingerprint "
        "of every key that is new to you with its holder, in person."
    )
    yield "- Compare the broker's fingerprints with its operator: whoever has such a key can speak for the broker."
    if root.version > 1:
        yield "- What was accepted before stays accepted, but for what a compromised key signed."
