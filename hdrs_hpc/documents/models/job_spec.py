"""The job spec: the researcher's request for one run, as written (a draft) and as signed."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue, WithJsonSchema, model_validator

from hdrs_hpc.core import strict_json
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.documents.models.document import BadValueError, Document, Items, MissingFieldError, Part, fault
from hdrs_hpc.documents.models.grant import DatesOutOfOrderError, Keep, OutputClass
from hdrs_hpc.documents.models.selection import Selection
from hdrs_hpc.documents.models.words import (
    Digest,
    Gres,
    Line,
    MemoryMb,
    Moment,
    Name,
    Nonce,
    Prose,
    ShortId,
    SizeBytes,
    Versioned,
    WalltimeS,
    size_text,
)

MAX_VALIDITY = timedelta(days=31)
MAX_PARAMETER_BYTES = 64 * 1024
MAX_NODES = 64
"""As many as one key hand-over reaches."""
MAX_ARTEFACT_BYTES: dict[str, int] = {"table": 8 << 20, "figure": 64 << 20, "metrics": 64 << 10}
"""What the output check takes of a class; weights are not checked by this version."""
SUFFIXES: dict[str, tuple[str, ...]] = {
    "table": (".csv",),
    "figure": (".png",),
    "metrics": (".json",),
    "weights": (".safetensors",),
}


class BadOutputPathError(BadDocumentError):
    code = "output-path-refused"
    meaning = "An output's path leaves the outputs folder, hides, or is not plain."
    remedy = "Use a relative path of letters, digits, - _ . such as `tables/cohort.csv`, without `..`."


class WrongSuffixError(BadDocumentError):
    code = "output-suffix"
    meaning = "An output's file name does not end as its class requires."
    remedy = "Tables end in .csv, figures in .png, metrics in .json, weights in .safetensors."


class OutputClashError(BadDocumentError):
    code = "output-clash"
    meaning = "Two outputs would be written to the same file."
    remedy = "Give each output a path of its own."


class OutputSizeError(BadDocumentError):
    code = "output-size-limit"
    meaning = "A table, figure or metrics file declares more than the output check takes."
    remedy = (
        "Declare at most 8MiB for a table, 64KiB for metrics, 64MiB for a figure; summarise before writing."
    )


class UndeclaredDataError(BadDocumentError):
    code = "figure-without-data"
    meaning = "A figure does not name a declared table as the data it was drawn from."
    remedy = "Declare the table as an output of its own and name it in the figure's `data`."


class CountsMisplacedError(BadDocumentError):
    code = "counts-misplaced"
    meaning = "`counts` and `measures` name numbers of a table or metrics; other classes have none, and none is both."
    remedy = "Move them to the table or metrics that hold them, each number under one of the two."


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


_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")
_ENTRY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)


def _output_path(text: str) -> str:
    parts = text.split("/")
    if not 1 <= len(parts) <= 5 or not all(_PATH.match(part) for part in parts):
        fault(BadOutputPathError, "an output's path is relative, plain and without `..`")
    return text


def _entry(text: str) -> str:
    if len(text) > 200 or not _ENTRY.match(text):
        fault(BadEntryError, "an entry is written package.module:function")
    return text


def _parameters(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(strict_json.dumps(value)) > MAX_PARAMETER_BYTES:
        fault(ParametersTooLargeError, f"parameters may have {MAX_PARAMETER_BYTES} bytes")
    return value


OutputPath = Annotated[
    str, AfterValidator(_output_path), WithJsonSchema({"type": "string", "maxLength": 500})
]
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


class Output(Part):
    """One declared artefact; what is not declared is never collected."""

    class_: OutputClass
    path: OutputPath
    counts: Annotated[Items[Line], Field(min_length=1, max_length=200)] | None = None
    """Columns of a table, or names of metrics, that count people or things of the inputs."""
    measures: Annotated[Items[Line], Field(min_length=1, max_length=200)] | None = None
    """Columns or metrics whose whole numbers measure something and count nothing; ``*_mm`` names all that end so."""
    data: Name | None = None
    """The table a figure was drawn from."""
    keep: Keep = "release"
    max_size: SizeBytes
    """In bytes."""

    @model_validator(mode="after")
    def _fits_class(self) -> Output:
        if PurePosixPath(self.path).suffix not in SUFFIXES[self.class_]:
            fault(WrongSuffixError, f"a {self.class_} ends in {' or '.join(SUFFIXES[self.class_])}")
        if (self.counts or self.measures) and self.class_ not in ("table", "metrics"):
            fault(CountsMisplacedError, f"a {self.class_} has no counts or measures")
        if set(self.counts or ()) & set(self.measures or ()):
            fault(CountsMisplacedError, "a number is a count or a measure, not both")
        most = MAX_ARTEFACT_BYTES.get(self.class_)
        if most is not None and self.max_size > most:
            fault(OutputSizeError, f"a {self.class_} may declare up to {size_text(most)}")
        if self.data is not None and self.class_ != "figure":
            fault(BadValueError, "only a figure names the table it was drawn from")
        return self


def _fit_together(outputs: dict[str, Output]) -> dict[str, Output]:
    # Folded, because a file system that ignores case would let one artefact pass for another.
    paths = {name: output.path.casefold() for name, output in outputs.items()}
    for name, path in paths.items():
        for other, taken in paths.items():
            if other != name and (taken == path or taken.startswith(path + "/")):
                fault(OutputClashError, f"{name} and {other} would be written to the same place")
    for name, output in outputs.items():
        table = outputs.get(output.data) if output.data is not None else None
        if output.class_ == "figure" and (table is None or table.class_ != "table"):
            fault(UndeclaredDataError, f"the figure {name} must name a declared table in its data")
    return outputs


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
