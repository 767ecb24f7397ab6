"""What ``trust init`` writes: an unsigned trust root from people's public keys and the broker's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hdrs_hpc.client import signatures
from hdrs_hpc.core import strict_json, strict_yaml
from hdrs_hpc.core.errors import NotFoundError, UsageError
from hdrs_hpc.documents import kinds
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.models.trust_root import TrustRoot


class PersonOptionError(UsageError):
    code = "person-option"
    meaning = "A --person is not written as ID:NAME:ORGANISATION:ROLE[,ROLE]:KEY.pub."
    remedy = 'Write such as --person "okafor:Ngozi Okafor:north-uni:researcher:okafor.pub"; `-` for no role.'


class OrganisationOptionError(UsageError):
    code = "organisation-option"
    meaning = "An --organisation is not written as ID:NAME or ID:NAME:THRESHOLD."
    remedy = 'Write such as --organisation "north:North Hospital NHS Trust:2".'


class ReplaceKeyOptionError(UsageError):
    code = "replace-key-option"
    meaning = "A --replace-key is not written as ID:NEW-KEY.pub, or the log entry is not known."
    remedy = (
        "Write such as --replace-key brandt:new.pub, with --succeeds, and --from-entry N unless logged in."
    )


def draft(
    *,
    audience: str | None,
    organisations: Sequence[str],
    people: Sequence[str],
    people_file: Path | None,
    broker_keys: Path | None,
    thresholds: Sequence[str],
    demo: bool,
    succeeds: Path | None,
    remove: Sequence[str],
    recovery: str | None = None,
    replace_keys: Sequence[str] = (),
    mark: str = "retired",
    from_entry: int | None = None,
) -> tuple[Envelope, TrustRoot]:
    """An envelope without signatures, its payload checked as a broker will.  Raises BadDocumentError, UsageError."""
    value = _first(audience, demo) if succeeds is None else _next(succeeds, audience, demo)
    if people_file is not None:
        written, _ = strict_yaml.load(people_file.read_bytes())
        if not isinstance(written, dict) or not set(written) <= set(_IN_FILE):
            raise UsageError(f"the file has {', '.join(_IN_FILE)} and nothing else", where=people_file.name)
        for part in ("organisations", "people", "thresholds"):
            value[part] |= written.get(part, {})
        if "recovery" in written:
            value["recovery"] = written["recovery"]
    for text in organisations:
        name, organisation = _organisation(text)
        value["organisations"][name] = value["organisations"].get(name, {}) | organisation
    for name in remove:
        if value["people"].pop(name, None) is None:
            raise NotFoundError("the trust root lists no such person", where=name)
    for text in people:
        name, record = _person(text)
        value["people"][name] = record
    if recovery is not None:
        named = value.get("recovery", {}) | {"people": recovery.split(",")}
        value["recovery"] = named
    for text in replace_keys:
        _replace_key(value["people"], text, mark, from_entry)
    for text in thresholds:
        kind, _, number = text.partition("=")
        if not number.isdigit():
            raise UsageError("a threshold is written KIND=N, such as grant=2", where=text)
        if kind == "recovery" and "recovery" in value:
            value["recovery"]["threshold"] = int(number)
        else:
            value["thresholds"][kind] = int(number)
    if broker_keys is not None:
        value["broker-keys"] = {
            kind: [line] for kind, line in strict_json.loads(broker_keys.read_bytes()).items()
        }
    if "broker-keys" not in value:
        raise UsageError("a first trust root needs the broker's keys: --broker-keys FILE, from `broker init`")
    envelope, document = signatures.unsigned(kinds.TRUST_ROOT, value)
    return envelope, document


def _first(audience: str | None, demo: bool) -> dict[str, Any]:
    if audience is None:
        raise UsageError("a first trust root names its broker: --audience NAME")
    return {
        "schema": TrustRoot.SCHEMA,
        "audience": audience,
        "version": 1,
        "demo": demo,
        "organisations": {},
        "people": {},
        "thresholds": {},
    }


def _next(succeeds: Path, audience: str | None, demo: bool) -> dict[str, Any]:
    old = Envelope.parse(succeeds.read_bytes())
    value: dict[str, Any] = strict_json.loads(old.payload)
    TrustRoot.from_value(value)
    if audience not in (None, value["audience"]) or (demo and not value["demo"]):
        raise UsageError(
            "audience and demo mark never change: a broker's trust roots are one line of succession"
        )
    value["version"] += 1
    value["supersedes"] = old.digest
    value.setdefault("thresholds", {})
    return value


_IN_FILE = ("organisations", "people", "thresholds", "recovery")


def _organisation(text: str) -> tuple[str, dict[str, Any]]:
    name, _, rest = text.partition(":")
    full_name, _, number = rest.partition(":")
    if not name or not full_name or (number and not number.isdigit()):
        raise OrganisationOptionError(where=text)
    return name, {"name": full_name} | ({"threshold": int(number)} if number else {})


def _replace_key(people: dict[str, Any], text: str, mark: str, from_entry: int | None) -> None:
    """Mark every good key of a person and list the new one beside them: old signatures must still be read."""
    name, _, path = text.partition(":")
    if not path or from_entry is None:
        raise ReplaceKeyOptionError(where=text)
    if name not in people:
        raise NotFoundError("the trust root lists no such person", where=name)
    kept = []
    for listed in people[name]["keys"]:
        record = {"key": listed} if isinstance(listed, str) else dict(listed)
        if not {"retired-from", "compromised-from"} & record.keys():
            record[f"{mark}-from"] = from_entry
        kept.append(record)
    people[name] = people[name] | {"keys": [*kept, _public_key(path, text)]}


def _person(text: str) -> tuple[str, dict[str, Any]]:
    parts = text.split(":", 4)
    if len(parts) != 5 or not all(parts):
        raise PersonOptionError(where=text)
    name, full_name, organisation, roles, key = parts
    listed = [] if roles == "-" else roles.split(",")
    line = _public_key(key, text)
    return name, {"name": full_name, "organisation": organisation, "keys": [line], "roles": listed}


def _public_key(key: str, text: str) -> str:
    """The one line of a public key's file; a private key is never copied anywhere."""
    try:
        line = Path(key).expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise PersonOptionError(f"the public key {key} can't be read", where=text) from None
    if "PRIVATE KEY" in line:
        raise PersonOptionError(f"{key} is a private key; give the .pub beside it", where=text)
    return line
