"""The ``workload:`` part of a job spec: one model for each kind of the catalogue, as written and as signed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from hdrs_hpc.catalogue import flavours, workloads
from hdrs_hpc.catalogue.workloads.builtin import TO_BEGIN_WITH
from hdrs_hpc.catalogue.workloads.kind import Kind
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.core.limits import MAX_PARAMETER_BYTES
from hdrs_hpc.forms.document import BadValueError, Items, Part, class_step, fault
from hdrs_hpc.forms.words import Digest

MAX_SWEEP_JOBS = 256


class WorkloadChoiceError(BadDocumentError):
    code = "workload-ambiguous"
    meaning = "A workload is either built in or a bundle with an entry; this one is neither or both."
    remedy = f"Give `builtin: {TO_BEGIN_WITH}`, or `bundle: ./folder` with `entry: package.module:function`."


class BadEntryError(BadDocumentError):
    code = "bad-entry"
    meaning = "The entry of a bundle does not name a function in a module."
    remedy = "Write package.module:function, such as `cohort.main:run`."


class BadProgramError(BadDocumentError):
    code = "bad-program"
    meaning = "A command runs a file of its bundle, which can be read beforehand, and nothing else."
    remedy = "Write `run: [bin/mine, …]`, or `run: [python3, mine.py, …]`, with a path in the bundle and no option."


class BadPlaceholderError(BadDocumentError):
    code = "bad-placeholder"
    meaning = "An argument of a command looks like a placeholder and is none."
    remedy = "Write `{inputs.NAME}` or `{outputs.NAME}`, with a name that the spec has."


class UseNotDeclaredError(BadDocumentError):
    code = "use-not-declared"
    meaning = "The workload names data, an input or an output that the spec does not have."
    remedy = "Declare it in that part of the spec; data that a command needs as files stand under `materialise` too."


class ParametersTooLargeError(BadDocumentError):
    code = "parameters-too-large"
    meaning = "The workload's parameters are larger than parameters need to be."
    remedy = f"Keep parameters below {MAX_PARAMETER_BYTES >> 10} KiB; put larger content into the bundle."


class SweepError(BadDocumentError):
    code = "sweep-refused"
    meaning = "A sweep asks for too many jobs, for none, or for a parameter that has a value already."
    remedy = f"List the values of each parameter once, for at most {MAX_SWEEP_JOBS} jobs in all."


class WheelsRef(Part):
    """The wheels that a bundle's lock lists, as signed."""

    lock: Digest
    size: Annotated[int, Field(ge=1, le=1 << 40)]
    """Of all wheels, in bytes."""


class BundleRef(Part):
    """A bundle as signed: which exact bytes."""

    digest: Digest
    size: Annotated[int, Field(ge=1, le=1 << 40)]
    """In bytes."""
    wheels: WheelsRef | None = None
    """Packages that it brings along; None where the runtime's are enough."""

    @property
    def to_approve(self) -> str:
        """What a code approval must cover: the code, and the lock of its wheels where it has any."""
        return what_is_approved(self.digest, self.wheels.lock if self.wheels else None)

    @property
    def whole_size(self) -> int:
        """Of code and wheels, in bytes."""
        return self.size + (self.wheels.size if self.wheels else 0)


def runs_on(workload: Any) -> str:
    """Name of the flavour that a workload runs on."""
    return getattr(workload, "runs_on", "base")


def what_is_approved(bundle: str, lock: str | None) -> str:
    """One word for code and the wheels that come along with it."""
    return bundle if lock is None else f"{bundle} with {lock}"


Scalar = str | int | float | bool


def _sweep(values: dict[str, tuple[Scalar, ...]]) -> dict[str, tuple[Scalar, ...]]:
    for swept in values.values():
        if not swept or len({(type(value), value) for value in swept}) != len(swept):
            fault(SweepError, "each parameter of a sweep has values, and each value once")
    if math.prod(len(swept) for swept in values.values()) > MAX_SWEEP_JOBS:
        fault(SweepError, f"a sweep makes at most {MAX_SWEEP_JOBS} jobs")
    return values


Sweep = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=100)], Items[Scalar]],
    AfterValidator(_sweep),
    Field(max_length=16),
]


def _flavour(name: str) -> str:
    if name not in flavours.FLAVOURS:
        fault(BadValueError, f"a flavour is one of {', '.join(flavours.FLAVOURS)}")
    return name


