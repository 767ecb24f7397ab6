"""What each flavour holds, from the locks: the text of ``hdrs_hpc/catalogue/flavour_packages.py``."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from hdrs_hpc.node.runtime import contents

ROOT = Path(__file__).resolve().parents[2]
_LOCKED = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)
BASE_PLATFORMS = ("x86_64", "aarch64")
IMPORTED_AS = {
    "attrs": "attr",
    "antlr4-python3-runtime": "antlr4",
    "importlib-metadata": "importlib_metadata",
    "lightly-utils": "lightly_utils",
    "nvidia-ml-py": "pynvml",
    "pillow": "PIL",
    "pytorch-lightning": "pytorch_lightning",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "simpleitk": "SimpleITK",
    "python-dateutil": "dateutil",
    "pyyaml": "yaml",
    "protobuf": "google",
}
"""Names to import that are not the distribution's."""

HEAD = '''"""What each flavour holds: distributions with versions, and the names that are imported.

Made from the locks of ``deploy/runtimes/`` and of this project by ``make docs``: what is here comes with every
installation, so that a laptop knows it without a clone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FlavourPackages:
    packages: dict[str, str]
    """Normalised name → version."""
    modules: frozenset[str]


def _held(packages: str, modules: str) -> FlavourPackages:
    return FlavourPackages(dict(word.split("==") for word in packages.split()), frozenset(modules.split()))


'''


def text() -> str:
    """The whole module."""
    base = {name: item.version for name, item in contents.packages_of().items()}
    rows = {("base", platform): (base, _installed_modules()) for platform in BASE_PLATFORMS}
    for lock in sorted((ROOT / "deploy/runtimes").glob("*.lock")):
        flavour, _, platform = lock.stem.partition("-")
        found = dict(_LOCKED.findall(lock.read_text("ascii")))
        modules = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in found}
        rows[flavour, platform] = (base | found, _installed_modules() | modules)
    written = [f"    {key!r}: _held(\n{_words(held)}\n    ),".replace("'", '"') for key, held in rows.items()]
    lines = "\n".join(written)
    table = f"HELD: dict[tuple[str, str], FlavourPackages] = {{\n{lines}\n}}\n"
    return HEAD + table + '"""By flavour and platform."""\n'


def _words(held: tuple[dict[str, str], set[str]]) -> str:
    packages, modules = held
    both = (" ".join(f"{name}=={packages[name]}" for name in sorted(packages)), " ".join(sorted(modules)))
    return ",\n".join(_wrapped(words) for words in both) + ","


def _wrapped(words: str) -> str:
    body = textwrap.fill(words, 100, break_on_hyphens=False, break_long_words=False)
    return '        """\n' + textwrap.indent(body, " " * 8) + '\n        """'


def _installed_modules() -> set[str]:
    found = set()
    for item in contents.packages_of().values():
        for file in item.files or ():
            top = file.parts[0]
            if len(file.parts) > 1 and not top.endswith((".dist-info", ".libs", ".data")) and top != "..":
                found.add(top)
            elif len(file.parts) == 1 and (top.endswith(".py") or ".so" in top):
                found.add(top.partition(".")[0])
    return {name for name in found if name.isidentifier() and name != "__pycache__"}
