"""Columns of an output, and names of metrics, as a signed spec declares them before anybody has seen the data.

``checking/declared_columns.py`` holds cells against them.  Columns of a linked table, which a grant lets into a copy,
are ``documents/models/linked_columns.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic.json_schema import SkipJsonSchema

from hdrs_hpc.catalogue.outputs.checking import labels, numbers
from hdrs_hpc.catalogue.outputs.checking.declared_columns import ranges
from hdrs_hpc.core import vocabularies
from hdrs_hpc.core.errors import BadDocumentError
from hdrs_hpc.forms.document import Items, Part, class_step, fault
from hdrs_hpc.forms.words import Line, Versioned

MAX_COLUMNS = 100
MAX_VALUES = 200
MAX_STEPS = 10**15
"""Of a measure."""


class BadColumnError(BadDocumentError):
    code = "bad-column"
    meaning = "A column of a table or metrics lacks what its kind needs, or names a column that is not there."
    remedy = (
        "Write `{key: [CT, MR]}`, `{count: patients}`, `{measure: mean, from: 0, to: 9, step: 0.1, n: n_patients}` "
        "or `{derive: share, of: n_patients}`; `n` and `of` name a count of the same output."
    )


class UncountedTableError(BadDocumentError):
    code = "table-without-count"
    meaning = "Without the number of people behind each row nobody can tell whether a group is too small."
    remedy = "Add a column such as `n_patients: {count: patients}`."


Measure = Literal[
    "mean",
    "sd",
    "standard-error",
    "median",
    "quantile",
    "share",
    "rate",
    "ratio",
    "estimate",
    "confidence-limit",
    "p-value",
    "score",
    "loss",
    "size",
]
Number = Annotated[float, Field(ge=-1e15, le=1e15)]
Step = Annotated[float, Field(gt=0, le=1e15)]
ColumnName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_ .:%()/\[\]-]{0,63}$")]


class Grid(Part):
    """Evenly spaced numbers: years, epochs, thresholds, quantiles."""

    from_: Number
    to: Number
    step: Step

    @model_validator(mode="after")
    def _counted(self) -> Grid:
        if not self.from_ < self.to or (self.to - self.from_) / self.step > 10_000:
            fault(BadColumnError, "a grid goes up, in at most 10,000 steps")
        return self


def _known(name: str) -> str:
    if name not in vocabularies.BY_NAME:
        fault(BadColumnError, f"a vocabulary is one of {', '.join(vocabularies.BY_NAME)}")
    return name


def _rising(edges: tuple[float, ...]) -> tuple[float, ...]:
    if list(edges) != sorted(set(edges)):
        fault(BadColumnError, "the edges of ranges rise")
    return edges


class KeyValues(Part):
    """Where the values of a key come from when they are not listed; never from the data."""

    vocabulary: Annotated[Versioned, AfterValidator(_known)] | None = None
    grid: Grid | None = None
    ranges: (
        Annotated[Items[Number], Field(min_length=1, max_length=MAX_VALUES), AfterValidator(_rising)] | None
    ) = None
    """Edges: a cell is ``0 to 0.5``, from one edge to any later one, or ``10 and over``."""

    @model_validator(mode="after")
    def _one(self) -> KeyValues:
        if sum(value is not None for value in (self.vocabulary, self.grid, self.ranges)) != 1:
            fault(BadColumnError, "a key has values, or one of vocabulary, grid and ranges")
        return self


def _listed_or_not(value: Any) -> str:
    return class_step("mapping" if isinstance(value, dict | KeyValues) else "list")


class KeyColumn(Part):
    """Labels a row."""

    key: Annotated[
        Annotated[Items[Line], Field(min_length=1, max_length=MAX_VALUES), Tag(class_step("list"))]
        | Annotated[KeyValues, Tag(class_step("mapping"))],
        Discriminator(_listed_or_not),
    ]
    also: Annotated[Items[Line], Field(max_length=20)] = ()
    """Further values, such as TOTAL or UNKNOWN."""

    @model_validator(mode="after")
    def _pass(self) -> KeyColumn:
        """What the check of the output would refuse whatever the data are is refused before they are seen."""
        listed = [*self.also]
        if not isinstance(self.key, KeyValues):
            listed += self.key
        elif self.key.ranges:
            listed += ranges(self.key.ranges)
        gridded = isinstance(self.key, KeyValues) and self.key.grid is not None
        numeric = all(map(numbers.is_number, listed)) and (gridded or not isinstance(self.key, KeyValues))
        if not numeric and (
            gridded or not all(labels.is_plain(label) and labels.is_short(label) for label in listed)
        ):
            fault(
                BadColumnError,
                "a key is a few words, a range or a period, or all of a column's are numbers, as beside a grid",
            )
        return self


class CountColumn(Part):
    """Counts people or things of the inputs."""

    count: Line
    """What it counts, in words: ``patients``, or "patients with at least one scan"."""
    most: Annotated[int, Field(ge=1, le=10**11)] | None = None
    """The largest that it may be; never more than the inputs hold."""


class MeasureColumn(Part):
    """A number that measures something; it is rounded to its step."""

    measure: Measure
    from_: Number
    to: Number
    step: Step
    n: ColumnName | None = None
    """The count it rests on."""
    df: Annotated[int, Field(ge=1, le=10**11)] | None = None
    """Degrees of freedom, where it rests on no count of the output."""

    @model_validator(mode="after")
    def _rises(self) -> MeasureColumn:
        if not self.from_ < self.to or not 1 <= (self.to - self.from_) / self.step <= MAX_STEPS:
            fault(BadColumnError, "a measure goes from a lower to a higher number, in 1 to 10^15 steps")
        return self


class DeriveColumn(Part):
    """Computed by the broker from protected cells."""

    derive: Literal["total", "share", "complement", "curve"]
    of: ColumnName


class UnknownColumn(Part):
    """A column of no kind that there is."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _refuse(self) -> UnknownColumn:
        fault(BadColumnError, "a column has one of key, count, measure and derive")


