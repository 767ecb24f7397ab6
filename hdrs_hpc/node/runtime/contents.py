"""Which files the agent's runtime and the flavours hold: lists of (path inside, source on this machine)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hdrs_hpc.core.errors import NotFoundError

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
STDLIB = PurePosixPath("lib", PYTHON)
LIBS = PurePosixPath("lib")
SITE_FOLDER = "site-packages"
SITE = STDLIB / SITE_FOLDER

OURS_OF_THE_AGENT = (
    "hdrs_hpc/__init__.py",
    "hdrs_hpc/catalogue/__init__.py",
    "hdrs_hpc/catalogue/flavours.py",
    "hdrs_hpc/catalogue/flavour_packages.py",
    "hdrs_hpc/catalogue/isolation.py",
    "hdrs_hpc/catalogue/workloads/*.py",
    "hdrs_hpc/confined/*.py",
    "hdrs_hpc/core/*.py",
    "hdrs_hpc/documents/__init__.py",
    "hdrs_hpc/documents/envelope.py",
    "hdrs_hpc/documents/ssh*.py",
    "hdrs_hpc/node/*.py",
    "hdrs_hpc/node/launch/__init__.py",
    "hdrs_hpc/node/launch/plan.py",
    "hdrs_hpc/protocol/*.py",
    "hdrs_hpc/sealing/*.py",
    "hdrs_hpc/sealing/objects/*.py",
)
"""Patterns below our packages: what the agent, couriers and what they start import."""
OURS_OF_A_SANDBOX = (
    "hdrs_hpc/__init__.py",
    "hdrs_hpc/catalogue/__init__.py",
    "hdrs_hpc/catalogue/flavours.py",
    "hdrs_hpc/catalogue/workloads/*.py",
    "hdrs_hpc/core/*.py",
    "hdrs_hpc/node/__init__.py",
    "hdrs_hpc/node/launch/**/*.py",
    "hdrs_hpc/protocol/__init__.py",
    "hdrs_hpc/protocol/datasocket.py",
    "hdrs_hpc/workloads/**/*.py",
    "imaging/__init__.py",
    "imaging/layout.py",
    "imaging/reading/**/*.py",
)
"""The same of what runs in a sandbox: nothing that handles keys, sealing or a hand-over."""
PROGRAMS = ("squashfuse_ll", "unsquashfs")
"""By which an agent shows a flavour, the better first; those that this machine has are put in."""

_STDLIB_LEFT_OUT = frozenset(
    {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "venv"}
    | {"site-packages", "__pycache__"}
)
_PACKAGE_LEFT_OUT = frozenset({"tests", "test", "__pycache__", "include", "testing_data", "sample_data"})
_KEPT_METADATA = frozenset({"METADATA", "entry_points.txt"})
_DROPPED = re.compile(
    r"\.(pyi|pyx|pxd|pxi|h|hpp|c|cc|cpp|a|o|md|rst)$"
    # Arrow's clients of network services and query plans (nothing on a node speaks them), and the second and
    # third copy of its libraries: a wheel has no symbolic links.
    r"|^pyarrow/(libarrow_(flight|python_flight|s3|gcs|azure)|_flight|_s3fs|_gcsfs|_azurefs)"
    r"|^pyarrow/(src/|tests/|lib\w+\.so(\.\d+\.\d+\.\d+)?$)"
    r"|^numpy/(f2py|doc)/|^fontTools/.*\.so$|^distributed/(dashboard|http/static)/|^tzdata/zoneinfo/"
)
_GLIBC = re.compile(
    r"^(ld-linux.*|lib(c|m|dl|rt|pthread|util|resolv|anl|mvec|nsl)|linux-vdso|linux-gate)\.so"
)
_LDD = re.compile(r"^\s*(\S+) => (/\S+) \(0x", re.MULTILINE)


class RuntimeSourceMissingError(NotFoundError):
    code = "runtime-source-missing"
    meaning = "Something that belongs into the node runtime is not installed here."
    remedy = (
        "Install this project with its `broker` and `node` extras on the machine that builds the runtime."
    )


@dataclass(frozen=True)
class Entry:
    path: PurePosixPath
    source: Path


def of_the_agent() -> list[Entry]:
    """All files but those of :func:`system_libraries`, sorted by path; raises RuntimeSourceMissingError."""
    packages = _packages(distributions(["cryptography"]))
    return _sorted(*_interpreter(), *_stdlib(), *packages, *_programs(), *ours(OURS_OF_THE_AGENT))


def of_a_flavour(fetched: Path | None = None) -> list[Entry]:
    """The same of a flavour, without our own code (:func:`ours`).

    ``fetched``: a folder in which further packages are installed; of those that are in both, its own count.
    """
    return _sorted(*_interpreter(), *_stdlib(), *_packages(packages_of(fetched)))


def packages_of(fetched: Path | None = None) -> dict[str, metadata.Distribution]:
    """The packages of a flavour, by canonical name."""
    there = [] if fetched is None else list(metadata.distributions(path=[str(fetched)]))
    return distributions(_node_extra()) | {canonicalize_name(found.name): found for found in there}


def _sorted(*given: Entry) -> list[Entry]:
    found = {entry.path: entry for entry in given}
    return [found[path] for path in sorted(found)]


def system_libraries(found: list[Entry]) -> list[Entry]:
    """Shared libraries of this machine, other than glibc's, that something in ``found`` links against."""
    binaries = [
        entry.source for entry in found if entry.path.parent.name == "bin" or ".so" in entry.path.name
    ]
    ours = {entry.path.name for entry in found}
    listing = subprocess.run(
        ["/usr/bin/ldd", *map(str, binaries)], capture_output=True, text=True, check=False
    ).stdout
    return [
        Entry(LIBS / name, Path(target).resolve())
        for name, target in sorted(set(_LDD.findall(listing)))
        if not _GLIBC.match(name) and name not in ours and SITE_FOLDER not in Path(target).parts
    ]


