"""``requirements.lock`` of a bundle: the wheels that its code brings along, by name, version, hash, file and size.

It is part of the bundle, has no address in it, and is written in one way only, so that the same wheels are the same
digest.  pip reads it too.  Client, broker and node read it by the same rules; names and platforms are judged here, from
names alone, before anything is fetched.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from hdrs_hpc.core.errors import BadDocumentError

LOCK_NAME = "requirements.lock"
PYTHON = (3, 13)
"""Of every flavour's interpreter."""
GLIBC = (2, 28)
"""The oldest that nodes have: wheels that need a newer one do not start everywhere."""
MAX_LOCK_BYTES = 256 << 10
MAX_WHEELS = 500
MAX_WHEEL_BYTES = 4 << 30
MAX_WHEELS_BYTES = 16 << 30

_HEAD = re.compile(
    r"# hdrs-hpc wheels 1: flavour ([a-z0-9-]{1,40}), platform ([a-z0-9_-]{1,40}), python 3\.13"
)
_LINE = re.compile(
    r"([a-z0-9]+(?:-[a-z0-9]+)*)==([A-Za-z0-9.!+_]{1,80}) --hash=(sha256:[0-9a-f]{64})"
    r" # (\S{1,200}) ([1-9][0-9]{0,12})",
    re.ASCII,
)
_FILE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.]*)-(?P<version>[A-Za-z0-9_.!+]+)(-[0-9][A-Za-z0-9_.]*)?"
    r"-(?P<python>[a-z0-9_.]+)-(?P<abi>[a-z0-9_.]+)-(?P<platform>[a-z0-9_.]+)\.whl",
    re.ASCII,
)
_MANYLINUX = re.compile(r"manylinux_([0-9]+)_([0-9]+)_(.+)")
_OLD_MANYLINUX = ("manylinux1", "manylinux2010", "manylinux2014")


class LockMalformedError(BadDocumentError):
    code = "wheels-lock-malformed"
    meaning = "requirements.lock of the bundle is not as `hdrs-hpc bundle lock` writes it."
    remedy = "Write what you need into requirements.in, and run `hdrs-hpc bundle lock` on the folder."


class LockDigestError(BadDocumentError):
    code = "wheels-lock-mismatch"
    meaning = "The wheels that the spec names are not those of the bundle's requirements.lock."
    remedy = "Sign the spec again after `hdrs-hpc bundle lock`."


class NotAWheelError(BadDocumentError):
    code = "wheel-not-built"
    meaning = "A package comes as source, or under a name that no wheel has; nothing is built on a node."
    remedy = "Choose a version that has wheels, or build a wheel of it yourself and lock with `--find-links`."


class WheelPlatformError(BadDocumentError):
    code = "wheel-other-platform"
    meaning = "A wheel is for another Python, another processor, or a newer Linux than the nodes have."
    remedy = "Lock for the platform of the nodes (`--platform`), or choose a version that has a wheel for it."


class WheelInFlavourError(BadDocumentError):
    code = "wheel-in-flavour"
    meaning = "A wheel is of a package that the flavour holds already; it would never be imported."
    remedy = "Leave it out; `hdrs-hpc bundle lock` leaves out what the flavour holds, in its versions."


class WheelsTooLargeError(BadDocumentError):
    code = "wheels-too-large"
    meaning = (
        "Wheels are at most 500, of 4 GiB each and 16 GiB together, unpacked too, in at most 200,000 files."
    )
    remedy = "Bring less: data and weights are `inputs` of the spec."


class LockFlavourError(BadDocumentError):
    code = "wheels-other-flavour"
    meaning = (
        "The wheels were locked for another flavour than the workload runs on, or for none that there is."
    )
    remedy = "Run `hdrs-hpc bundle lock` with the flavour that the spec names."


class Held(Protocol):
    """What a flavour holds: distributions by normalised name, and the names that are imported."""

    @property
    def packages(self) -> Collection[str]: ...
    @property
    def modules(self) -> Collection[str]: ...


@dataclass(frozen=True)
class Wheel:
    name: str
    """Normalised as in PEP 503."""
    version: str
    digest: str
    file: str
    size: int


