"""What can be told of a bundle before it is sent: that it parses, that its entry is there, that what it names exists.

Nothing of it is run or imported: the code is read as syntax trees.
"""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from hdrs_hpc.protocol.bundle import OUR_NAMES

ON_NODES = frozenset(
    {"PIL", "click", "cloudpickle", "contourpy", "cycler", "dask", "dask_jobqueue"}
    | {"dateutil", "distributed", "donfig", "fontTools", "fsspec", "google_crc32c", "imagecodecs", "jinja2"}
    | {"kiwisolver", "locket", "markupsafe", "matplotlib", "mpl_toolkits", "msgpack", "msgspec", "numcodecs"}
    | {"numpy", "packaging", "pandas", "partd", "psutil", "pyarrow", "pylab", "pyparsing", "six"}
    | {
        "sortedcontainers",
        "tblib",
        "tlz",
        "toolz",
        "tornado",
        "typing_extensions",
        "xarray",
        "yaml",
        "zarr",
        "zict",
    }
)
"""Import names that the node runtime brings; an import of none of them is worth a word, not a refusal."""


@dataclass(frozen=True)
class CodeFinding:
    """A fault of the code, or with ``warning`` something that may be one."""

    code: str
    file: str
    line: int | None
    message: str
    remedy: str
    warning: bool = False


def check(
    files: Mapping[str, bytes], entry: str, outputs: Collection[str], there: Collection[str] = ()
) -> list[CodeFinding]:
    """Every finding of a bundle, by file and line.

    ``files`` maps relative POSIX paths to bytes, ``entry`` is ``module:function``, ``outputs`` the names declared,
    ``there`` the names that the flavour and the bundle's wheels bring to import.
    """
    trees: dict[str, ast.Module] = {}
    found = []
    for name in sorted(files):
        if not name.endswith(".py"):
            continue
        try:
            trees[name] = ast.parse(files[name], filename=name)
        except (SyntaxError, ValueError) as error:
            found.append(_unparsed(name, error))
    found += _entry(files, trees, entry)
    for name, tree in trees.items():
        found += _outputs(name, tree, outputs)
        found += _imports(name, tree, files, there)
    return sorted(found, key=lambda item: (item.warning, item.file, item.line or 0))


def _unparsed(name: str, error: SyntaxError | ValueError) -> CodeFinding:
    line = error.lineno if isinstance(error, SyntaxError) else None
    what = error.msg if isinstance(error, SyntaxError) else "it holds what no source may hold"
    return CodeFinding(
        "bundle-syntax",
        name,
        line,
        f"Python {sys.version_info.major}.{sys.version_info.minor} cannot read it: {what}",
        "Mend the line; `python -m py_compile FILE` says the same.",
    )


def _entry(files: Mapping[str, bytes], trees: Mapping[str, ast.Module], entry: str) -> Iterator[CodeFinding]:
    module, _, function = entry.partition(":")
    path = module.replace(".", "/")
    name = next((name for name in (f"{path}.py", f"{path}/__init__.py") if name in files), None)
    if name is None or name not in trees:
        return  # told elsewhere: no such module, or it does not parse
    defined = set(_names_of(trees[name]))
    if function in defined or "*" in defined:
        return
    near = difflib.get_close_matches(function, defined, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    yield CodeFinding(
        "entry-not-in-module",
        name,
        None,
        f"it defines no {function}{meant}",
        "Name a function of the module's top level: `entry: package.module:function`.",
    )


def _names_of(tree: ast.Module) -> Iterator[str]:
    """Names that a module binds at its top level, also below ``if`` and ``try``; ``*`` for a star import."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))
            case ast.If() | ast.Try() | ast.With():
                for field in ("body", "orelse", "finalbody", "handlers"):
                    waiting += getattr(node, field, [])
            case ast.ExceptHandler():
                waiting += node.body


def _outputs(name: str, tree: ast.Module, declared: Collection[str]) -> Iterator[CodeFinding]:
    """Calls of ``….output("name")`` with a name that the spec does not declare."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        first = node.args[0]
        if node.func.attr != "output" or not (
            isinstance(first, ast.Constant) and isinstance(first.value, str)
        ):
            continue
        if first.value not in declared:
            near = difflib.get_close_matches(first.value, declared, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            yield CodeFinding(
                "output-not-in-spec",
                name,
                node.lineno,
                f"it writes the output {first.value[:60]!r}, which the spec does not declare{meant}",
                "Declare it under `outputs:`, or write one that is declared.",
            )


def _imports(
    name: str, tree: ast.Module, files: Mapping[str, bytes], there: Collection[str]
) -> Iterator[CodeFinding]:
    """Imports that nothing on a node is known to satisfy; inside ``try`` they are the code's own business."""
    own = {PurePosixPath(path).parts[0].removesuffix(".py") for path in files}
    known = own | OUR_NAMES | ON_NODES | sys.stdlib_module_names | set(there)
    tried = {id(node) for block in ast.walk(tree) if isinstance(block, ast.Try) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in tried:
            continue
        wanted = []
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            wanted = [node.module]
        for module in wanted:
            top = module.partition(".")[0]
            if top not in known:
                yield CodeFinding(
                    "import-unknown",
                    name,
                    getattr(node, "lineno", None),
                    f"it imports {top[:60]}, which neither the bundle nor the node runtime is known to have",
                    "Name it in requirements.in and run `hdrs-hpc bundle lock`, or put it into the bundle.",
                    warning=True,
                )
