"""Made-up wheels, built with zipfile: no index and no build tool is needed."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from typing import Any

from hdrs_hpc.protocol.wheel_lock import Lock, Wheel

PURE = "py3-none-any"


def build(
    name: str = "tiny",
    version: str = "1.0",
    files: Mapping[str, bytes] | None = None,
    *,
    tag: str = PURE,
    said: str | None = None,
    requires: tuple[str, ...] = (),
    extra: tuple[tuple[zipfile.ZipInfo, bytes], ...] = (),
) -> tuple[str, bytes]:
    """File name and bytes.  ``said``: the tag in its metadata, where it is another than in the name."""
    under = name.replace("-", "_")
    info = f"{under}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {need}\n" for need in requires)
    inside = {
        **(files if files is not None else {f"{under}.py": b"ANSWER = 42\n"}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {said or tag}\n".encode(),
        f"{info}/RECORD": b"",
    }
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in inside.items():
            archive.writestr(path, data)
        for entry, data in extra:
            archive.writestr(entry, data)
    return f"{under}-{version}-{tag}.whl", target.getvalue()


def row(file: str, raw: bytes, **changes: Any) -> Wheel:
    """The wheel's line of a lock."""
    name, version = file.split("-")[:2]
    told = {
        "name": name.replace("_", "-"),
        "version": version,
        "digest": f"sha256:{hashlib.sha256(raw).hexdigest()}",
        "file": file,
        "size": len(raw),
    }
    return Wheel(**(told | changes))


def lock(*built: tuple[str, bytes], flavour: str = "base", platform: str = "x86_64") -> Lock:
    return Lock(flavour, platform, tuple(sorted((row(*one) for one in built), key=lambda wheel: wheel.name)))
