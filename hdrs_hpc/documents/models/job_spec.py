"""The job spec: the researcher's request for one run, as written (a draft) and as signed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from hdrs_hpc.catalogue import outputs
from hdrs_hpc.catalogue.outputs import ClassName
from hdrs_hpc.catalogue.outputs.output_class import Declaration, WrittenDeclaration
from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.documents.models.document import Document, MissingFieldError, Part, class_step, fault
from hdrs_hpc.documents.models.grant import DatesOutOfOrderError
from hdrs_hpc.documents.models.selection import Selection
from hdrs_hpc.documents.models.words import (
    Digest,
    Gres,
    MemoryMb,
    Moment,
    Name,
    Nonce,
    Prose,
    ShortId,
    Versioned,
    WalltimeS,
)

MAX_VALIDITY = timedelta(days=31)
MAX_PARAMETER_BYTES = 64 * 1024
MAX_NODES = 64
"""As many as one key hand-over reaches."""


class OutputClashError(BadDocumentError):
    code = "output-clash"
    meaning = "Two outputs would be written to the same file."
    remedy = "Give each output a path of its own."


class UndeclaredTableError(BadDocumentError):
    code = "output-without-table"
    meaning = "An output that shows a table does not name a declared table as the data it was drawn from."
    remedy = "Declare the table as an output of its own and name it in the drawing's `data`."


class WorkloadChoiceError(BadDocumentError):
    code = "workload-ambiguous"
    meaning = "A workload is either built in or a bundle with an entry; this one is neither or both."
    remedy = "Give `builtin: cohort-summary@1`, or `bundle: ./folder` with `entry: package.module:function`."


class BadEntryError(BadDocumentError):
    code = "bad-entry"
    meaning = "The entry of a bundle does not name a function in a module."
    remedy = "Write package.module:function, such as `cohort.main:run`."


class ParametersTooLargeError(BadDocumentError):
    code = "parameters-too-large"
    meaning = "The workload's parameters are larger than parameters need to be."
    remedy = "Keep parameters below 64 KiB; put larger content into the bundle."


_ENTRY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)


def _entry(text: str) -> str:
    if len(text) > 200 or not _ENTRY.match(text):
        fault(BadEntryError, "an entry is written package.module:function")
    return text


def _parameters(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(strict_json.dumps(value)) > MAX_PARAMETER_BYTES:
        fault(ParametersTooLargeError, f"parameters may have {MAX_PARAMETER_BYTES} bytes")
    return value


Entry = Annotated[
    str,
    AfterValidator(_entry),
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_.]+:[A-Za-z0-9_]+$"}),
]
Parameters = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=100)], JsonValue], AfterValidator(_parameters)
]


class DataUse(Part):
    """One dataset under the name by which the workload opens it."""

    dataset: Name
    select: Selection = Field(default_factory=dict)
    """Narrows what is granted; a keyword left out keeps the grant's own."""


class InputUse(Part):
    """An artefact of an earlier job, kept in the project."""

    job: ShortId
    output: Name


class BundleRef(Part):
    """A bundle as signed: which exact bytes."""

    digest: Digest
    size: Annotated[int, Field(ge=1, le=1 << 40)]
    """In bytes."""


class _WorkloadFields(Part):
    kind: Literal["dask", "torch", "command"]
    builtin: Versioned | None = None
    entry: Entry | None = None
    parameters: Parameters = Field(default_factory=dict)

    def _check_choice(self, has_bundle: bool) -> None:
        if has_bundle == (self.builtin is not None):
            fault(WorkloadChoiceError, "give either builtin or bundle")
        if has_bundle and self.entry is None:
            fault(MissingFieldError, "a bundle needs an entry, package.module:function")
        if not has_bundle and self.entry is not None:
            fault(WorkloadChoiceError, "a built-in workload has its own entry")


class DraftWorkload(_WorkloadFields):
    bundle: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """Folder of the researcher's code, relative to the spec."""

    @model_validator(mode="after")
    def _one_of(self) -> DraftWorkload:
        self._check_choice(self.bundle is not None)
        return self


