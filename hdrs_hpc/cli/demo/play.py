"""``hdrs-hpc demo``: the whole life of one project, played through the commands that people type.

This file calls no function of the broker: it makes the archive, lets actors run commands, and reads what they
leave.  What it shows happened.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.rule import Rule

from hdrs_hpc.cli.actors import Actor, CommandFailedError
from hdrs_hpc.cli.demo.serving import Broker, Clock
from hdrs_hpc.cli.main import missing_part
from hdrs_hpc.confined import table
from hdrs_hpc.confined.starting import works
from hdrs_hpc.core.errors import ConflictError, NotFoundError, SiteError

MARKER = ".hdrs-hpc-demo"
PROJECT = "lung-demo"
SEED = "7"
PARTS = ("ahocorasick_rs", "dask", "fastapi", "matplotlib", "pydicom", "sqlalchemy", "wsidicom_data", "zarr")
"""Packages of the extra `demo`; each comes with another part of it."""
CAST = {
    "abara": ("custodian of north", "Ama Abara", "north:custodian"),
    "bell": ("custodian of south", "Rhys Bell", "south:custodian"),
    "okafor": ("researcher", "Ngozi Okafor", "uni:researcher"),
    "chen": ("checker", "Wei Chen", "uni:checker,code-reviewer"),
    "dunne": ("checker", "Aoife Dunne", "uni:checker"),
}
ORGANISATIONS = ("north:North Hospital:1", "south:South Hospital:1", "uni:A University")
"""One custodian each is enough for data that nobody has to protect; real data need two."""


class DemoFolderError(ConflictError):
    code = "demo-folder-in-use"
    meaning = "The folder exists and is not an earlier demo's."
    remedy = "Give another one: make demo DIR=path."


class DemoClusterError(NotFoundError):
    code = "demo-cluster-missing"
    meaning = "There is no throw-away Slurm on this machine."
    remedy = "As root: make slurm-up.  Then: make demo CLUSTER=slurm."


class DemoFailedError(SiteError):
    code = "demo-failed"
    meaning = "A command of the demo failed; its own words are above."
    remedy = "The broker's logs are in the demo's folder, below broker/logs."


@dataclass
class Stage:
    """Everything that the scenes share."""

    folder: Path
    cluster: str
    console: Console
    people: dict[str, Actor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)

    @property
    def broker(self) -> Path:
        return self.folder / "broker"

    @property
    def hospital(self) -> Path:
        return self.folder / "hospital"

    @property
    def canaries(self) -> Path:
        return self.folder / "canaries.json"

    def scene(self, title: str) -> None:
        self.console.print(Rule(f"[bold]{title}[/] [dim]{self.clock.total_s():.0f} s[/]", align="left"))


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-site"),
    show_default=True,
    help="Where to leave what the demo made.",
)
@click.option(
    "--cluster",
    type=click.Choice(["local", "slurm"]),
    default="local",
    show_default=True,
    help="slurm: the throw-away one of `make slurm-up`, over SSH.",
)
def demo(folder: Path, cluster: str) -> None:
    """Play the whole life of one project: sign, approve, stage, run, check, release, purge, prove.

    Two custodians, a researcher and two checkers act, each with their own key, on an archive made of real
    pixels and made-up patients.  Everything is real but the patients.

    Example:  hdrs-hpc demo --dir demo-site
    """
    _need_parts()
    stage = Stage(folder.absolute(), cluster, Console(stderr=False, width=min(110, Console().width)))
    _fresh_folder(stage.folder)
    broker: Broker | None = None
    try:
        _make_archive(stage)
        _make_people(stage)
        broker = _start_broker(stage)
        _approve(stage)
        _run_jobs(stage)
        _review(stage)
        _fetch(stage)
        _close(stage)
        _prove(stage)
        broker.stop()
        _search(stage)
    except CommandFailedError as error:
        raise DemoFailedError(str(error)) from None
    finally:
        if broker is not None:
            broker.stop()
    _last_screen(stage)


def _need_parts() -> None:
    """A client-only install learns at once which extra it lacks, not from a broken half of a demo."""
    for name in PARTS:
        if find_spec(name) is None:
            raise missing_part(ModuleNotFoundError(name=name), "demo")


def _fresh_folder(folder: Path) -> None:
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MARKER).is_file():
            raise DemoFolderError(where=str(folder))
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()


def _make_archive(stage: Stage) -> None:
    stage.scene("A hospital's archive: real pixels, made-up patients, planted canaries")
    made = subprocess.run(
        [sys.executable, "-m", "hdrs_hpc.cli.demo.archive", str(stage.hospital), "--seed", SEED, "--json",
         "--canaries", str(stage.canaries), "--opt-out", str(stage.folder / "opt-out.txt")],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if made.returncode:
        raise CommandFailedError(made.stderr.strip().splitlines()[-1])
    stage.facts["archive"] = archive = json.loads(made.stdout)
    stage.console.print(
        f"{archive['patients']} patients, {archive['series']} series of {archive['images']} images, "
        f"{archive['slides']} slide, {archive['odd_files']} broken files, {archive['opted_out']} opt-outs"
    )


def _make_people(stage: Stage) -> None:
    for name, (title, _, _) in CAST.items():
        stage.people[name] = Actor.arrive(name, title, stage.folder / "people", stage.console)
    stage.people["operator"] = Actor.arrive(
        "operator", "runs broker and cluster side", stage.folder / "people", stage.console
    )


def _start_broker(stage: Stage) -> Broker:
    stage.scene("The operator makes a broker; the custodians make its trust root")
    operator, abara, bell = (stage.people[name] for name in ("operator", "abara", "bell"))
    keys = stage.folder / "broker-keys.json"
    made = operator.ask("broker", "init", "--audience", "demo-sde", "--home", stage.broker, "--port", "0",
                        "--tick", "0.2", "--keys-out", keys)  # fmt: skip
    stage.facts["url"] = made["url"]
    root = stage.folder / "trust-root.json"
    cast = [f"{name}:{full}:{roles}:{stage.people[name].key}.pub" for name, (_, full, roles) in CAST.items()]
    people = [word for entry in ORGANISATIONS for word in ("--organisation", entry)]
    people += [word for entry in cast for word in ("--person", entry)]
    abara.run("trust", "init", root, "--audience", "demo-sde", "--demo", "--broker-keys", keys,
              "--threshold", "dataset-registration=1", *people)  # fmt: skip
    abara.run("trust", "sign", root, "--key", abara.key, "--yes", "--out", root)
    signed = bell.ask("trust", "sign", root, "--key", bell.key, "--yes", "--out", root)
    stage.facts["root_digest"] = signed["digest"]
    operator.run("broker", "trust", root, "--root-digest", signed["digest"], "--home", stage.broker)
    broker = Broker(operator, stage.broker)
    try:
        operator.run("broker", "status", "--home", stage.broker, "--wait", "30", quiet=True)
        _add_cluster(stage)
    except BaseException:
        broker.stop()
        raise
    return broker


def _add_cluster(stage: Stage) -> None:
    operator = stage.people["operator"]
    if stage.cluster == "local":
        tried = [row for row in table.SANDBOXES if row.tried and works(row.provider)]
        isolation = tried[0].gives  # some machines have bubblewrap and no unprivileged user namespaces
        operator.run("cluster", "add", "--local", "here", "--root", stage.folder / "cluster",
                     "--isolation", isolation, "--home", stage.broker)  # fmt: skip
        stage.facts |= {"cluster": "here", "isolation": isolation}
    else:
        site = Path(os.environ.get("HDRS_SLURM_DIR", "/var/lib/hdrs-hpc-slurm")) / "site.toml"
        if not site.is_file():
            raise DemoClusterError(where=str(site))
        settings = tomllib.loads(site.read_text("utf-8"))
        operator.run("cluster", "add", site, "--home", stage.broker)
        stage.facts |= {"cluster": settings["name"], "isolation": settings["isolation"]}
        stage.facts["scratch"] = settings["projects"][PROJECT]["scratch"]
    projects = ("--project", PROJECT)
    operator.run("cluster", "install", stage.facts["cluster"], *projects, "--home", stage.broker)
    operator.run("cluster", "doctor", stage.facts["cluster"], *projects, "--home", stage.broker)


def _approve(stage: Stage) -> None:
    stage.scene("The custodians register the data, say who opted out, and sign a grant")
    operator, abara, bell = (stage.people[name] for name in ("operator", "abara", "bell"))
    for person in (abara, bell):
        person.run(
            "login", stage.facts["url"], "--key", person.key, "--root-digest", stage.facts["root_digest"]
        )
    versions = {}
    for custodian, owner, name, kind in (
        (abara, "north", "demo-ct-mr", "radiology"),
        (bell, "south", "demo-he", "pathology"),
    ):
        scan = custodian.home / f"{name}.json"
        found = operator.ask(
            "dataset", "scan", name, stage.hospital / kind, "--out", scan, "--home", stage.broker
        )
        custodian.run("dataset", "register", "--scan", scan, "--owner", owner, "--kind", kind,
                      "--sensitivity", "synthetic", "--yes")  # fmt: skip
        custodian.run("opt-out", "add", name, stage.folder / "opt-out.txt", "--yes")
        versions[name] = found["version"]
    (stage.folder / "opt-out.txt").unlink()  # the data zone has it now
    grant = abara.home / "lung-demo.yaml"
    grant.write_text(_grant_text(stage, versions), "utf-8")
    signed = stage.folder / "grant.signed.json"
    abara.run("grant", "sign", grant, "--yes", "--out", signed)
    bell.run("grant", "sign", signed, "--yes", "--out", signed)
    bell.run("grant", "submit", signed)


def _grant_text(stage: Stage, versions: dict[str, str]) -> str:
    today = datetime.now(UTC).date()
    values = {
        "from": today.isoformat(),
        "run_until": (today + timedelta(days=30)).isoformat(),
        "destroy_by": (today + timedelta(days=60)).isoformat(),
        "ct_version": versions["demo-ct-mr"],
        "he_version": versions["demo-he"],
        "cluster": stage.facts["cluster"],
        "isolation": stage.facts["isolation"],
    }
    text = _file("grant.yaml")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _run_jobs(stage: Stage) -> None:
    stage.scene("The researcher submits a built-in workload, then code of her own")
    okafor, chen = stage.people["okafor"], stage.people["chen"]
    okafor.run("login", stage.facts["url"], "--key", okafor.key, "--root-digest", stage.facts["root_digest"])
    okafor.run("project", "list")
    _copy_specs(okafor.home)
    okafor.run("spec", "check", "summary.yaml")
    first = okafor.run("submit", "summary.yaml", "--yes").split()[-1]
    chen.run("login", stage.facts["url"], "--key", chen.key, "--root-digest", stage.facts["root_digest"])
    shutil.copytree(okafor.home / "own-code", chen.home / "own-code")
    chen.run("approval", "give", "own-code", "--project", PROJECT, "--yes",
             "--statement", "Read in full: it writes one table of aggregates")  # fmt: skip
    second = okafor.run("submit", "own-code.yaml", "--yes").split()[-1]
    stage.facts["jobs"] = (first, second)
    for job in (first, second):
        okafor.run("job", "watch", job, live=True)
    for number, report in enumerate(sorted(stage.broker.glob("staging/*/report.html"))):
        shutil.copy(report, stage.folder / f"staging-report-{number + 1}.html")


def _copy_specs(home: Path) -> None:
    for name in ("summary.yaml", "own-code.yaml", "own-code/cohort/__init__.py", "own-code/cohort/main.py"):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A spec may ask for no more CPUs than the cluster has, and here that may be this very machine.
        cpus = min(4, os.cpu_count() or 1)
        path.write_text(_file(name).replace("cpus-per-task: 4", f"cpus-per-task: {cpus}"), "utf-8")


def _file(name: str) -> str:
    return resources.files("hdrs_hpc.cli.demo").joinpath("files", *name.split("/")).read_text("utf-8")


def _review(stage: Stage) -> None:
    stage.scene("Two checkers decide, each without knowing the other's mind")
    chen, dunne = stage.people["chen"], stage.people["dunne"]
    dunne.run("login", stage.facts["url"], "--key", dunne.key, "--root-digest", stage.facts["root_digest"])
    first, second = stage.facts["jobs"]
    chen.run("review", "show", first)
    stage.facts["review"] = chen.ask("review", "show", first, quiet=True)
    chen.run("review", "open", f"{first}/cohort", "--to", "review")
    for checker in (chen, dunne):
        for job in (first, second):
            checker.run("review", "decide", job, "--approve", "all", "--yes",
                        "--reason", "No small counts; nothing but aggregates")  # fmt: skip


def _fetch(stage: Stage) -> None:
    stage.scene("The researcher fetches what was released")
    okafor = stage.people["okafor"]
    for job in stage.facts["jobs"]:
        okafor.run("job", "watch", job, "--to-end", live=True)
    first, second = stage.facts["jobs"]
    okafor.run("job", "fetch", first, "--to", stage.folder / "released")
    okafor.run("job", "fetch", second, "--to", stage.folder / "released" / "own-code")
    stage.facts["job"] = okafor.ask("job", "show", first, quiet=True)


def _close(stage: Stage) -> None:
    stage.scene("The custodian closes the project: keys, data, proof")
    abara = stage.people["abara"]
    abara.run("project", "close", PROJECT, "--dry-run")
    abara.run("project", "close", PROJECT, "--reason", "The demo is over", "--yes")
    while abara.ask("project", "show", PROJECT, quiet=True)["state"] != "CLOSED":
        time.sleep(0.5)
    abara.run("project", "certificate", PROJECT, "--out", stage.folder / "certificate.json")
    abara.run("audit", "fetch", stage.folder / "audit")


def _prove(stage: Stage) -> None:
    stage.scene("Anyone verifies, offline")
    okafor, folder = stage.people["okafor"], stage.folder
    trusted = ("--trust", folder / "trust-root.json", "--root-digest", stage.facts["root_digest"])
    stage.facts["certificate"] = okafor.ask(
        "certificate", "verify", folder / "certificate.json", *trusted, "--audit", folder / "audit"
    )
    stage.facts["audit"] = okafor.ask("audit", "verify", folder / "audit", *trusted)
    stage.facts["log"] = okafor.ask("audit", "show", folder / "audit", quiet=True)


def _search(stage: Stage) -> None:
    """Look for every planted canary everywhere but where the original data may lie.

    The node runtime is left out: an interpreter with its libraries, pinned by digest, made before any data came.
    """
    stage.scene("A search for every planted canary")
    roots = [stage.broker, Path("/dev/shm")]  # noqa: S108  (searched, not written)
    roots += [stage.folder / name for name in ("people", "released", "audit", "certificate.json", "cluster")]
    scratch = stage.folder / "cluster" / "scratch" / PROJECT
    if "scratch" in stage.facts:
        scratch = Path(stage.facts["scratch"])
        roots.append(scratch)
    skip = [stage.broker / name for name in ("opt-outs", "inventories", "runtime")]
    skip.append(scratch / "hdrs-hpc" / "runtime")
    there = [str(root) for root in roots if root.exists()]
    left_out = [word for path in skip for word in ("--skip", str(path))]
    stage.facts["in_source"] = _scan(stage, str(stage.hospital))["found"]
    stage.facts["elsewhere"] = _scan(stage, *there, *left_out)["found"]


def _scan(stage: Stage, *words: str) -> Any:
    argv = [sys.executable, "-m", "hdrs_hpc.cli.demo.canaries", str(stage.canaries), *words, "--json"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if not done.stdout:
        raise CommandFailedError("the canary search did not run")
    return json.loads(done.stdout)


def _last_screen(stage: Stage) -> None:
    from hdrs_hpc.cli.demo.ending import show_ending

    show_ending(stage.console, stage.folder, stage.facts, stage.clock.total_s())
    if stage.facts["elsewhere"]:
        raise DemoFailedError("canaries were found outside the source")
