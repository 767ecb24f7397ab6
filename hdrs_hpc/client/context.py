"""The context of a spec: ``hdrs-hpc.toml``, found by walking up from the spec as git finds its folder.

It names the documents against which ``spec check`` applies the broker's rules on the laptop, and may pin the
time at which they are applied, so that an example never expires.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from hdrs_hpc.catalogue.isolation import Isolation
from hdrs_hpc.core import clock
from hdrs_hpc.core.capacity import Capacity, NodeKind
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.documents import kinds, owners, trust
from hdrs_hpc.documents.envelope import MAX_ENVELOPE_BYTES, Envelope
from hdrs_hpc.forms.document import Items, Part
from hdrs_hpc.forms.words import Digest, Gres, MemoryMb, Moment, Name, ShortId, SizeBytes, WalltimeS
from hdrs_hpc.policy import grant as grant_policy
from hdrs_hpc.policy.facts import ClusterFacts, Facts
from hdrs_hpc.policy.kept import KeptFact, KeptState
from hdrs_hpc.policy.refusals import OptOutNotStatedError

FILE_NAME = "hdrs-hpc.toml"


class ContextUnusableError(BadDocumentError):
    code = "context-unusable"
    meaning = "The hdrs-hpc.toml above the spec, or a document that it names, can not be used."
    remedy = "Mend the file named, or give `--no-context` to check the spec's form only."


_UNTOLD = {OptOutNotStatedError.code: "whether a custodian said who opted out of every dataset"}


class _Kept(Part):
    job: ShortId
    output: Name
    state: KeptState = "kept"
    size: SizeBytes = 1
    cluster: Name | None = None

    @property
    def fact(self) -> KeptFact:
        size = self.size if self.state == "kept" else 0
        return KeptFact(self.job, self.output, self.state, size, self.cluster)


class _Documents(Part):
    trust_root: str
    root_digest: Digest | None = None
    grant: str
    registrations: Items[str] = ()
    code_approvals: Items[str] = ()
    person: Name
    """Who is going to sign the spec."""
    at: Moment | None = None
    """The moment at which the rules are applied; without it, now."""
    project_state: Literal["APPROVED", "ACTIVE", "CLOSING", "CLOSED"] = "ACTIVE"
    gpu_hours_used: Annotated[float, Field(ge=0, strict=False)] = 0.0
    kept: Items[_Kept] = ()
    """Outputs that jobs of the project kept, or were to keep."""


class _NodeKind(Part):
    nodes: Annotated[int, Field(ge=1)]
    cpus: Annotated[int, Field(ge=1)]
    mem: MemoryMb
    gres: Items[Gres] = ()


class _Cluster(Part):
    name: Name
    isolation: Isolation
    nodes: Annotated[int, Field(ge=1)]
    has: Items[_NodeKind] = ()
    """Its kinds of nodes; none: not known."""
    longest: WalltimeS | None = None
    """Of one workload."""
    whole_nodes: bool = False
    """A job gets whole nodes, and is charged for all of their GPUs."""

    @property
    def capacity(self) -> Capacity | None:
        kinds = tuple(NodeKind(kind.nodes, kind.cpus, kind.mem, kind.gres) for kind in self.has)
        return Capacity(kinds, None, self.longest, self.whole_nodes) if kinds else None


class _ContextFile(Part):
    context: _Documents
    cluster: _Cluster


@dataclass(frozen=True)
class SpecContext:
    """What the rules need besides the spec, each document with its signatures verified."""

    file: Path | None
    """The ``hdrs-hpc.toml``; None where a broker was asked."""
    root: trust.VerifiedRoot
    person: str
    facts: Facts
    untold: Mapping[str, str] = field(default_factory=dict)
    """Reason codes that can't be judged here → what is not known."""


def find(start: Path) -> Path | None:
    """The nearest ``hdrs-hpc.toml`` in the folder of ``start`` or above it."""
    folder = start.resolve().parent
    for candidate in (folder, *folder.parents):
        file = candidate / FILE_NAME
        if file.is_file():
            return file
    return None


def load(file: Path) -> SpecContext:
    """Read a context and verify the documents it names.  Raises ContextUnusableError, or what they break."""
    settings = _read_settings(file)
    named = settings.context
    root = trust.load_root(_read(file, named.trust_root), named.root_digest)
    grant = trust.verify(Envelope.parse(_read(file, named.grant)), kinds.GRANT, root)
    registrations = {}
    for place in named.registrations:
        found = trust.verify(Envelope.parse(_read(file, place)), kinds.DATASET_REGISTRATION, root)
        owners.require_own(root.document, found.people, found.document.owner, found.document.name)
        registrations[found.document.name] = found.document
    owned = {name: registrations[name].owner for name in grant.document.data if name in registrations}
    owners.require_consents(root.document, grant.people, owned)
    approvals = {}
    for place in named.code_approvals:
        approval = trust.verify(Envelope.parse(_read(file, place)), kinds.CODE_APPROVAL, root)
        results = grant_policy.check_code_approval(approval.document, approval.people[0], grant.document)
        if approval.document.project == grant.document.project and all(item.ok for item in results):
            approvals[approval.document.covers] = approval.people[0]
    cluster = settings.cluster
    facts = Facts(
        now=named.at or clock.now(),
        grant=grant.document,
        grant_people=grant.people,
        registrations=registrations,
        cluster=ClusterFacts(cluster.name, cluster.isolation, cluster.nodes, cluster.capacity),
        trust_root=root.document,
        trust_root_digest=root.digest,
        project_state=named.project_state,
        gpu_hours_used=named.gpu_hours_used,
        code_approvals=approvals,
        kept=tuple(item.fact for item in named.kept),
    )
    return SpecContext(file, root, named.person, facts, _UNTOLD)


def _read_settings(file: Path) -> _ContextFile:
    try:
        return _ContextFile.model_validate(tomllib.loads(file.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ContextUnusableError(str(error), where=str(file)) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ContextUnusableError(f"{place}: {first['msg']}", where=str(file)) from None


def _read(file: Path, place: str) -> bytes:
    path = file.parent / place
    try:
        with path.open("rb") as handle:
            return handle.read(MAX_ENVELOPE_BYTES + 1)
    except OSError as error:
        raise ContextUnusableError(f"{place}: {error.strerror}", where=str(file)) from None