@dataclass(frozen=True)
class Lock:
    flavour: str
    platform: str
    """Such as ``x86_64-cuda``; the processor stands before the first hyphen."""
    wheels: tuple[Wheel, ...]

    @property
    def size(self) -> int:
        """Of all wheels, in bytes."""
        return sum(wheel.size for wheel in self.wheels)

    def to_bytes(self) -> bytes:
        lines = [f"# hdrs-hpc wheels 1: flavour {self.flavour}, platform {self.platform}, python 3.13"]
        lines += [
            f"{wheel.name}=={wheel.version} --hash={wheel.digest} # {wheel.file} {wheel.size}"
            for wheel in sorted(self.wheels, key=lambda wheel: wheel.name)
        ]
        return ("\n".join(lines) + "\n").encode("ascii")

    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.to_bytes()).hexdigest()}"


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse(raw: bytes) -> Lock:
    """A lock, each wheel of which is one by its name and fits the platform.  Raises an error of this module."""
    if len(raw) > MAX_LOCK_BYTES:
        raise LockMalformedError("it is longer than 256 KiB")
    try:
        head, *lines = raw.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise LockMalformedError("it is not plain ASCII") from None
    first = _HEAD.fullmatch(head)
    if first is None or lines[-1:] != [""]:
        raise LockMalformedError("`bundle lock` did not write it")
    wheels = []
    for number, line in enumerate(lines[:-1], 2):
        found = _LINE.fullmatch(line)
        if found is None:
            raise LockMalformedError(
                "not a wheel's name, version, hash, file and size", where=f"line {number}"
            )
        wheels.append(Wheel(found[1], found[2], found[3], found[4], int(found[5])))
    lock = Lock(first[1], first[2], tuple(wheels))
    if lock.to_bytes() != raw or len({wheel.name for wheel in wheels}) != len(wheels):
        raise LockMalformedError("its lines are not sorted, or a package stands there twice")
    if len(wheels) > MAX_WHEELS or lock.size > MAX_WHEELS_BYTES:
        raise WheelsTooLargeError()
    for wheel in wheels:
        check_name(wheel, lock.platform)
    return lock


def of_bundle(files: Mapping[str, bytes], digest: str | None) -> Lock | None:
    """The lock of a checked bundle, as a spec names it; None where neither has any wheels.  Raises LockDigestError."""
    lock = found_in(files)
    if (None if lock is None else lock.digest()) != digest:
        raise LockDigestError()
    return lock


def found_in(files: Mapping[str, bytes]) -> Lock | None:
    """The lock of a checked bundle; None where it has no wheels."""
    lock = parse(files[LOCK_NAME]) if LOCK_NAME in files else None
    return lock if lock is not None and lock.wheels else None


def held_by[H: Held](lock: Lock, flavour: str, table: Mapping[tuple[str, str], H]) -> H:
    """What the lock's flavour holds on its platform, which must be the flavour that the workload runs on."""
    if lock.flavour != flavour or (lock.flavour, lock.platform) not in table:
        raise LockFlavourError(
            f"the lock is for {lock.flavour} on {lock.platform}, the workload runs on {flavour}"
        )
    return table[lock.flavour, lock.platform]


def check_name(wheel: Wheel, platform: str) -> None:
    """By its file name alone: a wheel, of this package and version, for this platform."""
    found = _FILE.fullmatch(wheel.file)
    if found is None:
        raise NotAWheelError(f"{wheel.file[:100]} is no wheel", where=wheel.name)
    if normal(found["name"]) != wheel.name or not _same_version(found["version"], wheel.version):
        raise NotAWheelError(f"{wheel.file[:100]} is not {wheel.name} {wheel.version}", where=wheel.name)
    if wheel.size > MAX_WHEEL_BYTES:
        raise WheelsTooLargeError(where=wheel.name)
    if fit(wheel.file, platform) is None:
        raise WheelPlatformError(f"{wheel.file[:100]} is not for Python 3.13 on {platform}", where=wheel.name)


def check_held(lock: Lock, held: Held) -> None:
    """None of the wheels is a package of the flavour again."""
    for wheel in lock.wheels:
        if wheel.name in held.packages:
            raise WheelInFlavourError(f"{wheel.name} is in {lock.flavour}", where=wheel.name)


def fit(file: str, platform: str) -> int | None:
    """How well a wheel's name fits a platform: the higher the more particular; None where it does not fit."""
    found = _FILE.fullmatch(file)
    if found is None:
        return None
    machine = platform.split("-")[0]
    scores = [
        score
        for python in found["python"].split(".")
        for abi in found["abi"].split(".")
        for system in found["platform"].split(".")
        if (score := _score(python, abi, system, machine)) is not None
    ]
    return max(scores, default=None)


def fits_tag(tag: str, platform: str) -> bool:
    """Whether a tag of a wheel's own metadata, such as ``cp313-cp313-manylinux_2_17_x86_64``, fits a platform."""
    parts = tag.split("-")
    return len(parts) == 3 and _score(parts[0], parts[1], parts[2], platform.split("-")[0]) is not None


def _score(python: str, abi: str, system: str, machine: str) -> int | None:
    own = 0 if system == "any" else 100 if _runs_on(system, machine) else None
    version = re.fullmatch(r"(py|cp)3([0-9]*)", python)
    if own is None or version is None or int(version[2] or 0) > PYTHON[1]:
        return None
    exact = version[2] == str(PYTHON[1])
    if version[1] == "cp" and abi == "cp313" and exact:
        return own + 30
    if version[1] == "cp" and abi == "abi3":
        return own + 20
    if abi == "none" and (version[1] == "py" or exact):
        return own + 10
    return None


def _runs_on(system: str, machine: str) -> bool:
    if system in {f"{old}_{machine}" for old in _OLD_MANYLINUX} | {f"linux_{machine}"}:
        return True
    found = _MANYLINUX.fullmatch(system)
    return found is not None and (int(found[1]), int(found[2])) <= GLIBC and found[3] == machine


def _same_version(in_file: str, told: str) -> bool:
    """File names write ``-`` of a version as ``_``."""
    return in_file.replace("_", "-").lower() == told.replace("_", "-").lower()
