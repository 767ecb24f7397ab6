"""Which files the node runtime holds: a list of (path inside the runtime, source on this machine)."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
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

OUR_FOLDERS = (
    "hdrs_hpc/catalogue/workloads",
    "hdrs_hpc/confined",
    "hdrs_hpc/core",
    "hdrs_hpc/documents",
    "hdrs_hpc/node",
    "hdrs_hpc/protocol",
    "hdrs_hpc/sealing",
    "hdrs_hpc/workloads",
    "imaging/reading",
)
OUR_FILES = (
    "hdrs_hpc/__init__.py",
    "hdrs_hpc/catalogue/__init__.py",
    "hdrs_hpc/catalogue/flavour_packages.py",
    "hdrs_hpc/catalogue/isolation.py",
    "imaging/__init__.py",
    "imaging/layout.py",
)

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


def entries() -> list[Entry]:
    """All files but those of :func:`system_libraries`, sorted by path; raises RuntimeSourceMissingError."""
    found = {entry.path: entry for entry in (*_interpreter(), *_stdlib(), *_packages(), *_ours())}
    return [found[path] for path in sorted(found)]


def system_libraries(found: list[Entry]) -> list[Entry]:
    """Shared libraries of this machine, other than glibc's, that something in ``found`` links against."""
    binaries = [entry.source for entry in found if entry.path.name == "python3" or ".so" in entry.path.name]
    ours = {entry.path.name for entry in found}
    listing = subprocess.run(
        ["/usr/bin/ldd", *map(str, binaries)], capture_output=True, text=True, check=False
    ).stdout
    return [
        Entry(LIBS / name, Path(target).resolve())
        for name, target in sorted(set(_LDD.findall(listing)))
        if not _GLIBC.match(name) and name not in ours and SITE_FOLDER not in Path(target).parts
    ]


def distributions() -> dict[str, metadata.Distribution]:
    """The closure of the ``node`` extra and ``cryptography`` over what is installed, by canonical name."""
    chosen: dict[str, metadata.Distribution] = {}
    done: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement(text) for text in _roots()]
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


def _roots() -> list[str]:
    """Requirements of the ``node`` extra, from our own metadata or, in a source tree, from pyproject.toml."""
    pyproject = _our_root() / "pyproject.toml"
    if pyproject.is_file():
        project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
        node, plain = project["optional-dependencies"]["node"], project["dependencies"]
    else:
        wanted = [Requirement(text) for text in metadata.distribution("hdrs-hpc").requires or ()]
        plain = [str(item) for item in wanted if item.marker is None]
        node = [
            f"{item.name}{'[' + ','.join(sorted(item.extras)) + ']' if item.extras else ''}{item.specifier}"
            for item in wanted
            if item.marker is not None and item.marker.evaluate({"extra": "node"})
        ]
    return [*node, *(text for text in plain if Requirement(text).name == "cryptography")]


def _our_root() -> Path:
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


def _packages() -> Iterator[Entry]:
    for name, distribution in distributions().items():
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


def _ours() -> Iterator[Entry]:
    root = _our_root()
    sources = [root / name for name in OUR_FILES]
    for folder in OUR_FOLDERS:
        sources += [source for source in (root / folder).rglob("*") if source.is_file()]
    for source in sources:
        if "__pycache__" in source.parts or source.suffix == ".pyc":
            continue
        yield Entry(SITE / PurePosixPath(source.relative_to(root)), source)
