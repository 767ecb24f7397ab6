"""Which node runtime is installed where: written by ``cluster install``, read before every submission."""

from __future__ import annotations

import json
from typing import Any

from hdrs_hpc.broker.home import BrokerHome
from hdrs_hpc.core.durable_files import write_json
from hdrs_hpc.core.errors import NotFoundError


class RuntimeNotInstalledError(NotFoundError):
    code = "runtime-not-installed"
    meaning = "The pinned node runtime was not put on this cluster for this project."
    remedy = "Run `hdrs-hpc cluster install NAME`."


def _file(home: BrokerHome) -> Any:
    return home.runtime_dir / "installed.json"


def note_installed(home: BrokerHome, cluster: str, project: str, digest: str) -> None:
    """Remember that ``digest`` is on the project's scratch of that cluster."""
    known = json.loads(_file(home).read_bytes()) if _file(home).exists() else {}
    write_json(_file(home), known | {f"{cluster}/{project}": digest})


def forget_installed(home: BrokerHome, cluster: str, digest: str) -> None:
    """No jobs on that cluster are to run ``digest`` any more: projects that did have none until the next install."""
    known = json.loads(_file(home).read_bytes()) if _file(home).exists() else {}
    left = {
        place: pinned
        for place, pinned in known.items()
        if pinned != digest or place.split("/", 1)[0] != cluster
    }
    if left != known:
        write_json(_file(home), left)


def installed_runtime(home: BrokerHome, cluster: str, project: str) -> str:
    """Digest of the runtime that jobs of the project are to run on that cluster."""
    known = json.loads(_file(home).read_bytes()) if _file(home).exists() else {}
    digest = known.get(f"{cluster}/{project}")
    if digest is None:
        raise RuntimeNotInstalledError(where=cluster)
    return str(digest)
