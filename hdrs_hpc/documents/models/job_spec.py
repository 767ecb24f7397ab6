"""The job spec: the researcher's request for one run, as written (a draft) and as signed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from hdrs_hpc.catalogue import outputs
from hdrs_hpc.catalogue.outputs import ClassName
from hdrs_hpc.catalogue.outputs.output_class import Declaration, WrittenDeclaration
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.core.limits import MAX_NODES
from hdrs_hpc.documents.models.grant import DatesOutOfOrderError
from hdrs_hpc.documents.models.selection import Selection
from hdrs_hpc.documents.models.workload import DraftWorkload, Workload, check_uses
from hdrs_hpc.forms.document import BadValueError, Document, Items, Part, class_step, fault
from hdrs_hpc.forms.words import (
    Digest,
    FileRef,
    Gres,
    Line,
    MemoryMb,
    Moment,
    Name,
    Nonce,
    Prose,
    ShortId,
    SizeBytes,
    WalltimeS,
)

MAX_VALIDITY = timedelta(days=31)
_SINCE_BEFORE = (
    "since hdrs-hpc/job-spec/1 a `figure` is an `image`, "
    "and a table declares each column under `columns`, in place of `counts` and `measures`"
)


class OutputClashError(BadDocumentError):
    code = "output-clash"
    meaning = "Two outputs would be written to the same file."
    remedy = "Give each output a path of its own."


class UndeclaredTableError(BadDocumentError):
    code = "output-without-table"
    meaning = "An output that shows a table does not name a declared table as the data it was drawn from."
    remedy = "Declare the table as an output of its own and name it in the drawing's `data`."


class UnpinnedFileError(BadDocumentError):
    code = "file-not-pinned"
    meaning = "A signed spec names a file of an output by its path, which may change, or a draft names one by digest."
    remedy = "Write the path, relative to the spec, and let `hdrs-hpc spec sign` put the digest in its place."


class DataUse(Part):
    """One dataset under the name by which the workload opens it."""

    dataset: Name
    select: Selection = Field(default_factory=dict)
    """Narrows what is granted; a keyword left out keeps the grant's own."""


class KeptArtefact(Part):
    """An artefact of an earlier job, kept in the project."""

    job: ShortId
    output: Name


class _FromOutside(Part):
    """A file that did not come out of the project, such as weights that others trained."""

    source: Line
    """Where it comes from, for whoever asks what a model was made with."""
    licence: Line


class DraftFile(_FromOutside):
    file: Annotated[str, Field(min_length=1, max_length=1000)]
    """Relative to the spec."""


class File(_FromOutside):
    file: FileRef


def _origin(value: Any) -> str:
    told = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return class_step("job" if "job" in told or "output" in told else "file")


_Kept = Annotated[KeptArtefact, Tag(class_step("job"))]
DraftInput = Annotated[_Kept | Annotated[DraftFile, Tag(class_step("file"))], Discriminator(_origin)]
Input = Annotated[_Kept | Annotated[File, Tag(class_step("file"))], Discriminator(_origin)]


def _each_once(causes: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(causes)) != len(causes):
        fault(BadValueError, "name each cause once")
    return causes


class Attempts(Part):
    """New attempts that the broker makes by itself."""

    at_most: Annotated[int, Field(ge=1, le=20)]
    after: Annotated[
        Items[Literal["node-failure", "preemption", "time-limit", "site-drained"]],
        Field(min_length=1),
        AfterValidator(_each_once),
    ]


class Checkpoints(Part):
    """Sealed state that a later attempt of the same job begins from."""

    keep: Annotated[int, Field(ge=1, le=10)]
    max_size: SizeBytes
    """Of one."""


class Curve(Part):
    """A number that is told while the job runs, in coarse steps between two bounds."""

    from_: Annotated[float, Field(strict=False)]
    to: Annotated[float, Field(strict=False)]

    @model_validator(mode="after")
    def _ordered(self) -> Curve:
        if not self.from_ < self.to:
            fault(BadValueError, "a curve lies between a lower and a higher bound")
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
    def gpu_type(self) -> str | None:
        """As the site calls it; None where any will do."""
        parts = self.gres.split(":") if self.gres else []
        return parts[1] if len(parts) == 3 else None


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


def kept_by(spec: JobSpec) -> dict[str, WrittenDeclaration]:
    """Of its outputs, those that stay in the project for later jobs."""
    return {name: output for name, output in written(spec.outputs).items() if output.keep == "project"}


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


def _check_pinned(declared: dict[str, Output], pinned: bool) -> None:
    for name, output in declared.items():
        for field in output.FILES:
            file = getattr(output, field)
            if file is not None and isinstance(file, FileRef) != pinned:
                said = (
                    "by its digest: sign with `spec sign`" if pinned else "by its path, relative to the spec"
                )
                fault(UnpinnedFileError, f"outputs.{name}.{field} names a file {said}")


class _SpecFields(Document):
    project: Name
    name: Name
    purpose: Annotated[Prose, Field(min_length=10, max_length=2000)]
    """Why, in a sentence; custodians and checkers read it."""
    data: Annotated[dict[Name, DataUse], Field(min_length=1, max_length=32)]
    resources: Resources
    attempts: Attempts | None = None
    checkpoints: Checkpoints | None = None
    progress: Annotated[dict[Name, Curve], Field(max_length=8)] = Field(default_factory=dict)
    outputs: Annotated[dict[Name, Output], Field(min_length=1, max_length=200), AfterValidator(_fit_together)]


class JobSpecDraft(_SpecFields):
    """A spec as a researcher writes it in YAML; signing adds what makes it binding."""

    SCHEMA: ClassVar[str] = "hdrs-hpc/job-spec/2"
    SINCE_BEFORE: ClassVar[str] = _SINCE_BEFORE

    inputs: Annotated[dict[Name, DraftInput], Field(max_length=32)] = Field(default_factory=dict)
    workload: DraftWorkload

    @model_validator(mode="after")
    def _paths(self) -> JobSpecDraft:
        _check_pinned(self.outputs, pinned=False)
        check_uses(self)
        return self


class JobSpec(_SpecFields):
    """A spec as it is signed."""

    SCHEMA: ClassVar[str] = "hdrs-hpc/job-spec/2"
    SINCE_BEFORE: ClassVar[str] = _SINCE_BEFORE

    inputs: Annotated[dict[Name, Input], Field(max_length=32)] = Field(default_factory=dict)
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

    @model_validator(mode="after")
    def _digests(self) -> JobSpec:
        _check_pinned(self.outputs, pinned=True)
        check_uses(self)
        return self

    def in_log(self, people: tuple[str, ...]) -> dict[str, Any]:
        return {**super().in_log(people), "submitter": people[0]}