def distributions(wanted: Iterable[str]) -> dict[str, metadata.Distribution]:
    """The closure of these requirements over what is installed, by canonical name."""
    chosen: dict[str, metadata.Distribution] = {}
    done: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement(text) for text in wanted]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in done:
            continue
        done.add((name, frozenset(requirement.extras)))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            raise RuntimeSourceMissingError(where=name) from None
        chosen[name] = distribution
        for text in distribution.requires or ():
            child = Requirement(text)
            environments = [{"extra": extra} for extra in ("", *requirement.extras)]
            if child.marker is None or any(child.marker.evaluate(env) for env in environments):
                todo.append(child)
    return dict(sorted(chosen.items()))


def _node_extra() -> list[str]:
    """Its requirements, from our own metadata or, in a source tree, from pyproject.toml."""
    pyproject = our_root() / "pyproject.toml"
    if pyproject.is_file():
        project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
        return list(project["optional-dependencies"]["node"])
    return [
        f"{item.name}{'[' + ','.join(sorted(item.extras)) + ']' if item.extras else ''}{item.specifier}"
        for item in map(Requirement, metadata.distribution("hdrs-hpc").requires or ())
        if item.marker is not None and item.marker.evaluate({"extra": "node"})
    ]


def our_root() -> Path:
    return Path(__file__).resolve().parents[3]


def _interpreter() -> Iterator[Entry]:
    binary = Path(sys.executable).resolve()
    yield Entry(PurePosixPath("bin/python3"), binary)
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        library = str(sysconfig.get_config_var("INSTSONAME"))
        places = (str(sysconfig.get_config_var("LIBDIR")), str(Path(sys.base_prefix, "lib")), "/usr/lib")
        for place in places:
            if Path(place, library).is_file():
                yield Entry(LIBS / library, Path(place, library))
                return
        # A distribution's own interpreter: found by ldd below, unless it is linked statically.


def _stdlib() -> Iterator[Entry]:
    roots = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    for text in sorted(roots):
        root = Path(text).resolve()
        for source in root.rglob("*"):
            relative = source.relative_to(root)
            top = relative.parts[0]
            if not source.is_file() or _STDLIB_LEFT_OUT.intersection(relative.parts):
                continue
            if top.startswith("config-") or (
                top == "lib-dynload" and re.match(r"_test|xx|_tkinter", source.name)
            ):
                continue
            if top == "dist-packages" or source.suffix == ".pyc":
                continue
            yield Entry(STDLIB / PurePosixPath(relative), source)


def _programs() -> Iterator[Entry]:
    for name in PROGRAMS:
        found = shutil.which(name, path="/usr/bin:/usr/local/bin")
        if found is not None:
            yield Entry(PurePosixPath("bin", name), Path(found))


def _packages(chosen: Mapping[str, metadata.Distribution]) -> Iterator[Entry]:
    for name, distribution in sorted(chosen.items()):
        files = distribution.files
        if files is None:
            raise RuntimeSourceMissingError("it has no list of its files", where=name)
        for file in files:
            path = PurePosixPath(str(file))
            if ".." in path.parts or path.is_absolute() or path.suffix == ".pyc":
                continue
            if _PACKAGE_LEFT_OUT.intersection(path.parts[:-1]) or _DROPPED.search(str(path)):
                continue
            if path.parts[0].endswith(".dist-info") and path.name not in _KEPT_METADATA:
                continue
            source = Path(str(distribution.locate_file(file)))
            if source.is_file():
                yield Entry(SITE / path, source)


def ours(patterns: Iterable[str], below: PurePosixPath = SITE) -> Iterator[Entry]:
    """Files of our own packages, ``below`` that folder."""
    root = our_root()
    for pattern in patterns:
        for source in root.glob(pattern):
            yield Entry(below / PurePosixPath(source.relative_to(root)), source)
