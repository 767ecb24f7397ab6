"""Where the interpreter of the sandbox comes from: a runtime file, or the environment in which hdrs-hpc is installed.

This is the one place that knows.  Whatever it is, the sandbox finds ``bin/python3`` in the runtime's folder, as on a
node.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import hdrs_hpc
from hdrs_hpc.confined import interpreter
from hdrs_hpc.core.errors import BadDocumentError

UNSQUASHFS = Path("/usr/bin/unsquashfs")
_OURS = ("hdrs_hpc", "imaging", "connectors")


class RuntimeUnusableError(BadDocumentError):
    code = "runtime-unusable"
    meaning = "The runtime given is no runtime that can be used on this machine."
    remedy = (
        "Give what `hdrs-hpc runtime build` made, or leave `--runtime` out to use what is installed here."
    )


@dataclass(frozen=True)
class Interpreter:
    folder: Path
    """What the sandbox has as its runtime."""
    beside: tuple[Path, ...]
    """Folders that it leads to, which the sandbox has to see under their own names."""
    told: str
    """A sentence for people."""


def from_file(file: Path, cache: Path) -> Interpreter:
    """A runtime that was built (``node/runtime``), unpacked once; or its folder.  Raises RuntimeUnusableError."""
    folder = file if file.is_dir() else _unpacked(file, cache)
    if not (folder / "bin/python3").exists():
        raise RuntimeUnusableError("there is no bin/python3 in it", where=str(file))
    return Interpreter(folder.resolve(), (), f"the runtime {file.name}")


def _unpacked(file: Path, cache: Path) -> Path:
    with file.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    folder = cache / "runtimes" / digest
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix="unpacking-", dir=folder.parent))
    try:
        _unpack(file, draft)
        draft.rename(folder)
    except (tarfile.TarError, subprocess.CalledProcessError, OSError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        if not folder.is_dir():  # else somebody else was faster
            raise RuntimeUnusableError(str(error), where=str(file)) from None
    return folder


def _unpack(file: Path, folder: Path) -> None:
    """A flavour (squashfs) or an older runtime (tar)."""
    with file.open("rb") as handle:
        squashed = handle.read(4) == b"hsqs"
    if squashed:
        if not UNSQUASHFS.exists():
            raise RuntimeUnusableError("squashfs-tools, which unpacks it, is not installed", where=str(file))
        options = ("-no-progress", "-quiet", "-no-xattrs", "-force", "-dest")
        subprocess.run([UNSQUASHFS, *options, folder, file], check=True, stdout=subprocess.DEVNULL)
        return
    with tarfile.open(file) as tar:
        tar.extractall(folder, filter="data")


def installed(folder: Path) -> Interpreter:
    """The environment of this process, as a virtual environment made in ``folder`` that leads to it."""
    base = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]  # as the module venv does
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    site.mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin/python3").symlink_to(base)
    (folder / "pyvenv.cfg").write_text(
        f"home = {base.parent}\ninclude-system-site-packages = false\n", "utf-8"
    )
    paths = _import_paths()
    (site / "installed.pth").write_text("".join(f"{path}\n" for path in paths), "utf-8")
    around = Path(hdrs_hpc.__file__).resolve().parents[1]
    extra = [path for path in paths if path != around and not path.is_relative_to(sys.prefix)]
    ours = [around / name for name in _OURS if not around.is_relative_to(sys.prefix)]
    beside = tuple(each.inside for each in interpreter.shown(*extra, *ours))
    return Interpreter(folder, beside, f"the environment in which hdrs-hpc is installed ({sys.prefix})")


def _import_paths() -> list[Path]:
    """What this environment imports from beyond the standard library; folders made by ``pip install --target`` that
    PYTHONPATH names among them, any other folder of it not."""
    asked = [sys.executable, "-I", "-c", "import json, sys; print(json.dumps(sys.path))"]
    told = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
    base = Path(sys.base_prefix)
    found = [Path(path) for path in told if path and Path(path).is_dir()]
    found = [path for path in found if not path.is_relative_to(base) or path.name == "site-packages"]
    for path in map(Path, filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))):
        if path.is_dir() and any(path.glob("*.dist-info")):
            found.append(path.resolve())
    return list(dict.fromkeys(found))
