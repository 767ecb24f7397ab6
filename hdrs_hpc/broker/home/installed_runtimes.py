"""Which node runtime and flavours are installed where: written by ``cluster install``, read before every submission."""

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


class FlavourNotInstalledError(NotFoundError):
    code = "flavour-not-installed"
    meaning = "The flavour that the job runs on was not put on this cluster for this project."
    remedy = "Run `hdrs-hpc cluster install NAME --flavour FLAVOUR`."


def _file(home: BrokerHome) -> Any:
    return home.runtime_dir / "installed.json"


def note_installed(
    home: BrokerHome, cluster: str, project: str, digest: str, flavour: str | None = None
) -> None:
    """Remember that ``digest`` is on the project's scratch of that cluster."""
    known = json.loads(_file(home).read_bytes()) if _file(home).exists() else {}
    write_json(_file(home), known | {_place(cluster, project, flavour): digest})


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
    digest = _installed(home, _place(cluster, project, None))
    if digest is None:
        raise RuntimeNotInstalledError(where=cluster)
    return digest


def installed_flavour(home: BrokerHome, cluster: str, project: str, flavour: str) -> str:
    """Digest of the flavour's file that is on the project's scratch there; raises FlavourNotInstalledError."""
    digest = _installed(home, _place(cluster, project, flavour))
    if digest is None:
        raise FlavourNotInstalledError(flavour, where=cluster)
    return digest


def _place(cluster: str, project: str, flavour: str | None) -> str:
    return f"{cluster}/{project}" + (f"/{flavour}" if flavour else "")


def _installed(home: BrokerHome, place: str) -> str | None:
    known = json.loads(_file(home).read_bytes()) if _file(home).exists() else {}
    return known.get(place)
