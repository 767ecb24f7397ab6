"""``hdrs-hpc imaging pseudonym``: from an id to what stands for it in copies, and back by a staging's map."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdrs_hpc.cli.imaging_views import JSON, SECRET

if TYPE_CHECKING:
    from imaging.deid.keyed import DeidKey

_UID = re.compile(r"[0-9]+(\.[0-9]+){3,}")
_LEVELS = ("study", "series", "instance")


@click.command("pseudonym")
@click.argument("ids", nargs=-1)
@SECRET
@click.option(
    "--issuer", default="", help="Issuer of Patient ID that the images carry, where they carry one."
)
@click.option(
    "--kind",
    type=click.Choice(["patient", "uid"]),
    help="What the ids are.  [default: uid where it looks like one, else patient]",
)
@click.option(
    "--items",
    "items_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A map of `imaging stage --items`: also tells items and files, and leads back from what is in a copy.",
)
@JSON
def pseudonym(
    ids: tuple[str, ...],
    secret_file: Path,
    issuer: str,
    kind: str | None,
    items_file: Path | None,
    as_json: bool,
) -> None:
    """Tell what stands in copies under a secret for these patient ids or UIDs.

    Ids are read as staging reads them: upper case, without white space.  Without IDS they are read from standard input,
    one a line, which keeps them out of the shell's history.  With --items, a pseudonym, a new UID or an item of a copy
    is looked up backwards.  What is printed names patients; nothing is logged.

    \b
    Example:
      hdrs-hpc imaging pseudonym --secret my.secret < ids.txt
      hdrs-hpc imaging pseudonym PSG4K7… --secret my.secret --items map.csv
    """
    from imaging import standalone
    from imaging.deid.keyed import DeidKey

    key = DeidKey(standalone.deid_key(standalone.read_secret(secret_file)))
    wanted = list(ids) or [line.strip() for line in sys.stdin if line.strip()]
    told = [_forward(key, one, issuer, kind) for one in wanted]
    if items_file is not None:
        _look_up(key, told, items_file, issuer)
    for one in told:
        if as_json:
            click.echo(json.dumps(one))
            continue
        click.echo(f"{one['id']}  {one['kind']}  {one['stands-for-it']}")
        for found in one.get("found", ()):
            click.echo("  " + "  ".join(str(value) for value in found.values() if value))
    if items_file is not None and not all(one["found"] for one in told):
        raise click.exceptions.Exit(1)


def _forward(key: DeidKey, given: str, issuer: str, kind: str | None) -> dict[str, Any]:
    is_uid = kind == "uid" or (kind is None and _UID.fullmatch(given.strip()) is not None)
    made = key.uid(given) if is_uid else key.patient(issuer, given)
    return {"id": given, "kind": "uid" if is_uid else "patient", "stands-for-it": made}


def _look_up(key: DeidKey, told: Iterable[dict[str, Any]], path: Path, issuer: str) -> None:
    """Add to each what the map has of it, one entry an original: by id, by pseudonym, by new UID or by item."""
    from imaging.deid.keyed import normalise
    from imaging.staging import items_map

    asked: dict[str, list[dict[str, Any]]] = {}
    for one in told:
        one["found"] = []
        given = one["id"].strip()
        asked.setdefault(given, []).append(one)
        if (patient := normalise(given)) != given and one["kind"] == "patient":
            asked.setdefault(patient, []).append(one)
    made: dict[tuple[str, ...], str] = {}
    seen: set[tuple[int, tuple[Any, ...]]] = set()
    for row in items_map.read(path):
        names: dict[str, str] = {}
        if row["study"]:
            who = (
                row["issuer"] or issuer,
                row["patient_id"],
                "" if row["patient_id"].strip() else row["study"],
            )
            if who not in made:
                made[who] = (
                    key.patient(who[0], who[1]) if who[1].strip() else key.patient_of_study(row["study"])
                )
            names[normalise(row["patient_id"])] = names[made[who]] = "patient"
        for level in _LEVELS:
            if row[level]:
                uid = ("uid", row[level])
                made.setdefault(uid, key.uid(row[level]))
                names[row[level]] = names[made[uid]] = level
        for item in row["items"]:
            names[item] = names[item.partition("/")[2]] = "item"
        for name in names.keys() & asked.keys():
            for one in asked[name]:
                found = _found(row, names[name])
                mark = (id(one), tuple(map(str, found.values())))
                if mark not in seen:
                    seen.add(mark)
                    one["found"].append(found)


def _found(row: dict[str, Any], level: str) -> dict[str, Any]:
    """An original as far as the question reaches: of a patient the items, of an instance or item the file."""
    found = {"issuer": row["issuer"], "patient_id": row["patient_id"]}
    if level != "patient":
        found["study"] = row["study"]
    if level in ("series", "instance", "item"):
        found["series"] = row["series"]
    if level in ("instance", "item"):
        found |= {"instance": row["instance"], "path": row["path"]}
    items = " ".join(row["items"])
    return {**found, "items": items or row["outcome"]}
