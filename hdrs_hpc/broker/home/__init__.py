"""The broker's home folder: the one place that knows where the data zone keeps each thing.

Every path that can hold patient data is also a row of ``audit/places.py``; a test compares the two.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdrs_hpc.core.errors import NotFoundError, UsageError

OPT_OUT_GRACE_S = 3600.0
LONGEST_OPT_OUT_GRACE_S = 86_400.0
UPLOADS_BYTES = 256 << 30


class BrokerHomeMissingError(NotFoundError):
    code = "broker-home-missing"
    meaning = "The folder is not a broker's home."
    remedy = "Make one with `hdrs-hpc broker init`, or point HDRS_HPC_BROKER_HOME at the right folder."


class OptOutGraceError(UsageError):
    code = "opt-out-grace"
    meaning = "The time that jobs may run on after an opt-out is not from 0 to 86,400 seconds."
    remedy = "Set `opt-out-grace-s` in broker.toml to at most a day, or leave it out for an hour."


MONITORING = ("127.0.0.1", "::1")
"""Who may read metrics where broker.toml says nothing: whoever is on the broker's own machine."""


def _grace(value: Any) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= LONGEST_OPT_OUT_GRACE_S
    ):
        raise OptOutGraceError()
    return float(value)


@dataclass(frozen=True)
class BrokerSettings:
    """``broker.toml``: what the operator of the data zone decides."""

    audience: str
    host: str
    port: int
    tick_s: float
    handover_deadline_s: float
    heartbeat_grace_s: float = 45.0
    """How much longer than a tick the controller may be silent before it counts as stuck."""
    hang_limit_s: float = 300.0
    """How much longer than a tick it may be silent before the process ends itself, to be started again."""
    opt_out_grace_s: float = OPT_OUT_GRACE_S
    """How long an attempt that has its keys may run on when somebody opts out of its data."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    hosts: tuple[str, ...] = ()
    """Names under which people reach the broker, beside ``host``."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses of the proxies in front, whose ``X-Forwarded-For`` is believed; nobody else's is."""
    uploads_bytes: int = UPLOADS_BYTES
    """What all files that researchers uploaded may take on the broker's disk."""
    monitoring: tuple[str, ...] = MONITORING
    """Addresses from which ``/metrics`` may be read."""

    @property
    def beside_walltime_s(self) -> int:
        """What an allocation lasts beside the workload's walltime: unpacking before it, sealing after it."""
        return int(self.handover_deadline_s) + 600

    @property
    def url(self) -> str:
        """Base URL of the API; plain HTTP is possible on loopback only (``broker serve`` checks)."""
        scheme = "https" if self.tls_certificate else "http"
        return f"{scheme}://{self.host}:{self.port}"


