"""Finding and fetching wheels on a person's own machine: uv resolves, hashes decide, nothing is built or installed.

The only place from which an index of packages is asked.  Addresses end here: neither the lock nor any signed document
has one, but for what a reviewer says of where the own machine looked.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import httpx

from hdrs_hpc.core.errors import BadDocumentError, NotFoundError, SiteError
from hdrs_hpc.protocol import wheel_lock
from hdrs_hpc.protocol.wheel_lock import (
    GLIBC,
    MAX_WHEEL_BYTES,
    PYTHON,
    NotAWheelError,
    Wheel,
    WheelPlatformError,
)
from hdrs_hpc.protocol.wheels import WheelDigestError

RESOLVE_S = 600
LOCAL = "local files"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class UvMissingError(NotFoundError):
    code = "uv-missing"
    meaning = "uv, which resolves packages, is not on this machine."
    remedy = "Install it: `pip install uv`, or see https://docs.astral.sh/uv/."


class ResolveError(BadDocumentError):
    code = "packages-unresolved"
    meaning = "No set of wheels satisfies what the bundle asks for on top of the flavour."
    remedy = "Read what uv says; loosen a version, or choose one that has wheels and goes with the flavour's versions."


class WheelFetchError(SiteError):
    code = "wheel-not-fetched"
    meaning = "The index did not give out a wheel."
    remedy = "Try again; wheels that came are kept."


@dataclass(frozen=True)
class Sources:
    """Where packages are looked for: the options of uv, as typed."""

    index_url: str | None = None
    find_links: tuple[str, ...] = ()
    no_index: bool = False

    def options(self) -> list[str]:
        index = ["--index-url", self.index_url] if self.index_url else []
        links = [word for place in self.find_links for word in ("--find-links", place)]
        return [*index, *links, *(["--no-index"] if self.no_index else [])]


@dataclass(frozen=True)
class Offered:
    """A wheel that an index or a folder offers: ``place`` is an address or a path."""

    file: str
    digest: str
    place: str


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    offered: tuple[Offered, ...]


def resolve(
    asked: Path | Sequence[str],
    constraints: Mapping[str, str],
    platform: str,
    sources: Sources,
    *,
    deep: bool = True,
) -> list[Package]:
    """Every package that ``asked`` (a file, or lines) needs, with the wheels that there are of it.

    ``constraints``: versions that are fixed.  ``deep``: with what packages need in turn.  Raises UvMissingError,
    ResolveError.
    """
    uv = shutil.which("uv")
    if uv is None:
        raise UvMissingError()
    with tempfile.TemporaryDirectory(prefix="hdrs-hpc-lock-") as name:
        folder = Path(name)
        (folder / "fixed.txt").write_text("".join(f"{key}=={value}\n" for key, value in constraints.items()))
        if not isinstance(asked, Path):
            (folder / "asked.in").write_text("".join(f"{line}\n" for line in asked))
            asked = folder / "asked.in"
        command = [
            *(
                uv,
                "pip",
                "compile",
                str(asked.absolute()),
                "--quiet",
                "--no-progress",
                "--format",
                "pylock.toml",
            ),
            *("--generate-hashes", "--only-binary", ":all:", "--python-version", f"{PYTHON[0]}.{PYTHON[1]}"),
            *("--python-platform", f"{platform.split('-')[0]}-manylinux_{GLIBC[0]}_{GLIBC[1]}"),
            *("--constraint", str(folder / "fixed.txt"), "--output-file", str(folder / "pylock.toml")),
            *sources.options(),
            *([] if deep else ["--no-deps"]),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RESOLVE_S)
        except subprocess.TimeoutExpired:
            raise WheelFetchError(f"uv did not end within {RESOLVE_S} s") from None
        if done.returncode != 0:
            raise ResolveError(done.stderr.strip()[-2000:] or "uv gave no reason")
        told = tomllib.loads((folder / "pylock.toml").read_text("utf-8"))
        return [_package(item, folder) for item in told.get("packages", ())]


def _package(item: Mapping[str, Any], folder: Path) -> Package:
    name = wheel_lock.normal(str(item["name"]))
    if "wheels" not in item or "version" not in item:
        raise NotAWheelError(f"there is no wheel of {name}", where=name)
    return Package(name, str(item["version"]), tuple(_offered(wheel, folder) for wheel in item["wheels"]))


def _offered(wheel: Mapping[str, Any], folder: Path) -> Offered:
    place = str(wheel.get("url") or wheel["path"])
    if place.startswith("file://"):
        place = url2pathname(urlsplit(place).path)
    elif "url" not in wheel:
        place = str(folder / place)
    file = str(wheel.get("name") or unquote(urlsplit(place).path).rpartition("/")[2])
    return Offered(file, f"sha256:{wheel['hashes']['sha256']}", place)


def best(package: Package, platform: str) -> Offered:
    """The wheel that fits a platform most particularly; raises WheelPlatformError."""
    fits = [
        (fit, one.file, one)
        for one in package.offered
        if (fit := wheel_lock.fit(one.file, platform)) is not None
    ]
    if not fits:
        raise WheelPlatformError(
            f"{package.name} {package.version} has none for {platform}", where=package.name
        )
    return max(fits, key=lambda found: found[:2])[2]


def fetch(package: Package, offered: Offered, folder: Path) -> Wheel:
    """Bring a wheel into ``folder``, unless it is there; believed only by its hash.

    Raises WheelDigestError, WheelFetchError, NotAWheelError.
    """
    if "/" in offered.file or not offered.file.endswith(".whl"):
        raise NotAWheelError(f"{offered.file[:100]} is no wheel", where=package.name)
    target = folder / offered.file
    if not target.is_file() or _hashed(target)[0] != offered.digest:
        part = target.with_suffix(".part")
        try:
            _bring(offered, part)
            if _hashed(part)[0] != offered.digest:
                raise WheelDigestError(f"{offered.file[:100]} came with other bytes", where=package.name)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    return Wheel(package.name, package.version, offered.digest, offered.file, _hashed(target)[1])


def _bring(offered: Offered, target: Path) -> None:
    address = urlsplit(offered.place)
    if not address.scheme:
        shutil.copyfile(offered.place, target)
        return
    if address.scheme != "https" and address.hostname not in _LOOPBACK:
        raise WheelFetchError(f"{offered.file[:100]} would come without TLS")
    try:
        with (
            httpx.stream("GET", offered.place, follow_redirects=True, timeout=60) as answer,
            target.open("wb") as file,
        ):
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                file.write(piece)
                if file.tell() > MAX_WHEEL_BYTES:
                    raise WheelFetchError(f"{offered.file[:100]} does not end")
    except httpx.HTTPError as error:
        raise WheelFetchError(f"{offered.file[:100]}: {type(error).__name__}") from None


def _hashed(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}", file.tell()


def origin(offered: Sequence[Offered]) -> str:
    """Where wheels came from, in a word for people: hosts, or local files."""
    hosts = sorted({urlsplit(one.place).netloc.rpartition("@")[2] or LOCAL for one in offered})
    return ", ".join(hosts)[:500] or LOCAL
