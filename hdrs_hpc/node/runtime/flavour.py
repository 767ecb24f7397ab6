"""Build a flavour: one deterministic squashfs file with what a sandbox runs on, named by its SHA-256.

Two steps, so that a change of our own code does not compress gigabytes again: an image with the interpreter and all
packages, kept under a name of its own, and a copy of it to which our own code is appended in the folder ``ours``.
The same interpreter, packages, sources and mksquashfs give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from hdrs_hpc.catalogue.flavours import FLAVOURS
from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import BadDocumentError, ConflictError, NotFoundError
from hdrs_hpc.node.runtime import contents, tree

MKSQUASHFS, UNSQUASHFS = "/usr/bin/mksquashfs", "/usr/bin/unsquashfs"
COMPRESSION = ("-comp", "zstd", "-Xcompression-level", "1", "-b", "128K")
"""A higher level makes files a tenth smaller in four times the time; larger blocks make imports slower."""
SAME_BYTES = ("-all-root", "-all-time", "0", "-mkfs-time", "0", "-no-xattrs", "-no-exports")
QUIET = ("-no-progress", "-quiet", "-no-recovery")
OURS = PurePosixPath("ours")
INSIDE = "flavour.json"
"""At the root of the image: what it holds, with versions."""


class NoSquashfsToolsError(NotFoundError):
    code = "squashfs-tools-missing"
    meaning = "A flavour is a squashfs file, and the program that makes one is not installed here."
    remedy = "Install the package `squashfs-tools` on the machine that builds flavours."


class FlavourNotBuiltError(NotFoundError):
    code = "flavour-not-built"
    meaning = "No file of this flavour was built in the broker's home yet."
    remedy = "Run `hdrs-hpc runtime build --flavour base`, or with the flavour that is named."


class NotAFlavourError(BadDocumentError):
    code = "not-a-flavour"
    meaning = "The file is no flavour that `runtime build` made."
    remedy = "Take the .squashfs file that it wrote, and compare its digest."


class OtherProcessorError(ConflictError):
    code = "flavour-other-processor"
    meaning = "A flavour is built on a machine of the nodes' kind, and this machine is of another."
    remedy = (
        "Run `runtime build --out FOLDER` there, bring the file here, and take it in: `runtime add FILE`."
    )


@dataclass(frozen=True)
class FlavourFile:
    path: Path
    digest: str
    size_bytes: int
    flavour: str
    platform: str
    packages: dict[str, str]
    """Name → version."""


def build(folder: Path, name: str, platform_name: str, fetched: Path | None = None) -> FlavourFile:
    """The flavour for this interpreter and these sources, in ``folder``; made only if it is not there yet.

    ``fetched``: a folder with its packages beside those of this installation.  Raises RuntimeSourceMissingError,
    NoSquashfsToolsError.  Interrupted builds leave nothing under a final name.
    """
    if not Path(MKSQUASHFS).exists():
        raise NoSquashfsToolsError()
    folder.mkdir(parents=True, exist_ok=True)
    chosen = contents.of_a_flavour(fetched)
    ours = list(contents.ours(contents.OURS_OF_A_SANDBOX, OURS))
    about = {"flavour": name, "platform": platform_name, "python": platform.python_version()}
    options = (*COMPRESSION, json.dumps(about))
    note = folder / f"{tree.fingerprint([*chosen, *ours], *options)}.json"
    known = read_note(note)
    if known is not None:
        return known
    packages = _versions(fetched)
    with tempfile.TemporaryDirectory(prefix="building-", dir=folder) as text:
        made, root = Path(text, "flavour"), Path(text, "root")
        kept = folder / f"packages-{name}-{tree.fingerprint(chosen, *options)}.squashfs"
        if not kept.exists():
            inside = json.dumps(about | {"packages": packages}, indent=1, sort_keys=True)
            _packages(chosen, root, made, inside)
            made.rename(kept)
            for other in folder.glob(f"packages-{name}-*.squashfs"):
                if other != kept:
                    other.unlink(missing_ok=True)
        shutil.copyfile(kept, made)
        tree.lay_out(ours, Path(text, "own"))
        tree.compile_all(Path(text, "own"), Path(text, "own"))
        _squash(Path(text, "own"), made)
        return _keep(made, note, name, platform_name, packages)


def read_note(note: Path) -> FlavourFile | None:
    """What an earlier build wrote down, if its file is still there."""
    try:
        value = json.loads(note.read_text("ascii"))
    except FileNotFoundError:
        return None
    if "flavour" not in value:
        return None
    known = FlavourFile(**value | {"path": note.parent / value["path"]})
    there = known.path.is_file() and known.path.stat().st_size == known.size_bytes
    return known if there else None


def _keep(made: Path, note: Path, name: str, platform_name: str, packages: dict[str, str]) -> FlavourFile:
    """Move ``made`` beside ``note`` under its digest, and write down what it is."""
    with made.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    path = note.parent / f"{digest}.squashfs"
    made.chmod(0o644)
    made.rename(path)
    kept = FlavourFile(path, f"sha256:{digest}", path.stat().st_size, name, platform_name, packages)
    draft = made.with_name("note.json")
    draft.write_text(json.dumps(asdict(kept) | {"path": path.name}, indent=1), "ascii")
    draft.rename(note)
    return kept


def every(folder: Path) -> list[FlavourFile]:
    """All that were built in ``folder`` or taken in, the newest first."""
    notes = sorted(folder.glob("*.json"), key=lambda note: note.stat().st_mtime, reverse=True)
    return [found for found in map(read_note, notes) if found is not None]


def latest(folder: Path, name: str, platform_name: str | None = None) -> FlavourFile:
    """The newest one of the flavour, for that platform; raises FlavourNotBuiltError."""
    for found in every(folder):
        if found.flavour == name and platform_name in (None, found.platform):
            return found
    raise FlavourNotBuiltError(name)


def take_in(folder: Path, file: Path) -> FlavourFile:
    """Copy a file that was built elsewhere; raises NotAFlavourError."""
    shown = subprocess.run([UNSQUASHFS, "-cat", str(file), INSIDE], capture_output=True, check=False)
    try:
        inside = strict_json.loads(shown.stdout, max_bytes=1 << 20)
        packages = {str(name): str(version) for name, version in inside["packages"].items()}
        name, platform_name = str(inside["flavour"]), str(inside["platform"])
    except (BadDocumentError, KeyError, TypeError, AttributeError):
        raise NotAFlavourError(file.name) from None
    if name not in FLAVOURS:
        raise NotAFlavourError(f"{file.name} says that it is {name!r}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="taking-in-", dir=folder) as text:
        made = Path(text, "flavour")
        shutil.copyfile(file, made)
        return _keep(made, folder / f"{file.stem[:32]}.json", name, platform_name, packages)


def require_here(name: str, platform_name: str) -> None:
    """Raise OtherProcessorError unless this machine can build the flavour for that platform."""
    if platform_name not in FLAVOURS[name].platforms or platform_name.split("-")[0] != os.uname().machine:
        raise OtherProcessorError(f"{name} for {platform_name} on {os.uname().machine}")


def platform_of(name: str, gpus: str = "cuda") -> str:
    """The platform of this machine, as locks are named."""
    machine = os.uname().machine
    return f"{machine}-{gpus}" if FLAVOURS[name].from_lock else machine


def _versions(fetched: Path | None) -> dict[str, str]:
    found = {name: distribution.version for name, distribution in contents.packages_of(fetched).items()}
    return dict(sorted(found.items()))


def _packages(chosen: list[contents.Entry], root: Path, target: Path, inside: str) -> None:
    tree.lay_out([*chosen, *contents.system_libraries(chosen)], root)
    tree.compile_all(root / contents.STDLIB, root)
    # Read at every start of the interpreter, with -I too; relative to the folder in which it lies.
    (root / contents.SITE / "hdrs.pth").write_text(f"../../../{OURS}\n", "ascii")
    (root / INSIDE).write_text(inside + "\n", "ascii")
    _squash(root, target)
    shutil.rmtree(root)


def _squash(root: Path, target: Path) -> None:
    """Make the image, or append to the one that is there."""
    modes = root.with_name("modes")
    with modes.open("w", encoding="utf-8") as file:
        for path in sorted(root.rglob("*")):
            below = PurePosixPath(path.relative_to(root))
            mode = 0o755 if path.is_dir() else tree.mode_of(below)
            escaped = str(below).replace("\\", "\\\\").replace('"', '\\"')
            file.write(f'"{escaped}" m {mode:o} 0 0\n')
    command = (MKSQUASHFS, str(root), str(target), *COMPRESSION, *SAME_BYTES, *QUIET, "-pf", str(modes))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={"PATH": "/usr/bin:/bin"})