@dataclass(frozen=True)
class BrokerHome:
    """Paths below one broker's home (0700)."""

    root: Path

    @classmethod
    def at(cls, path: Path | None = None) -> BrokerHome:
        """The home at ``path``, else ``$HDRS_HPC_BROKER_HOME``, else the XDG state folder."""
        if path is None:
            named = os.environ.get("HDRS_HPC_BROKER_HOME")
            state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
            path = Path(named) if named else Path(state) / "hdrs-hpc" / "broker"
        return cls(path.absolute())

    def require(self) -> BrokerHome:
        if not self.settings_file.is_file():
            raise BrokerHomeMissingError(where=str(self.root))
        return self

    def settings(self) -> BrokerSettings:
        raw = tomllib.loads(self.require().settings_file.read_text())
        tls = raw.get("tls", {})
        return BrokerSettings(
            audience=raw["audience"],
            host=raw.get("host", "127.0.0.1"),
            port=int(raw.get("port", 8443)),
            tick_s=float(raw.get("tick-s", 30.0)),
            handover_deadline_s=float(raw.get("handover-deadline-s", 600.0)),
            heartbeat_grace_s=float(raw.get("heartbeat-grace-s", 45.0)),
            hang_limit_s=float(raw.get("hang-limit-s", 300.0)),
            opt_out_grace_s=_grace(raw.get("opt-out-grace-s", OPT_OUT_GRACE_S)),
            tls_certificate=self.root / tls["certificate"] if "certificate" in tls else None,
            tls_key=self.root / tls["key"] if "key" in tls else None,
            hosts=tuple(raw.get("hosts", ())),
            trusted_proxies=tuple(raw.get("trusted-proxies", ())),
            uploads_bytes=int(raw.get("uploads-gib", UPLOADS_BYTES >> 30)) << 30,
            monitoring=tuple(raw.get("monitoring", MONITORING)),
        )

    @property
    def settings_file(self) -> Path:
        return self.root / "broker.toml"

    @property
    def database(self) -> Path:
        return self.root / "broker.db"

    @property
    def keyd_dir(self) -> Path:
        return self.root / "keyd"

    @property
    def keyd_socket(self) -> Path:
        return self.keyd_dir / "keyd.sock"

    @property
    def clusters_dir(self) -> Path:
        return self.root / "clusters"

    @property
    def runtime_dir(self) -> Path:
        return self.root / "runtime"

    @property
    def wake_socket(self) -> Path:
        """Whoever writes to it wakes the controller."""
        return self.root / "wake.sock"

    @property
    def heartbeats_dir(self) -> Path:
        """Signs of life of the controller's loops: times and process ids."""
        return self.root / "heartbeats"

    @property
    def logs_dir(self) -> Path:
        return self.root / "logs"

    def upload_part(self, upload: str) -> Path:
        """What has come of an upload that is not complete yet."""
        return self.root / "uploads" / upload

    def file(self, digest: str) -> Path:
        """An uploaded file of this digest: code, a wheel, or a file that a spec names."""
        return self.root / "files" / digest.removeprefix("sha256:")

    def inventory(self, digest: str) -> Path:
        """The Parquet inventory of one dataset version; it names files and stays in the data zone."""
        return self.root / "inventories" / f"{digest.removeprefix('sha256:')}.parquet"

    def staging_dir(self, copy: str) -> Path:
        """Journals, progress and result of building one copy."""
        return self.root / "staging" / copy

    def items_map(self, copy: str) -> Path:
        """Which file became which item of a copy; it names files and patients and stays in the data zone."""
        return self.staging_dir(copy) / "items.parquet"

    def selectable_file(self, copy: str) -> Path:
        """What jobs may select the items of a copy by: raw values, sealed under the copy's key."""
        return self.staging_dir(copy) / "selectable.sealed"

    def served_dir(self, attempt: str) -> Path:
        """Result of choosing what one attempt is served."""
        return self.staging_dir(f"served-{attempt}")

    def quarantine_dir(self, attempt: str) -> Path:
        """Sealed outputs of one attempt, as they came, and the collector's result."""
        return self.root / "quarantine" / attempt

    def artefacts_dir(self, job: str) -> Path:
        """Checked and rebuilt artefacts that wait for the reviewers."""
        return self.root / "artefacts" / job

    def released_dir(self, job: str) -> Path:
        """Released artefacts and their records, for the researcher to fetch."""
        return self.root / "released" / job

    def certificate_file(self, project: str) -> Path:
        return self.root / "certificates" / f"{project}.json"

    @property
    def opt_outs_dir(self) -> Path:
        """Files of opted-out patients' ids: plaintext of the data zone, hashed under keys and never listed."""
        return self.root / "opt-outs"

    def opt_out_ids_file(self, digest: str) -> Path:
        """The ids that one signed opt-out change adds or removes."""
        return self.opt_outs_dir / f"{digest.removeprefix('sha256:')}.json"

    def cohort_file(self, digest: str) -> Path:
        """The list of patients with this digest, put there by the custodian; one identifier a line."""
        return self.root / "cohorts" / f"{digest.removeprefix('sha256:')}.txt"

    def make_folders(self) -> None:
        """Create the home's folders, 0700 each."""
        names = (
            "keyd",
            "clusters",
            "runtime",
            "logs",
            "inventories",
            "staging",
            "quarantine",
            "cohorts",
            "heartbeats",
            "uploads",
            "files",
        )
        for name in ("", *names, "opt-outs", "artefacts", "released", "certificates"):
            (self.root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