FlavourName = Annotated[
    str, AfterValidator(_flavour), Field(json_schema_extra={"enum": list(flavours.FLAVOURS)})
]


class _Common(Part):
    """What a workload of any kind has."""

    KIND: ClassVar[Kind]

    bundle: Any = None
    sweep: Sweep = Field(default_factory=dict)
    """Parameter → values: one job for each combination."""
    flavour: FlavourName | None = None
    """The set of packages that it runs on; absent, its kind's own."""

    @property
    def runs_on(self) -> str:
        """Name of the flavour that it runs on."""
        return self.flavour or self.KIND.flavour.name

    @model_validator(mode="after")
    def _keeps_the_rules_of_its_kind(self) -> _Common:
        own = {name: getattr(self, name) for name in self.KIND.own_fields()}
        for found in self.KIND.rules(self.KIND.fields(**own), self.bundle is not None):
            fault_of(found.code, found.sentence, found.field)
        if self.sweep.keys() & own.get("parameters", {}).keys():
            fault(SweepError, "a parameter is swept or has one value, not both")
        return self


def check_uses(spec: Any) -> None:
    """What a workload names of the other parts of its spec must be there."""
    kind = workloads.KINDS[spec.workload.kind]
    fields = kind.fields(**{name: getattr(spec.workload, name) for name in kind.own_fields()})
    for use in kind.uses(fields):
        if use.name not in getattr(spec, use.section):
            sentence = (
                f"workload.{use.field.replace('_', '-')} names {use.name}, which is not under {use.section}"
            )
            fault(UseNotDeclaredError, sentence)


def fault_of(code: str, sentence: str, field: str) -> None:
    """A fault that the catalogue names by its code: told at ``field`` of the part at hand."""
    raise PydanticCustomError(code, "{message}", {"message": sentence, "field": field})


class _Unknown(Part):
    """A workload of no kind that there is: its only fault is its kind."""

    model_config = ConfigDict(extra="ignore")

    kind: Annotated[str, AfterValidator(lambda text: _known(text))]


def _known(text: str) -> str:
    if text not in workloads.KINDS:
        fault(BadValueError, f"a kind of workload is one of {', '.join(workloads.KINDS)}")
    return text


def _taken_from_json(annotation: Any) -> Any:
    """A tuple of the catalogue is a list in JSON."""
    inner = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return Annotated[annotation, Field(strict=False)] if get_origin(inner) is tuple else annotation


def _model(kind: Kind, name: str, bundle: Any) -> Any:
    """The model of one kind, with its own fields beside those of all kinds."""
    annotations: dict[str, Any] = {
        "KIND": ClassVar[Kind],
        "kind": Literal[kind.name],
        "bundle": bundle | None,
    }
    values: dict[str, Any] = {"KIND": kind, "bundle": None}
    for field, (annotation, default) in kind.own_fields().items():
        annotations[field] = _taken_from_json(annotation)
        if default is not ...:
            values[field] = default
    for field, absent in (("builtin", None), ("entry", None), ("parameters", {})):
        if field not in annotations:
            # Whoever asks any workload for these learns that this kind has none.
            annotations[field], values[field] = ClassVar[Any], absent
    namespace = {
        "__annotations__": annotations,
        "__module__": __name__,
        "__qualname__": name,
        "__doc__": kind.summary,
    }
    made: Any = type(Part)
    return made(name, (_Common,), namespace | values)


def _tag(value: Any) -> str:
    name = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return class_step(name if isinstance(name, str) and name in workloads.KINDS else "")


def _any_of(title: str, bundle: Any) -> Any:
    models = (
        Annotated[_model(kind, f"{kind.name.capitalize()}{title}", bundle), Tag(class_step(kind.name))]
        for kind in workloads.KINDS.values()
    )
    unknown = Annotated[SkipJsonSchema[_Unknown], Tag(class_step(""))]
    return Annotated[Union[*models, unknown], Discriminator(_tag)]


Folder = Annotated[str, Field(min_length=1, max_length=1000)]
"""Of the researcher's code, relative to the spec."""

if TYPE_CHECKING:

    class _AnyKind(_Common):
        kind: str
        builtin: str | None
        entry: str | None
        parameters: dict[str, Any]

    class DraftWorkload(_AnyKind):
        bundle: str | None

    class Workload(_AnyKind):
        bundle: BundleRef | None

else:
    DraftWorkload = _any_of("DraftWorkload", Folder)
    Workload = _any_of("Workload", BundleRef)
