"""How a playground comes to be: archive, people, broker, trust root, cluster, data and grant, by people's commands."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console

from hdrs_hpc.catalogue import isolation
from hdrs_hpc.catalogue.data_kinds import PATHOLOGY, RADIOLOGY
from hdrs_hpc.catalogue.workloads.builtin import TO_BEGIN_WITH
from hdrs_hpc.cli.actors import Actor
from hdrs_hpc.cli.playground import keeper
from hdrs_hpc.confined import table
from hdrs_hpc.confined.starting import works
from hdrs_hpc.core import durable_files
from hdrs_hpc.core.errors import NotFoundError

PROJECT = "lung-demo"
AUDIENCE = "playground"
MARKER = ".hdrs-hpc-playground"
STATE = "playground.json"
OPERATOR = "operator"
HERE = "here"
"""The cluster that is this machine."""
PEOPLE = {
    "abara": ("custodian of north", "Ama Abara", "north:custodian"),
    "bell": ("custodian of south", "Rhys Bell", "south:custodian"),
    "okafor": ("AI developer", "Ngozi Okafor", "uni:researcher"),
    "chen": ("output checker", "Wei Chen", "uni:checker,code-reviewer"),
}
"""What they do, as people are told it, name, and organisation with roles."""
ORGANISATIONS = ("north:North Hospital:1", "south:South Hospital:1", "uni:A University")
DATA = (("play-scans", RADIOLOGY.name, "abara", "north"), ("play-slides", PATHOLOGY.name, "bell", "south"))


class NoSlurmError(NotFoundError):
    code = "playground-cluster-missing"
    meaning = "There is no throw-away Slurm on this machine."
    remedy = "As root: make slurm-up.  Or leave `--cluster` out: jobs then run on this machine."


@dataclass(frozen=True)
class Playground:
    folder: Path
    console: Console

    def actor(self, name: str) -> Actor:
        title = PEOPLE[name][0] if name in PEOPLE else "HPC admin"
        return Actor(name, title, self.folder / "people" / name, self.console)

    @property
    def broker(self) -> Path:
        return self.folder / keeper.BROKER

    def state(self) -> dict[str, Any] | None:
        """What is written down once all is made; None before."""
        try:
            found: dict[str, Any] = json.loads((self.folder / STATE).read_bytes())
        except FileNotFoundError:
            return None
        return found

    def serve(self) -> None:
        """Start the broker in the background and wait until it answers."""
        operator = self.actor(OPERATOR)
        keeper.start(self.folder, operator.environment())
        self.console.print(f"[dim]{operator.name:>9} $[/] hdrs-hpc broker serve &", highlight=False)
        operator.run("broker", "status", "--home", self.broker, "--wait", "60", quiet=True)

    def log_in(self, name: str, state: dict[str, Any], *, quiet: bool = False) -> None:
        """Once more: a login lasts an hour."""
        person = self.actor(name)
        digest = ("--root-digest", state["root-digest"])
        person.run("login", state["url"], "--key", person.key, *digest, quiet=quiet)

    def make(self, cluster: str, port: int) -> dict[str, Any]:
        """All of it, in a folder that is there and empty but for the marker."""
        # Before minutes are spent, and a broker runs.
        site = _slurm_site() if cluster == "slurm" else None
        self._make_archive()
        for name in (*PEOPLE, OPERATOR):
            Actor.arrive(name, self.actor(name).title, self.folder / "people", self.console)
        state = self._make_broker(port)
        self.serve()
        state |= self._add_cluster(site)
        self._approve(state)
        for name in ("okafor", "chen"):
            self.log_in(name, state)
        durable_files.write_json(self.folder / STATE, state)
        return state

    def _make_archive(self) -> None:
        from hdrs_hpc.cli.trying import archive
        from hdrs_hpc.cli.trying.recipe import ANY_KIND, Recipe

        self.console.print(
            "Two hospitals' archives, made up: scans of 40 patients and four slides", highlight=False
        )
        archive.make(self.folder / "hospital", Recipe(ANY_KIND))

    def _make_broker(self, port: int) -> dict[str, Any]:
        operator, abara, bell = (self.actor(name) for name in (OPERATOR, "abara", "bell"))
        keys, root = self.folder / "broker-keys.json", self.folder / "trust-root.json"
        made = operator.ask("broker", "init", "--audience", AUDIENCE, "--home", self.broker,
                            "--port", str(port), "--tick", "0.5", "--keys-out", keys)  # fmt: skip
        people = [word for entry in ORGANISATIONS for word in ("--organisation", entry)]
        for name, (_, full, roles) in PEOPLE.items():
            people += ["--person", f"{name}:{full}:{roles}:{self.actor(name).key}.pub"]
        abara.run("trust", "init", root, "--audience", AUDIENCE, "--demo", "--broker-keys", keys,
                  "--threshold", "dataset-registration=1", *people)  # fmt: skip
        abara.run("trust", "sign", root, "--key", abara.key, "--yes", "--out", root)
        signed = bell.ask("trust", "sign", root, "--key", bell.key, "--yes", "--out", root)
        operator.run("broker", "trust", root, "--root-digest", signed["digest"], "--home", self.broker)
        return {"url": made["url"], "root-digest": signed["digest"]}

    def _add_cluster(self, site: Path | None) -> dict[str, Any]:
        operator = self.actor(OPERATOR)
        if site is None:
            tried = [row for row in table.SANDBOXES if row.tried and works(row.provider)]
            told = {"cluster": HERE, "isolation": tried[0].gives}
            operator.run("cluster", "add", "--local", HERE, "--root", self.folder / "cluster",
                         "--isolation", told["isolation"], "--home", self.broker)  # fmt: skip
        else:
            settings = tomllib.loads(site.read_text("utf-8"))
            told = {"cluster": settings["name"], "isolation": settings["isolation"]}
            operator.run("cluster", "add", site, "--home", self.broker)
        of_project = ("--project", PROJECT)
        operator.run("cluster", "install", told["cluster"], *of_project, "--home", self.broker)
        operator.run("cluster", "doctor", told["cluster"], *of_project, "--home", self.broker)
        return told

    def _approve(self, state: dict[str, Any]) -> None:
        operator, abara, bell = (self.actor(name) for name in (OPERATOR, "abara", "bell"))
        for name in ("abara", "bell"):
            self.log_in(name, state)
        versions = {}
        for name, kind, custodian, owner in DATA:
            person = self.actor(custodian)
            scan = person.home / f"{name}.json"
            source = self.folder / "hospital" / kind
            found = operator.ask("dataset", "scan", name, source, "--out", scan, "--home", self.broker)
            person.run("dataset", "register", "--scan", scan, "--owner", owner, "--kind", kind,
                       "--sensitivity", "synthetic", "--yes")  # fmt: skip
            person.run("opt-out", "nobody", name, "--reason", "made-up data, nobody is in it", "--yes")
            versions[name] = found["version"]
        grant, signed = abara.home / "grant.yaml", self.folder / "grant.signed.json"
        grant.write_text(_grant(state, versions), "utf-8")
        abara.run("grant", "sign", grant, "--yes", "--out", signed)
        bell.run("grant", "sign", signed, "--yes", "--out", signed)
        bell.run("grant", "submit", signed)


def _slurm_site() -> Path:
    site = Path(os.environ.get("HDRS_SLURM_DIR", "/var/lib/hdrs-hpc-slurm")) / "site.toml"
    if not site.is_file():
        raise NoSlurmError(where=str(site))
    return site


def _grant(state: dict[str, Any], versions: dict[str, str]) -> str:
    today = datetime.now(UTC).date()
    values = {
        "project": PROJECT,
        "from": today.isoformat(),
        "run_until": (today + timedelta(days=90)).isoformat(),
        "destroy_by": (today + timedelta(days=120)).isoformat(),
        "ct_version": versions["play-scans"],
        "he_version": versions["play-slides"],
        "builtin": TO_BEGIN_WITH,
        # Code that nobody has read runs in a sandbox or not at all.
        "own_code": "project" if isolation.is_contained(state["isolation"]) else "reviewed",
        "cluster": state["cluster"],
        "isolation": state["isolation"],
    }
    text = resources.files("hdrs_hpc.cli.playground").joinpath("files", "grant.yaml").read_text("utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text
