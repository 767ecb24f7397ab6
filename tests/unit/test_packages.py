"""One list of Debian packages: what code and tests look for is in it, and what is in it is really there."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.conftest import require
from tests.support.programs import (
    NOT_PACKAGED,
    PACKAGES,
    PROJECT,
    UnlistedProgramError,
    listed,
    looked_for,
    on_system_path,
)

SOURCES = [
    path
    for folder in ("hdrs_hpc", "connectors", "imaging", "benchmarks", "deploy", "tests")
    for path in sorted((PROJECT / folder).rglob("*.py"))
]
MADE_UP = {"written", "no-such-program", "nologin"}
"""Names that tests make up, of programs that are nowhere."""


def test_every_program_that_is_looked_for_comes_from_a_listed_package() -> None:
    known = listed().keys() | NOT_PACKAGED | MADE_UP
    found = [(path, line, name) for path in SOURCES for line, name in looked_for(path.read_text())]
    assert len(found) > 100
    assert [
        f"{path.relative_to(PROJECT)}:{line}: {name}" for path, line, name in found if name not in known
    ] == []


def test_what_a_test_looks_for_is_found_however_it_is_written() -> None:
    code = 'shutil.which("dciodvfy")\nX = "/usr/sbin/Orthanc"\nrun(["/bin/ls", "/usr/bin"])\nneeds=("bin:rsync",)\n'
    assert sorted(looked_for(code)) == [(1, "dciodvfy"), (2, "Orthanc"), (3, "ls"), (4, "rsync")]


@pytest.mark.root_parts
@pytest.mark.parametrize("program", sorted(listed()))
def test_every_program_of_the_list_is_installed(program: str) -> None:
    require(on_system_path(program) is not None, f"{program} of the Debian package {listed()[program]}")


@pytest.mark.root_parts
def test_every_package_of_the_list_is_installed() -> None:
    """Also those that bring no program, as a plug-in or a header file does."""
    require(shutil.which("dpkg-query") is not None, "dpkg-query: packages are asked of Debian's own list")
    packages = [line.split()[0] for line in PACKAGES.read_text().splitlines() if line and line[0] != "#"]
    assert len(packages) == len(set(packages))
    asked = ["dpkg-query", "-W", "-f", "${Status}\\n", *packages]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    lacking = len(packages) - done.stdout.count("install ok installed")
    require(lacking == 0, f"{lacking} packages of deploy/packages.txt: {done.stderr.strip()}")


def test_starting_a_program_that_no_listed_package_brings_fails_the_test() -> None:
    unlisted = next(name for name in ("perl", "awk", "sed", "grep") if on_system_path(name))
    with pytest.raises(UnlistedProgramError, match=unlisted):
        subprocess.run([unlisted, "--version"], check=False, capture_output=True)
    assert subprocess.run([sys.executable, "-c", ""], check=False).returncode == 0


def test_the_installer_installs_the_packages_of_the_list() -> None:
    installer = [str(PROJECT / "deploy" / "install-packages"), "--list"]
    names = subprocess.run(installer, capture_output=True, text=True, check=True).stdout.split()
    assert set(names) >= set(listed().values())
    pacs = subprocess.run([*installer, "pacs"], capture_output=True, text=True, check=True).stdout.split()
    assert pacs == ["dcmtk", "orthanc", "orthanc-dicomweb", "openssl"]
    unknown = subprocess.run([*installer, "no-such"], capture_output=True, text=True, check=False)
    assert (unknown.returncode, unknown.stdout) == (2, "")