class Workload(_WorkloadFields):
    bundle: BundleRef | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Workload:
        self._check_choice(self.bundle is not None)
        return self


class Resources(Part):
    """Slurm's words; memory, CPUs and GPUs are per node, one task a node."""

    nodes: Annotated[int, Field(ge=1, le=MAX_NODES)]
    cpus_per_task: Annotated[int, Field(ge=1, le=4096)]
    mem: MemoryMb
    """MiB per node."""
    gres: Gres | None = None
    time: WalltimeS
    """Seconds."""
    cluster: Name | None = None
    """Where to run; without it the first cluster that the grant names."""

    @property
    def gpus_per_node(self) -> int:
        return int(self.gres.rpartition(":")[2]) if self.gres else 0

    @property
    def gpu_hours(self) -> float:
        return self.gpus_per_node * self.nodes * self.time / 3600


class UnknownOutput(Part):
    """An output of no class that there is: its only fault is its class."""

    model_config = ConfigDict(extra="ignore")

    class_: ClassName


def _tag(value: Any) -> str:
    name = value.get("class") if isinstance(value, dict) else getattr(value, "class_", None)
    return class_step(name if isinstance(name, str) and name in outputs.BY_NAME else "")


if TYPE_CHECKING:
    Output = Declaration
else:
    Output = Annotated[
        Union[
            *(Annotated[row.declaration, Tag(class_step(row.name))] for row in outputs.CLASSES),
            Annotated[SkipJsonSchema[UnknownOutput], Tag(class_step(""))],
        ],
        Discriminator(_tag),
    ]
"""One declared artefact, of any class of the catalogue; what is not declared is never collected."""


def written(declared: Mapping[str, Output]) -> dict[str, WrittenDeclaration]:
    """Of these outputs, those that the workload writes as files."""
    return {name: output for name, output in declared.items() if isinstance(output, WrittenDeclaration)}


def _fit_together(declared: dict[str, Output]) -> dict[str, Output]:
    # Folded, because a file system that ignores case would let one artefact pass for another.
    paths = {name: output.path.casefold() for name, output in written(declared).items()}
    for name, path in paths.items():
        for other, taken in paths.items():
            if other != name and (taken == path or taken.startswith(path + "/")):
                fault(OutputClashError, f"{name} and {other} would be written to the same place")
    for name, output in declared.items():
        needs, shown = outputs.BY_NAME[output.class_].needs, declared.get(output.drawn_from() or "")
        if needs is not None and (shown is None or shown.class_ != needs):
            fault(UndeclaredTableError, f"{name} must name a declared {needs} in its data")
    return declared


class _SpecFields(Document):
    project: Name
    name: Name
    purpose: Annotated[Prose, Field(min_length=10, max_length=2000)]
    """Why, in a sentence; custodians and checkers read it."""
    data: Annotated[dict[Name, DataUse], Field(min_length=1, max_length=32)]
    inputs: Annotated[dict[Name, InputUse], Field(max_length=32)] = Field(default_factory=dict)
    resources: Resources
    outputs: Annotated[dict[Name, Output], Field(min_length=1, max_length=200), AfterValidator(_fit_together)]


class JobSpecDraft(_SpecFields):
    """A spec as a researcher writes it in YAML; signing adds what makes it binding."""

    SCHEMA: ClassVar[str] = "hdrs-hpc/job-spec/1"

    workload: DraftWorkload


class JobSpec(_SpecFields):
    """A spec as it is signed."""

    SCHEMA: ClassVar[str] = "hdrs-hpc/job-spec/1"

    workload: Workload
    audience: Name
    """The broker it is for."""
    nonce: Nonce
    not_before: Moment
    expires: Moment
    trust_root: Digest
    """The trust root that the client knew when it signed."""

    @model_validator(mode="after")
    def _validity(self) -> JobSpec:
        if not self.not_before < self.expires <= self.not_before + MAX_VALIDITY:
            fault(DatesOutOfOrderError, "a spec expires after its not-before, within 31 days")
        return self
