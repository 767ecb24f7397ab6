"""Locking the packages of a bundle on top of a flavour, and verifying a lock again as its reviewer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hdrs_hpc.catalogue.flavour_packages import HELD
from hdrs_hpc.client import resolving
from hdrs_hpc.client.resolving import Sources
from hdrs_hpc.client.specdraft import WHEELS_FOLDER
from hdrs_hpc.core.errors import NotFoundError, UsageError
from hdrs_hpc.protocol import wheel_lock, wheels
from hdrs_hpc.protocol.wheel_lock import LOCK_NAME, Lock, Wheel

ASKED = ("requirements.in", "pyproject.toml")


class RequirementsMissingError(NotFoundError):
    code = "requirements-missing"
    meaning = "The bundle's folder does not say which packages it needs."
    remedy = (
        "Write their names into requirements.in, one a line, or use a pyproject.toml with `dependencies`."
    )


class FlavourUnlockedError(UsageError):
    code = "flavour-unknown"
    meaning = "There is no such flavour, or it is not locked for this platform."
    remedy = "Give `--flavour` and `--platform` as the message lists them."


@dataclass(frozen=True)
class Locked:
    lock: Lock
    origin: str
    """Where the wheels came from."""
    unpacked: int
    """Bytes that they take on a node."""


def lock(
    folder: Path,
    flavour: str,
    platform: str | None,
    sources: Sources,
    told: Callable[[str], None] = lambda _file: None,
) -> Locked:
    """Write ``requirements.lock`` and fetch the wheels into ``wheels/`` beside it; nothing is written where it fails.

    ``told``: is called with the name of each wheel before it is fetched.
    """
    asked = next((folder / name for name in ASKED if (folder / name).is_file()), None)
    if asked is None:
        raise RequirementsMissingError(where=str(folder))
    platforms = [of for name, of in HELD if name == flavour]
    platform = platform or next(iter(platforms), "")
    if platform not in platforms:
        there = ", ".join(f"{name} on {of}" for name, of in HELD)
        raise FlavourUnlockedError(f"no {flavour} on {platform or 'any platform'}; there is {there}")
    held = HELD[flavour, platform]
    packages = [
        package
        for package in resolving.resolve(asked, held.packages, platform, sources)
        if package.name not in held.packages
    ]
    chosen = [(package, resolving.best(package, platform)) for package in packages]
    target = folder / WHEELS_FOLDER
    target.mkdir(exist_ok=True)
    found = []
    for package, offered in chosen:
        told(offered.file)
        found.append(resolving.fetch(package, offered, target))
    made = Lock(flavour, platform, tuple(sorted(found, key=lambda wheel: wheel.name)))
    wheel_lock.parse(made.to_bytes())
    unpacked = wheels.check(made, lambda wheel: (target / wheel.file).open("rb"), held)
    part = folder / f".{LOCK_NAME}.part"
    part.write_bytes(made.to_bytes())
    part.replace(folder / LOCK_NAME)
    for stale in set(target.glob("*.whl")) - {target / wheel.file for wheel in found}:
        stale.unlink()
    return Locked(made, resolving.origin([offered for _, offered in chosen]), unpacked)


def verify(found: Lock, sources: Sources, told: Callable[[str], None] = lambda _file: None) -> Locked:
    """Fetch every wheel of a lock anew onto this machine, by name and version, and hold it to the lock's hash.

    Raises WheelDigestError where the index has no wheel of that hash.
    """
    held = wheel_lock.held_by(found, found.flavour, HELD)
    lines = [f"{wheel.name}=={wheel.version}" for wheel in found.wheels]
    packages = {
        package.name: package for package in resolving.resolve(lines, {}, found.platform, sources, deep=False)
    }
    with tempfile.TemporaryDirectory(prefix="hdrs-hpc-review-") as name:
        folder, offers = Path(name), []
        for wheel in found.wheels:
            told(wheel.file)
            offers.append(_same(packages.get(wheel.name), wheel))
            came = resolving.fetch(packages[wheel.name], offers[-1], folder)
            if came != wheel:
                raise wheels.WheelDigestError(f"{wheel.file} is another there", where=wheel.name)
        unpacked = wheels.check(found, lambda wheel: (folder / wheel.file).open("rb"), held)
    return Locked(found, resolving.origin(offers), unpacked)


def _same(package: resolving.Package | None, wheel: Wheel) -> resolving.Offered:
    for one in package.offered if package else ():
        if (one.file, one.digest) == (wheel.file, wheel.digest):
            return one
    raise wheels.WheelDigestError(f"the index has no {wheel.file} with the lock's hash", where=wheel.name)
