"""What ``trust init`` writes: an unsigned trust root from people's public keys and the broker's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hdrs_hpc.client import signatures
from hdrs_hpc.core import strict_json, strict_yaml
from hdrs_hpc.core.errors import NotFoundError, UsageError
from hdrs_hpc.documents.envelope import Envelope
from hdrs_hpc.documents.kinds import KINDS
from hdrs_hpc.documents.models.trust_root import TrustRoot


class PersonOptionError(UsageError):
    code = "person-option"
    meaning = "A --person is not written as ID:NAME:ROLE[,ROLE]:KEY.pub."
    remedy = 'Write such as --person "okafor:Ngozi Okafor:researcher:okafor.pub".'


def draft(
    *,
    audience: str | None,
    people: Sequence[str],
    people_file: Path | None,
    broker_keys: Path | None,
    thresholds: Sequence[str],
    demo: bool,
    succeeds: Path | None,
    remove: Sequence[str],
) -> tuple[Envelope, TrustRoot]:
    """An envelope without signatures, its payload checked as a broker will.  Raises BadDocumentError, UsageError."""
    value = _first(audience, demo) if succeeds is None else _next(succeeds, audience, demo)
    if people_file is not None:
        written, _ = strict_yaml.load(people_file.read_bytes())
        if not isinstance(written, dict) or not set(written) <= {"people", "thresholds"}:
            raise UsageError(
                "the file has `people:` and perhaps `thresholds:`, nothing else", where=people_file.name
            )
        value["people"] |= written.get("people", {})
        value["thresholds"] |= written.get("thresholds", {})
    for name in remove:
        if value["people"].pop(name, None) is None:
            raise NotFoundError("the trust root lists no such person", where=name)
    for text in people:
        name, record = _person(text)
        value["people"][name] = record
    for text in thresholds:
        kind, _, number = text.partition("=")
        if not number.isdigit():
            raise UsageError("a threshold is written KIND=N, such as grant=2", where=text)
        value["thresholds"][kind] = int(number)
    if broker_keys is not None:
        value["broker-keys"] = {
            kind: [line] for kind, line in strict_json.loads(broker_keys.read_bytes()).items()
        }
    if "broker-keys" not in value:
        raise UsageError("a first trust root needs the broker's keys: --broker-keys FILE, from `broker init`")
    envelope, document = signatures.unsigned(KINDS["trust-root"], value)
    assert isinstance(document, TrustRoot)
    return envelope, document


def _first(audience: str | None, demo: bool) -> dict[str, Any]:
    if audience is None:
        raise UsageError("a first trust root names its broker: --audience NAME")
    return {
        "schema": TrustRoot.SCHEMA,
        "audience": audience,
        "version": 1,
        "demo": demo,
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


def _person(text: str) -> tuple[str, dict[str, Any]]:
    parts = text.split(":", 3)
    if len(parts) != 4 or not all(parts):
        raise PersonOptionError(where=text)
    name, full_name, roles, key = parts
    try:
        line = Path(key).expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise PersonOptionError(f"the public key {key} can't be read", where=text) from None
    if "PRIVATE KEY" in line:
        raise PersonOptionError(f"{key} is a private key; give the .pub beside it", where=text)
    return name, {"name": full_name, "keys": [line], "roles": roles.split(",")}