_KINDS: dict[str, type[Part]] = {
    "key": KeyColumn,
    "count": CountColumn,
    "measure": MeasureColumn,
    "derive": DeriveColumn,
}


def _tag(value: Any) -> str:
    for name, model in _KINDS.items():
        if isinstance(value, model) or (isinstance(value, dict) and name in value):
            return class_step(name)
    return class_step("")


if TYPE_CHECKING:
    Column = KeyColumn | CountColumn | MeasureColumn | DeriveColumn
else:
    Column = Annotated[
        Union[  # made from a table
            *(Annotated[model, Tag(class_step(name))] for name, model in _KINDS.items()),
            Annotated[SkipJsonSchema[UnknownColumn], Tag(class_step(""))],
        ],
        Discriminator(_tag),
    ]


def _fit_together(columns: dict[str, Column]) -> dict[str, Column]:
    if len({name.casefold() for name in columns}) != len(columns):
        fault(BadColumnError, "two columns have one name")
    counts = {name for name, column in columns.items() if isinstance(column, CountColumn)}
    for name, column in columns.items():
        rests_on = (
            column.n
            if isinstance(column, MeasureColumn)
            else column.of
            if isinstance(column, DeriveColumn)
            else None
        )
        if rests_on is not None and rests_on not in counts:
            fault(BadColumnError, f"{name} rests on {rests_on}, which is no count here")
    return columns


Columns = Annotated[
    dict[ColumnName, Column], Field(min_length=1, max_length=MAX_COLUMNS), AfterValidator(_fit_together)
]


def names(columns: Mapping[str, Column], kind: type[Part]) -> tuple[str, ...]:
    """Columns of one kind, such as CountColumn."""
    return tuple(name for name, column in columns.items() if isinstance(column, kind))


def not_built(columns: Mapping[str, Column]) -> Iterator[str]:
    """Where columns ask for what this version does not do."""
    for name, column in columns.items():
        if isinstance(column, DeriveColumn):
            yield f"columns.{name}"
        elif isinstance(column, MeasureColumn) and column.df is not None:
            yield f"columns.{name}.df"
