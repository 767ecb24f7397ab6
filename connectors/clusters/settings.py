"""What a site's admin writes about a cluster: one TOML file, checked strictly, all faults told at once.

::

    name = "isambard-ai"
    type = "slurm"
    isolation = "sandboxed"
    node-tmp = "/tmp"
    max-nodes = 8

    [ssh]                                     # leave out to run Slurm's commands on this machine
    host = "login.example.ac.uk"
    port = 22
    host-key = "ssh-ed25519 AAAA..."
    identity = "/etc/hdrs-hpc/site_key"

    [slurm]
    bin = "/usr/bin"
    partition = "gpu"

    [projects.lung-fm]
    user = "hdrs-p1"
    account = "lung-fm"
    scratch = "/scratch/hdrs-p1"
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from hdrs_hpc.catalogue.isolation import GivenIsolation
from hdrs_hpc.core.errors import BadDocumentError, NotFoundError
from hdrs_hpc.sealing.objects import OBJECT_STORES, usual_store

MAX_SETTINGS_BYTES = 256 * 1024

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
SitePath = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/+@-]{1,400}$")]
"""An absolute path on the site; no spaces or quotes, since it ends in batch scripts."""
SlurmWord = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
UnixUser = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9._-]{0,31}$")]
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.:-]{0,252}$")]
HostKey = Annotated[
    str, StringConstraints(pattern=r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/=]+$")
]


class ClusterSettingsError(BadDocumentError):
    code = "cluster-settings-invalid"
    meaning = "The cluster's settings can't be used as they are."
    remedy = "Mend the lines named; docs/hpc-admin.md shows a complete file."


class ProjectNotOnClusterError(NotFoundError):
    code = "project-not-on-cluster"
    meaning = "The cluster's settings name no account for this project."
    remedy = "Have the site make an account, then add [projects.<project>] to the cluster's settings."


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=lambda field: field.replace("_", "-"),
        validate_by_name=True,
    )


class LocalSettings(_Table):
    root: SitePath
    """Where jobs and, unless a project says otherwise, scratch lie."""


class SshSettings(_Table):
    host: HostName
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    host_key: HostKey
    identity: SitePath
    """The broker's private key, without a passphrase, readable by the broker only."""
    connect_timeout_s: Annotated[int, Field(ge=1, le=300)] = 15
    read_timeout_s: Annotated[int, Field(ge=5, le=3600)] = 60


class SlurmSettings(_Table):
    bin: SitePath = "/usr/bin"
    conf: SitePath | None = None
    """``SLURM_CONF`` for the commands, where the site's own default is not meant."""
    partition: SlurmWord | None = None
    qos: SlurmWord | None = None
    lookback_days: Annotated[int, Field(ge=1, le=400)] = 30
    """How far back accounting is searched for a job's name; longer than any attempt lives."""


class ProjectAccount(_Table):
    user: UnixUser | None = None
    account: SlurmWord | None = None
    scratch: SitePath | None = None


def _known_store(name: str) -> str:
    if name not in OBJECT_STORES:
        raise ValueError(f"an object store is one of {', '.join(OBJECT_STORES)}")
    return name


class ClusterSettings(_Table):
    name: Name
    type: Literal["local", "slurm"]
    isolation: GivenIsolation
    node_tmp: SitePath = "/tmp"  # noqa: S108  (the nodes' own; the agent makes a 0700 folder in it)
    max_nodes: Annotated[int, Field(ge=1, le=4096)] = 1
    object_store: Annotated[str, AfterValidator(_known_store)] | None = None
    """By which the broker moves sealed objects (:data:`OBJECT_STORES`); None: SFTP with [ssh], else a folder here."""
    local: LocalSettings | None = None
    ssh: SshSettings | None = None
    slurm: SlurmSettings | None = None
    projects: dict[Name, ProjectAccount] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        if self.type == "local":
            if self.local is None or self.ssh or self.slurm:
                raise ValueError("a local cluster has [local], and neither [ssh] nor [slurm]")
            if self.max_nodes != 1:
                raise ValueError("a local cluster has one node")
        elif self.slurm is None or self.local:
            raise ValueError("a slurm cluster has [slurm], [ssh] if it is elsewhere, and no [local]")
        else:
            for project, account in self.projects.items():
                if account.scratch is None or (self.ssh and account.user is None):
                    raise ValueError(f"[projects.{project}] needs scratch and user")
        if OBJECT_STORES[self.store].needs_ssh and self.ssh is None:
            raise ValueError(f"object-store {self.store} needs [ssh]")
        self._check_boundary()
        return self

    @property
    def store(self) -> str:
        """The row of :data:`OBJECT_STORES` by which this cluster's objects are reached."""
        return self.object_store or usual_store(self.ssh is not None)

    def _check_boundary(self) -> None:
        """The project boundary is the UNIX account: two projects in one could read each other's jobs."""
        for what in ("user", "scratch"):
            values = [getattr(account, what) for account in self.projects.values()]
            given = [value for value in values if value is not None]
            if len(given) != len(set(given)):
                raise ValueError(f"two projects share one {what}; each needs its own")

    @classmethod
    def from_toml(cls, raw: bytes) -> ClusterSettings:
        """Parse and check; raises ClusterSettingsError naming every fault."""
        if len(raw) > MAX_SETTINGS_BYTES:
            raise ClusterSettingsError(f"{len(raw)} bytes where {MAX_SETTINGS_BYTES} are allowed")
        try:
            value: dict[str, Any] = tomllib.loads(raw.decode("utf-8"))
        except UnicodeDecodeError:
            raise ClusterSettingsError("not UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            raise ClusterSettingsError(str(error)) from None
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise ClusterSettingsError("; ".join(_faults(error))) from None

    @classmethod
    def load(cls, path: Path) -> ClusterSettings:
        """Read one file; raises ClusterSettingsError, with the file's name as the place."""
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ClusterSettingsError(f"can't be read: {error.strerror}", where=path.name) from None
        try:
            return cls.from_toml(raw)
        except ClusterSettingsError as error:
            error.where = path.name
            raise

    def account_of(self, project: str) -> ProjectAccount:
        """The project's account.  A local cluster takes every project; it has one account anyway."""
        account = self.projects.get(project)
        if account is not None:
            return account
        if self.type == "local":
            return ProjectAccount()
        raise ProjectNotOnClusterError(f"{project} has no account on {self.name}")


def _faults(error: ValidationError) -> list[str]:
    faults = []
    for fault in error.errors(include_url=False, include_input=False):
        place = ".".join(str(part) for part in fault["loc"])
        faults.append(f"{place}: {fault['msg']}" if place else fault["msg"])
    return faults
