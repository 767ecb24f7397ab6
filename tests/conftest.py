"""Fixtures of whole lives, and what is said about parts that a machine does not have."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hdrs_hpc.node.runtime.build import RuntimeFile
from hdrs_hpc.node.runtime.flavour import FlavourFile
from tests.support import programs, runtime_cache, side_by_side, slurm_site
from tests.support.world import World, make_test_archive

IN_CI = os.environ.get("CI") == "true"
MAY_BE_SKIPPED = ("needs ../shared/data", "torch is not here", "not applicable: ")
"""How the reason of a skip begins that CI accepts: data that only some machines have, tests that `make test-torch` runs
in an environment of their own, and cases of a table that do not apply.  Any other skip is a failure there."""
programs.refuse_unlisted_programs()
MakeWorld = Callable[..., World]


def has_bubblewrap() -> bool:
    """Whether bubblewrap is there and may make its namespaces."""
    probe = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]
    return shutil.which("bwrap") is not None and not subprocess.run(probe, capture_output=True).returncode


def require(there: bool, missing: str) -> None:
    """Skip loudly without a root-installed part; without it in CI, fail."""
    if there:
        return
    if IN_CI:
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="session")
def built_runtime(request: pytest.FixtureRequest) -> Iterator[RuntimeFile]:
    """What agents run on, of these sources, kept between sessions."""
    with runtime_cache.borrowed(_kept(request) / "node-runtime") as made:
        yield made


@pytest.fixture(scope="session")
def base_flavour(request: pytest.FixtureRequest) -> Iterator[FlavourFile]:
    """The flavour `base` of these sources, kept between sessions."""
    with runtime_cache.borrowed_flavour(_kept(request) / "flavour-base", "base") as made:
        yield made


@pytest.fixture(scope="session")
def torch_flavour(request: pytest.FixtureRequest) -> Iterator[FlavourFile]:
    """The flavour `torch`, made of the packages that `make .torch/.ready` puts into `.torch` (3 GB, a minute).

    HDRS_TEST_FLAVOURS may name a folder in which several checkouts keep theirs.
    """
    fetched = request.config.rootpath / ".torch"
    if not (fetched / "torch").is_dir():
        pytest.skip("torch is not here: `make test-torch` fetches it")
    with runtime_cache.borrowed_flavour(_kept(request) / "flavour-torch", "torch", fetched.resolve()) as made:
        yield made


def _kept(request: pytest.FixtureRequest) -> Path:
    shared = os.environ.get("HDRS_TEST_FLAVOURS")
    return Path(shared) if shared else request.config.rootpath / ".pytest_cache"


@pytest.fixture(scope="session")
def short_tmp() -> Iterator[Path]:
    """A folder with a short name: sockets below pytest's own would have paths that are too long."""
    folder = Path(tempfile.mkdtemp(prefix="hdrs-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_archive(short_tmp: Path) -> Any:
    """One archive for all worlds: the broker only reads it.  Large enough that not every count is suppressed."""
    return make_test_archive(short_tmp / "source", patients=36)


@pytest.fixture(scope="module")
def make_world(
    short_tmp: Path, shared_archive: Any, built_runtime: RuntimeFile, base_flavour: FlavourFile
) -> Iterator[MakeWorld]:
    """Makes worlds and ends them; ``make_world(isolation="sandboxed", flavours=(torch_flavour,))``."""
    made: list[World] = []

    def make(**settings: Any) -> World:
        if settings.get("isolation") == "sandboxed":
            require(has_bubblewrap(), "bubblewrap: sandboxed jobs can't run here")
        root = Path(tempfile.mkdtemp(prefix="w-", dir=short_tmp))
        archive = settings.pop("archive", shared_archive)
        flavours = (base_flavour, *settings.pop("flavours", ()))
        world = World(root, test_archive=archive, flavours=flavours, **settings)
        made.append(world)
        return world.make(built_runtime)

    yield make
    for world in made:
        world.stop()
        shutil.rmtree(world.root, ignore_errors=True)


@pytest.fixture(scope="session")
def slurm_scratch(built_runtime: RuntimeFile, base_flavour: FlavourFile) -> Iterator[slurm_site.Scratch]:
    """A scratch of our own on the throw-away cluster, with the runtime in it."""
    require(
        slurm_site.running(),
        f"no throw-away Slurm cluster in {slurm_site.STATE}: run `make slurm-up` as root",
    )
    scratch = slurm_site.Scratch.make(built_runtime, base_flavour)
    yield scratch
    scratch.remove()


@pytest.fixture(scope="module")
def make_slurm_world(make_world: MakeWorld, slurm_scratch: slurm_site.Scratch) -> Iterator[MakeWorld]:
    """Makes worlds whose one cluster is the throw-away Slurm, over SSH; each has a scratch of its own."""
    made: list[slurm_site.Scratch] = []

    def make(port: int | None = None, **settings: Any) -> World:
        made.append(slurm_scratch.beside())
        return make_world(cluster="testsite", settings_toml=made[-1].settings(port), **settings)

    yield make
    for scratch in made:
        scratch.remove()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what a machine has once stay in one worker."""
    side_by_side.arrange(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Several workers are handed whole groups, whatever ``--dist`` says."""
    return side_by_side.scheduler(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With CI=true a test that was skipped is a failure, but for the reasons of ``MAY_BE_SKIPPED``."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[-1]).removeprefix("Skipped: ")
        if not reason.startswith(MAY_BE_SKIPPED):
            report.outcome = "failed"
            report.longrepr = f"CI=true, and this was not run: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name loudly what this machine could not show."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        if "root_parts" in getattr(report, "keywords", ()):
            reason = str(report.longrepr[-1]).removeprefix("Skipped: ")
            reasons[reason] = reasons.get(reason, 0) + 1
    if reasons:
        terminalreporter.section("NOT RUN HERE", sep="!", red=True, bold=True)
        for reason, count in sorted(reasons.items()):
            terminalreporter.write_line(f"NOT RUN HERE: {count} tests: {reason}", red=True)
